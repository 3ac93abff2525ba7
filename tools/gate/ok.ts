/**
 * The gate: everything that has to hold before a change goes in. One line a step, the sums at the end.
 *
 * deno task ok [--skip NAME]… [--only NAME]…
 *
 * Beside Deno it needs Node 20 with npm; Bun and workerd come from npm at their first use (.cache/runtimes).
 *
 * @module
 */
import { DENO } from "../exec.ts";
import { packageSteps } from "./package.ts";
import { command, runSteps, type Step, testCommand } from "./steps.ts";

const ENTRIES = ["mod.ts", "edge.ts", "eval.ts", "fs.ts", "gpu.ts", "transformers.ts", "cli/main.ts"];

const steps: Step[] = [
  command("format", [DENO, "fmt", "--check"]),
  command("lint", [DENO, "lint"]),
  // Not all of the tree: asm/ is AssemblyScript, which asc checks; tests/runtimes/ imports the packed package.
  command("types", [DENO, "check", "--quiet", ...ENTRIES, "src", "cli", "tests/**/*.ts", "tools", "bench"]),
  command("documentation", [DENO, "doc", "--lint", ...ENTRIES]),
  testCommand("examples", [DENO, "test", "-A", "--doc", ...ENTRIES, "README.md"]),
  testCommand("tests", [DENO, "task", "test"]),
  command("kernels", [DENO, "run", "-A", "tools/build_wasm.ts", "--check"]),
  command("WebGPU kernels", [DENO, "run", "-A", "tools/build_wgsl.ts", "--check"]),
  command("CUDA kernels", [DENO, "run", "-A", "tools/build_cuda.ts", "--check"]),
  command("publish", [DENO, "publish", "--dry-run", "--allow-dirty"]),
  ...packageSteps(),
];

/** Values of a repeated option. */
function optionValues(name: string): string[] {
  return Deno.args.flatMap((word, i) => word === name ? [Deno.args[i + 1]] : []);
}

const skip = optionValues("--skip");
const only = optionValues("--only");
for (const name of [...skip, ...only]) {
  if (!steps.some((step) => step.name === name)) {
    console.error(`There is no step "${name}", expected one of: ${steps.map((step) => step.name).join(", ")}`);
    Deno.exit(2);
  }
}
const chosen = steps.filter(({ name }) => !skip.includes(name) && (only.length === 0 || only.includes(name)));
const { passed, failed } = await runSteps(chosen);
console.log(`gate: ${passed} passed, ${failed} failed`);
Deno.exit(failed === 0 ? 0 : 1);
