/**
 * Matrix products on a GPU in TFLOP/s (multiplications and additions of the product asked for), beside cuBLASLt on CUDA and a
 * public shader on WebGPU in the same run. One JSON line a measurement: the best of some rounds, as many as fit in
 * some seconds, but two at least.
 *
 *     deno run -A bench/gpu/gemm.ts cuda|webgpu [--shapes 5760x1024,32768x2048,32768x10000] [--tokens 256,2048]
 *         [--rounds 10] [--seconds 0.4]
 *
 * A shape is features × components. KVZ_CUBLASLT names cuBLASLt where the system does not find it.
 *
 * @module
 */
import { option } from "../inputs.ts";
import { namedDevice } from "./device_facts.ts";
import { cudaCases } from "./gemm_cuda.ts";
import { webgpuCases } from "./gemm_webgpu.ts";

/** A product to be timed. */
export interface GemmCase {
  /** For instance "project f16". */
  readonly what: string;
  /** "kvz", "cuBLASLt", … */
  readonly by: string;
  readonly flop: number;
  /** Milliseconds on the device. */
  readonly time: () => Promise<number>;
}

/** Sizes of a run. */
export interface GemmSizes {
  readonly tokens: number;
  readonly features: number;
  readonly components: number;
}

/** What a GPU has to time. */
export interface GemmBench {
  readonly device: string;
  cases(sizes: GemmSizes): AsyncGenerator<GemmCase>;
}

const name = Deno.args[0];
if (name !== "cuda" && name !== "webgpu") throw new Error(`Cannot bench "${name}": expected cuda or webgpu`);
const bench: GemmBench = name === "cuda" ? await cudaCases() : await webgpuCases();
const rounds = Number(option("rounds", "10"));
const seconds = Number(option("seconds", "0.4"));

for (const shape of option("shapes", "5760x1024,32768x2048,32768x10000").split(",")) {
  const [features, components] = shape.split("x").map(Number);
  for (const tokens of option("tokens", name === "cuda" ? "256,2048,8192" : "256,2048").split(",").map(Number)) {
    for await (const { what, by, flop, time } of bench.cases({ tokens, features, components })) {
      await time();
      let best = Infinity;
      const begin = performance.now();
      for (let round = 0; round < rounds; round++) {
        best = Math.min(best, await time());
        if (round > 0 && performance.now() - begin > seconds * 1000) break;
      }
      console.log(JSON.stringify({
        benchmark: "gemm",
        backend: name,
        ...namedDevice(bench.device),
        what,
        by,
        tokens,
        features,
        components,
        ms: Number(best.toPrecision(4)),
        tflops: Number((flop / best / 1e9).toPrecision(4)),
      }));
    }
  }
}
