/**
 * Compiles the AssemblyScript kernels: each module of asm/ in three builds (base, simd, relaxed), as base64 text in
 * src/backend/wasm/bytes/. `--check` compares with what is committed instead of writing.
 *
 * deno task wasm [--check]
 */
import asc from "assemblyscript/asc";

const MODULES = ["codec", "calibrate"];
const BUILDS: Record<string, string[]> = {
  base: [],
  simd: ["--enable", "simd"],
  relaxed: ["--enable", "simd", "--enable", "relaxed-simd"],
};
const OUT = "src/backend/wasm/bytes";

async function compile(module: string, flags: string[]): Promise<Uint8Array> {
  let wasm: Uint8Array | undefined;
  const { error, stderr } = await asc.main(
    // No runtime, no imports, no automatic vectorization: what is SIMD is written as SIMD.
    [
      `asm/${module}.ts`,
      "--outFile",
      "out.wasm",
      "--runtime",
      "stub",
      "--use",
      "abort=",
      "-O3",
      "--noAssert",
      ...flags,
    ],
    {
      readFile: (name: string) => {
        try {
          return Deno.readTextFileSync(name);
        } catch {
          return null;
        }
      },
      writeFile: (name: string, contents: Uint8Array) => {
        if (name.endsWith(".wasm")) wasm = contents;
      },
      listFiles: () => [],
    },
  );
  if (error || !wasm) throw new Error(`Cannot compile asm/${module}.ts: ${error?.message ?? "no output"}\n${stderr}`);
  return wasm;
}

function toSource(module: string, build: string, wasm: Uint8Array): string {
  const base64 = btoa(Array.from(wasm, (b) => String.fromCharCode(b)).join(""));
  return `// Made by \`deno task wasm\` from asm/${module}.ts (${build} build). Do not edit.\n` +
    `/** The module's bytes in base64. */\nexport const ${module}_${build}: string =\n  "${base64}";\n`;
}

const check = Deno.args.includes("--check");
const stale: string[] = [];
await Deno.mkdir(OUT, { recursive: true });
for (const module of MODULES) {
  for (const [build, flags] of Object.entries(BUILDS)) {
    const wasm = await compile(module, flags);
    const path = `${OUT}/${module}_${build}.ts`;
    const source = toSource(module, build, wasm);
    const committed = await Deno.readTextFile(path).catch(() => "");
    if (committed !== source) stale.push(path);
    if (!check) await Deno.writeTextFile(path, source);
    console.error(`${module} ${build}: ${wasm.length} bytes`);
  }
}
if (check && stale.length > 0) {
  console.error(`Not what the sources give (run deno task wasm and commit): ${stale.join(", ")}`);
  Deno.exit(1);
}
