/**
 * The products of a Table 5 point by themselves, for all sequences and both kinds: by cuBLASLt where it is present, else by
 * our own kernels. Operands are binary16 and sums binary32.
 *
 * @module
 */
import { type Backend, type DeviceBasis, paddedLength } from "../../src/backend/backend.ts";
import type { CudaBasis } from "../../src/backend/cuda/basis.ts";
import { CudaBackend } from "../../src/backend/cuda/cuda_backend.ts";
import { CublasLt } from "../../src/backend/cuda/cublaslt.ts";
import { CudaGemm } from "../../src/backend/cuda/gemm.ts";
import { withScratch } from "../../src/stages/scratch.ts";
import { fillWith, halfNoise, StepClock } from "./device_data.ts";

/** Elements of a pattern that fills operands. */
const PATTERN = 1 << 20;

/** What the products take. */
export interface ProductTimes {
  /** "cuBLASLt", or "kvz": our own, which is no bound. */
  readonly by: string;
  /** Why it is not cuBLASLt. */
  readonly reason: string | null;
  readonly projectMilliseconds: number;
  readonly reconstructMilliseconds: number;
}

/** Best of some rounds after one that counts for nothing. */
export async function timeProducts(
  backend: Backend,
  bases: readonly DeviceBasis[],
  { tokens, sequences, rounds }: { readonly tokens: number; readonly sequences: number; readonly rounds: number },
): Promise<ProductTimes> {
  const calls = backend instanceof CudaBackend
    ? await cudaCalls(backend, bases, tokens)
    : plainCalls(backend, bases, tokens);
  const best = async (run: () => void) => {
    let least = Infinity;
    for (let round = 0; round <= rounds; round++) {
      const took = await calls.time(() => {
        for (let sequence = 0; sequence < sequences; sequence++) run();
      });
      if (round > 0) least = Math.min(least, took);
    }
    return least;
  };
  try {
    const projectMilliseconds = await best(calls.project);
    const reconstructMilliseconds = await best(calls.reconstruct);
    return { by: calls.by, reason: calls.reason, projectMilliseconds, reconstructMilliseconds };
  } finally {
    calls.free();
  }
}

interface Calls {
  readonly by: string;
  readonly reason: string | null;
  /** Both kinds of a sequence. */
  readonly project: () => void;
  readonly reconstruct: () => void;
  readonly time: (enqueue: () => void) => Promise<number>;
  readonly free: () => void;
}

async function cudaCalls(backend: CudaBackend, bases: readonly DeviceBasis[], tokens: number): Promise<Calls> {
  const { device } = backend;
  const widest = paddedLength(Math.max(...bases.map(({ components, features }) => Math.max(components, features))));
  const a = device.alloc(tokens * widest * 2);
  const c = device.alloc(tokens * widest * 4);
  await withScratch(backend, (scratch) => {
    fillWith(backend, scratch.upload(halfNoise(PATTERN, 1)), a);
  });
  const cublas = await CublasLt.open(device, 0);
  const own = new CudaGemm(device, null);
  // Components and features are multiples of 8: nothing is padded.
  const products = (bases as readonly CudaBasis[]).map((basis) => {
    const { components, features, stride } = basis;
    const common = { a, c, b: basis.address(0, false), ldb: stride, m: tokens };
    return [
      ["ByRows", { ...common, lda: features, n: components, k: features, limit: components }],
      ["ByColumns", { ...common, lda: components, n: features, k: components, limit: features }],
    ] as const;
  });
  const fits = bases.every(({ components, features }) => components % 8 === 0 && features % 8 === 0);
  const known = cublas !== null && fits &&
    products.flat().every(([order, product]) => cublas.multiply(order === "ByRows", product, 1));
  const reason = known
    ? null
    : cublas === null
    ? "cuBLASLt is not here: KVZ_CUBLASLT names none, nor does the system find one"
    : "cuBLASLt has no algorithm for the product";
  const way = (i: number) => () => {
    for (const kind of products) {
      const [order, product] = kind[i];
      if (known) cublas!.multiply(order === "ByRows", product, 1);
      else own.halves(order, product, 1);
    }
  };
  return {
    by: known ? "cuBLASLt" : "kvz",
    reason,
    project: way(0),
    reconstruct: way(1),
    time: (enqueue) => device.time(enqueue),
    free: () => {
      cublas?.[Symbol.dispose]();
      for (const buffer of [a, c]) buffer.free();
    },
  };
}

/** Where there is no CUDA: the backend's own products of binary32 rows. */
function plainCalls(backend: Backend, bases: readonly DeviceBasis[], tokens: number): Calls {
  const widest = paddedLength(Math.max(...bases.map(({ components, features }) => Math.max(components, features))));
  const [x, y] = [0, 0].map(() => backend.alloc(tokens * widest * 4));
  backend.write(x, new Float32Array(Math.min(PATTERN, tokens * widest)).fill(0.01));
  return {
    by: "kvz",
    reason: `cuBLASLt is CUDA's, the backend is ${backend.name}`,
    project: () => bases.forEach((basis) => backend.project(x, tokens, basis, y)),
    reconstruct: () => bases.forEach((basis) => backend.reconstruct(x, tokens, basis, 0, basis.features, y)),
    time: async (enqueue) => {
      const clock = new StepClock(backend, false);
      enqueue();
      return await clock.total();
    },
    free: () => [x, y].forEach((buffer) => buffer.free()),
  };
}
