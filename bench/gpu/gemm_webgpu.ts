/**
 * Products on WebGPU: our shaders with a basis of binary16 and with integers, and a public shader with binary32 operands.
 *
 * @module
 */
import { type DeviceBuffer, paddedLength } from "../../src/backend/backend.ts";
import { createWebGpuBackend } from "../../src/backend/webgpu/create.ts";
import { WebGpuInteger } from "../../src/backend/webgpu/integer.ts";
import { numberToF16 } from "../../src/cache/elements.ts";
import { PEER_TILE, peerMatmul } from "../peers/wgsl_matmul.ts";
import { integerBasis, repeat } from "./gemm_data.ts";
import type { GemmBench, GemmCase, GemmSizes } from "./gemm.ts";

/** Opens the device; times are its own where it has timestamps, else the host's, over several runs. */
export async function webgpuCases(): Promise<GemmBench> {
  const backend = await createWebGpuBackend();
  const { device } = backend;
  const random = Float32Array.from({ length: 1 << 20 }, () => Math.random() - 0.5);
  const halves = Uint16Array.from(random, numberToF16);

  function filled(elements: number): DeviceBuffer {
    const buffer = device.alloc(elements * 4);
    for (let at = 0; at < elements; at += random.length) {
      device.write(buffer, random.subarray(0, Math.min(random.length, elements - at)), at * 4);
    }
    return buffer;
  }

  /** The host's time from the first of some runs (60 milliseconds of them) to the end of the last, less that of none. */
  function timed(run: () => void, end: DeviceBuffer): () => Promise<number> {
    const measure = async (count: number) => {
      await device.read(end, 0, 4);
      const begin = performance.now();
      for (let i = 0; i < count; i++) run();
      await device.read(end, 0, 4);
      return performance.now() - begin;
    };
    let runs = 0;
    return async () => {
      if (runs === 0) {
        await measure(1);
        runs = Math.max(1, Math.min(50, Math.floor(60 / await measure(1))));
      }
      const none = await measure(0);
      return Math.max(1e-6, await measure(runs) - none) / runs;
    };
  }

  async function* cases({ tokens, features, components }: GemmSizes): AsyncGenerator<GemmCase> {
    const flop = 2 * tokens * features * components;
    const most = Math.max(features, components);
    const x = filled(tokens * most);
    const out = device.alloc(tokens * most * 4);
    const basis = backend.uploadBasis(repeat(new Uint16Array(components * features), halves), components, features);
    const of = (what: string, by: string, run: () => void) => ({ what, by, flop, time: timed(run, out) });
    yield of("project", "kvz", () => backend.project(x, tokens, basis, out));
    yield of("reconstruct", "kvz", () => backend.reconstruct(x, tokens, basis, 0, features, out));
    basis.free();
    const fits = [tokens, features, components].every((size) => size % PEER_TILE === 0) &&
      Math.max(components * features, tokens * most) * 4 <= device.mostBytes;
    if (fits) {
      const b = filled(components * features);
      for (const [what, n, k] of [["project", components, features], ["reconstruct", features, components]] as const) {
        yield of(what, "TensorFlow.js's shader, f32", () =>
          device.dispatch({
            shader: peerMatmul,
            entry: "main",
            buffers: [x, b, out],
            uniforms: Uint32Array.of(tokens, n / 4, k / 4, 0),
            workgroups: [n / PEER_TILE, tokens / PEER_TILE, 1],
          }));
      }
      b.free();
    }
    if (components <= 4096) yield* integer(tokens, features, components, x, out, of);
    for (const buffer of [x, out]) buffer.free();
  }

  async function* integer(
    tokens: number,
    features: number,
    components: number,
    levels: DeviceBuffer,
    sums: DeviceBuffer,
    of: (what: string, by: string, run: () => void) => GemmCase,
  ): AsyncGenerator<GemmCase> {
    const stride = Math.ceil(components / 16) * 16;
    const values = integerBasis(components * features);
    const both = [true, false].map((packed) => {
      const kernels = new WebGpuInteger(device, packed);
      const by = packed ? "kvz" : "kvz without dot4I8Packed";
      return { kernels, basis: kernels.uploadBasis(values, components, features), by };
    });
    for (const [what, most] of [["low bytes", 127], ["both bytes", 32639]] as const) {
      const part = Int16Array.from(random, (value) => value * 2 * most);
      const elements = tokens * stride;
      for (let at = 0; at < elements; at += part.length) {
        device.write(levels, part.subarray(0, Math.min(part.length, elements - at)), at * 2);
      }
      for (const { kernels, basis, by } of both) {
        yield of(`integer multiply, ${what}`, by, () => {
          kernels.multiply(basis, levels, stride, tokens, 0, features, sums);
        });
      }
    }
    for (const { basis } of both) basis.free();
    const kernels = new WebGpuInteger(device);
    const shape = { dtype: "f16", blocks: features / 64, tokens, dim: 64, rotaryDim: 64 } as const;
    const dst = device.alloc(tokens * paddedLength(features) * 2);
    const [rotation, mean, scales, tokenScales] = [tokens * 64, features, features, tokens].map(filled);
    const run = () => kernels.scatterSums(sums, shape, scales, tokenScales, rotation, mean, dst);
    const bytes = tokens * features * 6;
    yield { what: "scatterSums, TB/s", by: "kvz", flop: bytes, time: timed(run, dst) };
    for (const buffer of [dst, rotation, mean, scales, tokenScales]) buffer.free();
  }

  return { device: backend.adapter, cases };
}
