/**
 * Makes a folder with everything that has to run on a machine with a GPU, for one that has Deno and nothing else: the
 * backends' tests and the benchmarks as single files, the samples, and a script that runs them all.
 *
 *     deno run -A tools/gpu/bundle.ts -o FOLDER [--light] [--no-tests]
 *     (there) OUT=results DENO=/path/to/deno bash FOLDER/run.sh
 *
 * `--light` leaves the large profile for kvtc out, which the benchmark of restoring then does without; `--no-tests` all tests
 * but those of the CUDA driver.
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
/** Tests that the emulator's settings and counters are made for; on a real driver others stand for these. */
const DRIVER_TESTS = ["tests/backend/cuda/device_test.ts", "tests/backend/cuda/faults_test.ts"];
const EMULATOR = '"./emulator.ts"';
const HARDWARE = '"../../../tools/gpu/hardware_driver.ts"';
const BENCHES = [
  "bench/gpu/table5.ts",
  "bench/gpu/gemm.ts",
  "bench/gpu/entropy.ts",
  "bench/gpu/elementwise.ts",
  "bench/gpu/codec.ts",
  "bench/gpu/kvz.ts",
  "bench/gpu/restore.ts",
  "bench/gpu/verdicts.ts",
];
const SAMPLES = [
  "samples/smollm2-256.safetensors",
  "samples/smollm2-kvz.kvzp",
  ...(LIGHT ? [] : ["samples/smollm2-demo.kvzp"]),
];

const at = Deno.args.indexOf("-o");
const folder = Deno.args[at + 1];
if (at < 0 || folder === undefined) {
  console.error("usage: deno run -A tools/gpu/bundle.ts -o FOLDER [--light] [--no-tests]");
  Deno.exit(2);
}
await Deno.mkdir(`${folder}/samples`, { recursive: true });

async function bundle(entry: string, name: string): Promise<void> {
  const args = ["bundle", "--quiet", "--platform", "deno", "-o", `${folder}/${name}.js`, entry];
  const { code } = await new Deno.Command(DENO, { args, stdout: "inherit", stderr: "inherit" }).output();
  if (code !== 0) throw new Error(`Cannot bundle ${entry}`);
}

/** Bundles files that are written for it, the first of them the entry, and takes them away again. */
async function bundleWritten(files: readonly (readonly [path: string, text: string])[], name: string): Promise<void> {
  try {
    for (const [path, text] of files) await Deno.writeTextFile(path, text);
    await bundle(files[0][0], name);
  } finally {
    for (const [path] of files) await Deno.remove(path).catch(() => {});
  }
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
// Several may run at once.
const unique = crypto.randomUUID().slice(0, 8);
const withTests = !Deno.args.includes("--no-tests");
if (withTests) {
  const imports = tests.sort().map((test) => `import "./${test}";\n`).join("");
  await bundleWritten([[`gpu_tests.${unique}.tmp.ts`, imports]], "tests");
}
const copies: [string, string][] = [];
for (const test of DRIVER_TESTS) {
  const text = await Deno.readTextFile(test);
  if (!text.includes(EMULATOR)) throw new Error(`Cannot bundle ${test}: it does not import ${EMULATOR}`);
  copies.push([test.replace(/ts$/, `${unique}.tmp.ts`), text.replaceAll(EMULATOR, HARDWARE)]);
}
const last = `import { registerLast } from "./tools/gpu/hardware_driver.ts";\nregisterLast();\n`;
const entry = copies.map(([path]) => `import "./${path}";\n`).join("") + last;
await bundleWritten([[`driver_tests.${unique}.tmp.ts`, entry], ...copies], "driver_tests");
for (const bench of BENCHES) await bundle(bench, bench.replace(/.*\/|\.ts$/g, ""));
await bundle("cli/main.ts", "kvz_cli");
for (const sample of SAMPLES) await Deno.copyFile(sample, `${folder}/${sample}`);
await Deno.copyFile("tools/gpu/run.sh", `${folder}/run.sh`);
console.error(`${folder}: ${(withTests ? tests.length : 0) + copies.length} test files, ${BENCHES.length} benchmarks`);
