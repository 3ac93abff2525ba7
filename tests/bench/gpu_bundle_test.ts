/**
 * What runs on a machine with a GPU runs here on the emulator of CUDA and on a software adapter, at small sizes: the bundle is
 * made, its script runs, and each benchmark prints what the verdicts need.
 */
import { assert, assertEquals, assertStringIncludes } from "deno-std/assert";
import type { Result } from "../../bench/gpu/verdicts_of.ts";
import { createBackend } from "../../src/backend/select.ts";
import { buildCublasLt, buildEmulator } from "../../tools/build_cuda_emulator.ts";
import { DENO, run } from "../../tools/exec.ts";

const REQUIRED = (Deno.env.get("KVZ_REQUIRE") ?? "").split(",");

/** What a backend needs, or null where it is absent and need not be there. */
async function present<T>(name: string, find: () => Promise<T>): Promise<T | null> {
  try {
    return await find();
  } catch (error) {
    if (REQUIRED.includes(name)) throw error;
    console.error(`Benchmarks of ${name} are left out: ${(error as Error).message}`);
    return null;
  }
}

const cuda = await present("cuda", async () => [await buildEmulator(), await buildCublasLt()]);
const webgpu = await present("webgpu", async () => {
  (await createBackend({ backend: "webgpu" }))[Symbol.dispose]();
  return true;
});
const steps = [
  ...(cuda === null ? [] : ["table5_nemo", "entropy_cuda", "elementwise_cuda", "driver"]),
  ...(webgpu === null ? [] : ["entropy_webgpu", "elementwise_webgpu", "gemm_webgpu", "codec_webgpu"]),
];

/** Lines of a step's file that are a benchmark's. */
async function lines(folder: string, step: string): Promise<Result[]> {
  const text = await Deno.readTextFile(`${folder}/${step}`);
  return text.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
}

function requireNumbers(of: Result, ...names: string[]): void {
  for (const name of names) {
    const value = name.split(".").reduce<unknown>((inner, key) => (inner as Result)?.[key], of);
    assert(typeof value === "number" && Number.isFinite(value), `${of.benchmark}: ${name} is ${value}`);
  }
}

Deno.test(
  { name: "the bundle for a GPU runs here, and its verdicts have all they need", ignore: steps.length === 0 },
  async () => {
    const folder = await Deno.makeTempDir();
    try {
      const root = new URL("../../", import.meta.url).pathname;
      await run([DENO, "run", "-A", "tools/gpu/bundle.ts", "-o", folder, "--light", "--no-tests"], { cwd: root });
      const out = `${folder}/results`;
      const env = {
        ...{ SMALL: "1", OUT: out, DENO },
        ...(cuda === null ? {} : { KVZ_CUDA_LIBRARY: cuda[0], KVZ_CUBLASLT: cuda[1] }),
      };
      const { out: printed } = await run(["bash", `${folder}/run.sh`, ...steps], { env });
      assert(!/exit code/.test(printed), printed);
      if (cuda !== null) {
        const points = await lines(out, "table5_nemo");
        assertEquals(points.map(({ components }) => components), ["40", "dp"]);
        assertEquals(points[0].kept, [40, 40]);
        for (const point of points) {
          assertEquals([point.benchmark, point.device, point.software], ["table5", "emulated", true]);
          assertEquals([point.products.by, point.products.reason], ["cuBLASLt", null]);
          requireNumbers(point, "ratioBeforeEntropy", "ratio", "cacheBytes", "deviceBytes");
          for (const way of ["compress", "decompress"]) {
            requireNumbers(
              point,
              `goals.${way}.milliseconds`,
              `goals.${way}.ofProducts`,
              `goals.${way}.boundMilliseconds`,
            );
            assertEquals(point.goals[way].withinBound, null);
          }
          requireNumbers(point, "products.projectMilliseconds", "products.reconstructMilliseconds");
        }
        assertStringIncludes(await Deno.readTextFile(`${out}/driver`), "0 failed");
      }
      for (const step of steps) {
        const [first, ...rest] = await lines(out, step);
        if (/^(entropy|elementwise)_/.test(step)) {
          assertEquals([first.benchmark, first.copyBy], ["copy", step.endsWith("cuda") ? "driver" : "shader"]);
          requireNumbers(first, "copyGigabytesPerSecond", "copyMebibytes");
          assert(rest.length >= 3);
        }
        for (const line of rest) {
          if (step.startsWith("entropy")) {
            requireNumbers(
              line,
              "mebibytes",
              "encode.gigabytesPerSecond",
              "decode.gigabytesPerSecond",
              "decode.ofCopy",
            );
          }
          if (step.startsWith("elementwise")) requireNumbers(line, "ms", "gigabytesPerSecond", "ofCopy");
        }
      }
      if (webgpu !== null) {
        const products = await lines(out, "gemm_webgpu");
        assert(products.some(({ by }) => by === "kvz") && products.some(({ by }) => by.startsWith("TensorFlow.js")));
        const calls = await lines(out, "codec_webgpu");
        assertEquals(calls.map(({ recipe }) => recipe), ["kvtc", "kvz"]);
        for (const call of calls) {
          for (const way of ["compress", "restore"]) {
            requireNumbers(
              call,
              `${way}.milliseconds`,
              `${way}.kernelMilliseconds`,
            );
          }
          assert(call.error < 0.5, `the error is ${call.error}`);
        }
      }
      const table = await Deno.readTextFile(`${out}/verdicts.md`);
      assertStringIncludes(printed, table.trim());
      // A processor that plays a GPU is held to nothing.
      assert(!/holds|does not hold/.test(table));
      const measured = (what: string) =>
        assert(new RegExp(`\\| ${what} .*\\| [^|]*\\d`).test(table), `${what}\n${table}`);
      if (cuda !== null) ["quantize", "nemo-12b, 512 tokens, 40 and 40 components, compress"].forEach(measured);
      if (webgpu !== null) {
        ["kernels without products", "rANS decode", "product"].forEach((what) => measured(`WebGPU: ${what}`));
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
);
