/**
 * Rates of a backend's kernels, beside those of copying and of its matrix product in the same run.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import type { WebGpuBackend } from "../../src/backend/webgpu/webgpu_backend.ts";
import { dispatchCopy } from "./copy_shader.ts";
import { cudaKernels, nominalPeak } from "./cuda_cases.ts";
import { entropyKernels, huffmanKernels } from "./entropy_cases.ts";
import { blockKernels, denseKernels, groupKernels, integerKernels, memoryKernels, streamKernels } from "./gpu_cases.ts";
import { netKernels, quantizerKernels } from "./host_cases.ts";
import { coderKernels } from "./host_coders.ts";
import { kernelsOf } from "./kernel_cases.ts";
import type { Kernel } from "./operands.ts";
import { shapeKernels } from "./shape_cases.ts";
import { trellisKernels } from "./trellis_cases.ts";

/** A kernel's rate. */
export interface KernelRate {
  readonly kernel: string;
  readonly milliseconds: number;
  readonly gigabytesPerSecond: number;
  /** Share of the rate of copying (bytes read and written), 0 to 1. */
  readonly ofCopy: number;
  /** Of products: 10^9 operations a second, two for a multiply-add. */
  readonly gigaOperationsPerSecond?: number;
  /** Of products: share of {@linkcode BackendRates.product}. */
  readonly ofProduct?: number;
}

/** The rates of a backend. */
export interface BackendRates {
  readonly backend: string;
  readonly build: string;
  readonly device?: string;
  readonly tokens: number;
  /** Copying within device memory, bytes read and written; on WebGPU by a shader. */
  readonly copyGigabytesPerSecond: number;
  /** What products are measured against: cuBLASLt's faster one where it is present, else the fastest of floats here. */
  readonly product: { readonly kernel: string; readonly gigaOperationsPerSecond: number };
  /** What the tensor cores have by their number and clock, where that is known. */
  readonly peakGigaOperationsPerSecond?: number;
  readonly kernels: readonly KernelRate[];
}

/** All that a backend has, on so many tokens. */
export async function casesOf(backend: Backend, tokens: number): Promise<Kernel[]> {
  return [
    ...kernelsOf(backend, tokens),
    ...shapeKernels(backend, tokens),
    ...memoryKernels(backend, tokens),
    ...streamKernels(backend, tokens),
    ...await entropyKernels(backend, tokens),
    ...huffmanKernels(backend, tokens),
    ...integerKernels(backend, tokens),
    ...await trellisKernels(backend, tokens),
    ...denseKernels(backend, tokens),
    ...groupKernels(backend, tokens),
    ...blockKernels(backend, tokens),
    ...await cudaKernels(backend, tokens),
    ...await coderKernels(backend, tokens),
    ...await netKernels(backend, tokens),
    ...await quantizerKernels(backend, tokens),
  ];
}

/**
 * Measures everything that a backend has; `seconds` is spent on each kernel, the best of five fifths counts (a call that
 * takes longer counts by itself). Default of `tokens`: as many as fill the machine, a chunk on a core, many on a GPU.
 */
export async function measureBackend(backend: Backend, seconds: number, wanted?: number): Promise<BackendRates> {
  const gpu = backend.gpu !== null;
  const tokens = wanted ?? (backend.name === "reference" ? 8 : gpu ? 4096 : 256);
  const copy = copyKernel(backend);
  const kernels = [copy, ...await casesOf(backend, tokens)];
  const took: number[] = [];
  for (const { run } of kernels) took.push(await bestTime(backend, run, seconds));
  const copyRate = copy.bytes / took[0] / 1e9;
  const operations = kernels.map(({ flop }, i) => flop ? flop / took[i] / 1e9 : 0);
  const limit = limitOf(kernels, operations);
  const rates = kernels.map(({ name, bytes, flop }, i): KernelRate => {
    const rate = bytes / took[i] / 1e9;
    return {
      kernel: name,
      milliseconds: took[i] * 1e3,
      gigabytesPerSecond: rate,
      ofCopy: rate / copyRate,
      ...(flop ? { gigaOperationsPerSecond: operations[i], ofProduct: operations[i] / operations[limit] } : {}),
    };
  });
  const { name, build } = backend;
  const device = deviceName(backend);
  const peak = nominalPeak(backend);
  return {
    backend: name,
    build,
    ...(device === "" ? {} : { device }),
    tokens,
    copyGigabytesPerSecond: copyRate,
    product: { kernel: kernels[limit].name, gigaOperationsPerSecond: operations[limit] },
    ...(peak === null ? {} : { peakGigaOperationsPerSecond: peak }),
    kernels: rates.slice(1),
  };
}

/** Copying of more than caches hold; on WebGPU by a shader, as its kernels read and write. */
function copyKernel(backend: Backend): Kernel {
  const webgpu = backend.name === "webgpu" ? backend as WebGpuBackend : null;
  const wanted = backend.name === "reference" ? 1 << 16 : backend.gpu !== null ? 1 << 27 : 1 << 24;
  const bytes = Math.min(wanted, webgpu === null ? Infinity : Math.floor(webgpu.device.mostBytes / 16) * 16);
  const [from, to] = [backend.alloc(bytes), backend.alloc(bytes)];
  const run = () => webgpu === null ? backend.copy(from, 0, to, 0, bytes) : dispatchCopy(webgpu, from, to);
  return { name: "copy", bytes: 2 * bytes, run };
}

/** What a GPU is called; "" where that is hidden, and of the host. */
function deviceName(backend: Backend): string {
  const { adapter = "", device } = backend as { adapter?: string; device?: { facts?: { name: string } } };
  return backend.gpu === null ? "" : device?.facts?.name ?? adapter;
}

/** The product that the others are measured against. */
export function limitOf(
  kernels: readonly Pick<Kernel, "name" | "limit">[],
  operations: readonly number[],
): number {
  const given = kernels.some(({ limit }) => limit);
  let best = 0;
  kernels.forEach(({ name, limit }, i) => {
    const counts = given ? limit : name !== "integer product";
    if (counts && operations[i] > operations[best]) best = i;
  });
  return best;
}

/** Seconds of a call: calls are enqueued, a read waits for them; what reading alone takes is taken off. */
async function bestTime(backend: Backend, run: () => void, seconds: number): Promise<number> {
  const word = backend.alloc(16);
  const time = async (calls: number) => {
    const begin = performance.now();
    for (let i = 0; i < calls; i++) run();
    await backend.read(word, 0, 4);
    return (performance.now() - begin) / 1e3;
  };
  await time(1);
  let waiting = Infinity;
  for (let i = 0; i < 5; i++) waiting = Math.min(waiting, await time(0));
  let calls = 1;
  let took = await time(calls);
  // So many that waiting is small beside them.
  while (took < seconds / 5 && calls < 1 << 20) {
    calls = Math.min(calls * 4, Math.ceil(calls * seconds / 4 / took));
    took = await time(calls);
  }
  let best = took;
  for (let i = 1, spent = took; i < 5 && spent < seconds; i++) {
    took = await time(calls);
    spent += took;
    best = Math.min(best, took);
  }
  word.free();
  return Math.max(best - waiting, 1e-9) / calls;
}
