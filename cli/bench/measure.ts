/**
 * Rates of a backend's kernels, beside those of copying and of its matrix product in the same run.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import { blockKernels, denseKernels, entropyKernels, groupKernels, integerKernels } from "./gpu_cases.ts";
import { netKernels, quantizerKernels } from "./host_cases.ts";
import { type Kernel, kernelsOf } from "./kernel_cases.ts";
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
  /** Of products: share of the fastest float product of this backend. */
  readonly ofProduct?: number;
}

/** The rates of a backend. */
export interface BackendRates {
  readonly backend: string;
  readonly build: string;
  readonly device?: string;
  readonly tokens: number;
  /** Copying within device memory, bytes read and written. */
  readonly copyGigabytesPerSecond: number;
  readonly kernels: readonly KernelRate[];
}

/**
 * Measures everything that a backend has; `seconds` is spent on each kernel, the best of five fifths counts. Default of
 * `tokens`: as many as fill the machine, a chunk on a core, many on a GPU.
 */
export async function measureBackend(backend: Backend, seconds: number, wanted?: number): Promise<BackendRates> {
  const gpu = backend.gpu !== null;
  const tokens = wanted ?? (backend.name === "reference" ? 8 : gpu ? 4096 : 256);
  const copyBytes = backend.name === "reference" ? 1 << 16 : gpu ? 1 << 27 : 1 << 24;
  const [from, to] = [backend.alloc(copyBytes), backend.alloc(copyBytes)];
  const copy: Kernel = { name: "copy", bytes: 2 * copyBytes, run: () => backend.copy(from, 0, to, 0, copyBytes) };
  const kernels = [
    copy,
    ...kernelsOf(backend, tokens),
    ...await entropyKernels(backend, tokens),
    ...integerKernels(backend, tokens),
    ...await trellisKernels(backend, tokens),
    ...denseKernels(backend, tokens),
    ...groupKernels(backend, tokens),
    ...blockKernels(backend, tokens),
    ...await netKernels(backend, tokens),
    ...await quantizerKernels(backend, tokens),
  ];
  const took: number[] = [];
  for (const { run } of kernels) took.push(await bestTime(backend, run, seconds));
  const copyRate = copy.bytes / took[0] / 1e9;
  const product = Math.max(
    ...kernels.map(({ name, flop }, i) => flop && name !== "integer product" ? flop / took[i] : 0),
  );
  const rates = kernels.map(({ name, bytes, flop }, i): KernelRate => {
    const rate = bytes / took[i] / 1e9;
    return {
      kernel: name,
      milliseconds: took[i] * 1e3,
      gigabytesPerSecond: rate,
      ofCopy: rate / copyRate,
      ...(flop ? { gigaOperationsPerSecond: flop / took[i] / 1e9, ofProduct: flop / took[i] / product } : {}),
    };
  });
  const { name, build } = backend;
  return { backend: name, build, tokens, copyGigabytesPerSecond: copyRate, kernels: rates.slice(1) };
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
  for (let i = 1; i < 5; i++) best = Math.min(best, await time(calls));
  word.free();
  return Math.max(best - waiting, 1e-9) / calls;
}
