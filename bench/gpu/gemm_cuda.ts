/**
 * Products on CUDA: our kernels with binary16, binary32 and integer operands, cuBLASLt with binary16, and the fused calls
 * with their gather and scatter.
 *
 * @module
 */
import { type DeviceBuffer, paddedLength } from "../../src/backend/backend.ts";
import { CudaBackend } from "../../src/backend/cuda/cuda_backend.ts";
import { CublasLt } from "../../src/backend/cuda/cublaslt.ts";
import { CudaDevice } from "../../src/backend/cuda/device.ts";
import { CudaGemm, type Order, type Product } from "../../src/backend/cuda/gemm.ts";
import { CudaInteger } from "../../src/backend/cuda/integer.ts";
import { numberToF16 } from "../../src/cache/elements.ts";
import { integerBasis, repeat } from "./gemm_data.ts";
import type { GemmBench, GemmCase, GemmSizes } from "./gemm.ts";

/** Elements of random numbers that fill buffers, again and again. */
const RANDOM = 1 << 20;

/** Opens the device, and cuBLASLt where it is. */
export async function cudaCases(): Promise<GemmBench> {
  const device = await CudaDevice.open();
  const cublas = await CublasLt.open(device, 0);
  if (cublas === null) {
    console.error("There is no cuBLASLt here: KVZ_CUBLASLT names none, nor does the system find one");
  }
  const values = Float32Array.from({ length: RANDOM }, () => Math.random() - 0.5);
  const halves = Uint16Array.from(values, (value) => numberToF16(value * 0.1));

  /** A buffer of so many elements of a pattern. */
  function filled(pattern: Uint16Array | Float32Array | Int16Array, elements: number): DeviceBuffer {
    const bytes = elements * pattern.BYTES_PER_ELEMENT;
    const buffer = device.alloc(bytes);
    device.write(buffer, pattern.subarray(0, Math.min(elements, RANDOM)));
    for (let done = Math.min(elements, RANDOM) * pattern.BYTES_PER_ELEMENT; done < bytes; done *= 2) {
      device.copy(buffer, 0, buffer, done, Math.min(done, bytes - done));
    }
    return buffer;
  }

  /** The first numbers of a result. */
  async function firstFloats(of: DeviceBuffer, most: number): Promise<Float32Array> {
    return new Float32Array((await device.read(of, 0, 4 * Math.min(most, 1 << 16))).buffer);
  }

  /** Times some runs at once, so that the time to launch does not count. */
  function timed(run: () => void, flop: number): () => Promise<number> {
    const runs = Math.max(1, Math.min(20, Math.floor(2e12 / flop)));
    return async () => {
      const all = await device.time(() => {
        for (let i = 0; i < runs; i++) run();
      });
      return all / runs;
    };
  }

  async function* cases({ tokens: m, features, components }: GemmSizes): AsyncGenerator<GemmCase> {
    const flop = 2 * m * features * components;
    const of = (what: string, by: string, run: () => void) => ({ what, by, flop, time: timed(run, flop) });
    const basis = filled(halves, components * features);
    const wide = filled(values, m * Math.max(features, components));
    const out = device.alloc(m * Math.max(features, components) * 4);
    const b = { b: device.address(basis), ldb: features };
    const products: readonly (readonly [string, Order, Product])[] = [
      ["project", "ByRows", { a: wide, lda: features, ...b, c: out, m, n: components, k: features, limit: components }],
      ["reconstruct", "ByColumns", {
        a: wide,
        lda: components,
        ...b,
        c: out,
        m,
        n: features,
        k: components,
        limit: features,
      }],
    ];
    const own = new CudaGemm(device, null);
    for (const [what, order, product] of products) {
      const narrow = filled(halves, m * product.lda);
      const half = { ...product, a: narrow };
      yield of(`${what} f16`, "kvz", () => own.halves(order, half, 1));
      if (cublas !== null) {
        const wanted = await firstFloats(out, m * product.n);
        yield of(`${what} f16`, "cuBLASLt", () => {
          if (!cublas.multiply(order === "ByRows", half, 1)) throw new Error("cuBLASLt has no algorithm");
        });
        const found = await firstFloats(out, m * product.n);
        const largest = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        const worst = wanted.reduce((most, value, i) => Math.max(most, Math.abs(value - found[i])), 0);
        // Both sum in binary32; a wrong layout differs by as much as the numbers themselves.
        if (!(worst < largest * 1e-3)) {
          throw new Error(`cuBLASLt's ${what} differs from ours by ${worst} of ${largest}`);
        }
      }
      narrow.free();
      yield of(`${what} f32`, "kvz", () => own.floats(order, product));
    }
    for (const buffer of [basis, wide, out]) buffer.free();
    yield* fused(m, features, components, flop);
    if (components <= 4096) yield* integer(m, features, components, flop);
  }

  /** Elements of binary16 in heads of 64, with rotation and mean. */
  async function* fused(tokens: number, features: number, components: number, flop: number): AsyncGenerator<GemmCase> {
    for (const [by, library] of [["kvz", null], ["kvz with cuBLASLt", cublas]] as const) {
      if (by !== "kvz" && library === null) continue;
      const backend = new CudaBackend(device, library);
      const shape = { dtype: "f16", blocks: features / 64, tokens, dim: 64, rotaryDim: 64 } as const;
      const rows = repeat(new Uint16Array(components * features), halves);
      const basis = backend.uploadBasis(rows, components, features);
      const source = filled(halves, tokens * features);
      const [rotation, mean] = [filled(values, tokens * 64), filled(values, features)];
      const coefficients = device.alloc(tokens * paddedLength(components) * 4);
      yield {
        what: "gatherProject",
        by,
        flop,
        time: timed(() => backend.gatherProject(source, shape, rotation, mean, basis, coefficients), flop),
      };
      yield {
        what: "reconstructScatter",
        by,
        flop,
        time: timed(() => backend.reconstructScatter(coefficients, basis, 0, shape, rotation, mean, source), flop),
      };
      for (const buffer of [basis, source, rotation, mean, coefficients]) buffer.free();
    }
  }

  /** Levels of one byte, and of two. */
  async function* integer(
    tokens: number,
    features: number,
    components: number,
    flop: number,
  ): AsyncGenerator<GemmCase> {
    const kernels = new CudaInteger(device);
    const basis = kernels.uploadBasis(integerBasis(components * features), components, features);
    const stride = Math.ceil(components / 16) * 16;
    const sums = device.alloc(tokens * paddedLength(features) * 4);
    for (const [what, most] of [["low bytes", 127], ["both bytes", 32639]] as const) {
      const levels = filled(Int16Array.from(values, (value) => value * 2 * most), tokens * stride);
      yield {
        what: `integer multiply, ${what}`,
        by: "kvz",
        flop,
        time: timed(() => kernels.multiply(basis, levels, stride, tokens, 0, features, sums), flop),
      };
      levels.free();
    }
    const shape = { dtype: "f16", blocks: features / 64, tokens, dim: 64, rotaryDim: 64 } as const;
    const dst = device.alloc(tokens * features * 2);
    const [rotation, mean] = [filled(values, tokens * 64), filled(values, features)];
    const [scales, tokenScales] = [filled(values, features), filled(values, tokens)];
    // Bytes in the place of operations: "tflops" is TB/s.
    const bytes = tokens * features * 6;
    yield {
      what: "scatterSums, TB/s",
      by: "kvz",
      flop: bytes,
      time: timed(() => kernels.scatterSums(sums, shape, scales, tokenScales, rotation, mean, dst), flop),
    };
    yield {
      what: "copy of the sums, TB/s",
      by: "driver",
      flop: 2 * sums.byteLength,
      time: () => {
        const to = device.alloc(sums.byteLength);
        const time = device.time(() => device.copy(sums, 0, to, 0, sums.byteLength));
        to.free();
        return time;
      },
    };
    for (const buffer of [basis, sums, dst, rotation, mean, scales, tokenScales]) buffer.free();
  }

  return { device: device.facts.name, cases };
}
