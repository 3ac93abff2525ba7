/**
 * Makes a folder with everything that has to run on a machine with a GPU, for one that has Deno and nothing else: the
 * backends' tests and the benchmarks as single files, the samples, and a script that runs them all.
 *
 *     deno run -A tools/gpu/bundle.ts -o FOLDER [--light]
 *     (there) OUT=results DENO=/path/to/deno bash FOLDER/run.sh
 *
 * `--light` leaves the large profile for kvtc out, which the benchmark of restoring then does without.
 *
 * @module
 */
import { DENO } from "../exec.ts";

/** Tests of kernels and coders on every backend, and of recipes on GPUs. */
const TESTS = ["tests/backend", "tests/stages", "tests/stages/trellis"];
const LIGHT = Deno.args.includes("--light");
const MORE_TESTS = [
  ...["kvz_gpu", "kvtc_gpu", "tensor_gpu", "damage_gpu", "kvz_golden", "golden", "rans_batches", "coded_attention"],
  // Reads the large profile.
  ...(LIGHT ? [] : ["kvtc_rans"]),
].map((name) => `tests/codec/${name}_test.ts`);
/** Golden files that tests read from beside them. */
const GOLDEN = "tests/codec/kvz_golden";
/** Tests of the host alone, or that need the repository around them. */
const LEFT_OUT = /select_test|lossless|allocate_test|row_classes_test|gain_test|rans_tables_test/;
const BENCHES = [
  "bench/gpu/table5.ts",
  "bench/gpu/gemm.ts",
  "bench/gpu/entropy.ts",
  "bench/gpu/kvz.ts",
  "bench/gpu/restore.ts",
];
const SAMPLES = [
  "samples/smollm2-256.safetensors",
  "samples/smollm2-kvz.kvzp",
  ...(LIGHT ? [] : ["samples/smollm2-demo.kvzp"]),
];

const at = Deno.args.indexOf("-o");
const folder = Deno.args[at + 1];
if (at < 0 || folder === undefined) {
  console.error("usage: deno run -A tools/gpu/bundle.ts -o FOLDER [--light]");
  Deno.exit(2);
}
await Deno.mkdir(`${folder}/samples`, { recursive: true });

async function bundle(entry: string, name: string): Promise<void> {
  const args = ["bundle", "--quiet", "--platform", "deno", "-o", `${folder}/${name}.js`, entry];
  const { code } = await new Deno.Command(DENO, { args, stdout: "inherit", stderr: "inherit" }).output();
  if (code !== 0) throw new Error(`Cannot bundle ${entry}`);
}

const tests = [...MORE_TESTS];
for (const directory of TESTS) {
  for await (const { name, isFile } of Deno.readDir(directory)) {
    if (isFile && name.endsWith("_test.ts") && !LEFT_OUT.test(name)) tests.push(`${directory}/${name}`);
    // Golden vectors that tests read from beside them.
    if (isFile && name.endsWith(".json")) await Deno.copyFile(`${directory}/${name}`, `${folder}/${name}`);
  }
}
await Deno.mkdir(`${folder}/kvz_golden`, { recursive: true });
for await (const { name } of Deno.readDir(GOLDEN)) {
  await Deno.copyFile(`${GOLDEN}/${name}`, `${folder}/kvz_golden/${name}`);
}
const all = "gpu_tests.tmp.ts";
await Deno.writeTextFile(all, tests.sort().map((test) => `import "./${test}";\n`).join(""));
try {
  await bundle(all, "tests");
} finally {
  await Deno.remove(all);
}
for (const bench of BENCHES) await bundle(bench, bench.replace(/.*\/|\.ts$/g, ""));
await bundle("cli/main.ts", "kvz_cli");
for (const sample of SAMPLES) await Deno.copyFile(sample, `${folder}/${sample}`);
await Deno.copyFile("tools/gpu/run.sh", `${folder}/run.sh`);
console.error(`${folder}: ${tests.length} test files, ${BENCHES.length} benchmarks`);
