/**
 * The joint fit: principal components of keys (before RoPE) and values together, in the space where the loss weighs
 * errors alike. Both come from the same hidden state, so that one basis for both needs fewer bits than two.
 *
 * @module
 */
import type { CalibrateKernels } from "../../backend/wasm/calibrate_kernels.ts";
import { type Kind, KINDS, type ModelSpec } from "../../cache/types.ts";
import { KvzUnsupportedError } from "../../errors.ts";
import type { Progress } from "../eigen.ts";
import type { GramAccumulator } from "../gram.ts";
import { exactSvd, randomizedSvd, type SymmetricMatrix } from "../svd.ts";
import type { Weighting } from "./sensitivity.ts";

/** Components in float64. */
export interface JointComponents {
  /** Variance along each component in the weighted space, falling: [components]. */
  readonly variance: Float64Array;
  /** A⁻¹ q, the way back, [components][features]. */
  readonly back: Float64Array;
  /** Mean of each feature, [features]. */
  readonly mean: Float64Array;
  /** Total weighted variance. */
  readonly totalVariance: number;
}

/** How to fit. */
export interface JointFitOptions {
  readonly rank: number;
  readonly svd: "randomized" | "exact";
  readonly seed: number;
  readonly onProgress?: Progress;
}

/** Multiplications of the randomized decomposition; the spectrum of caches falls fast enough for few. */
const ITERATIONS = 4;

/**
 * Fits the joint components on a Gram matrix of features in the order of {@linkcode KvzProfile}. The accumulator is used
 * up.
 *
 * @throws {KvzUnsupportedError} when values are too large for float32 sums of squares, or do not vary at all.
 */
export function fitJoint(
  kernels: CalibrateKernels,
  gram: GramAccumulator,
  model: ModelSpec,
  weightings: (variance: Record<Kind, Float64Array>) => Readonly<Record<Kind, Weighting>>,
  { rank, svd, seed, onProgress = () => {} }: JointFitOptions,
): JointComponents & { readonly weightings: Readonly<Record<Kind, Weighting>> } {
  const { count, features } = gram;
  const centred = (() => {
    try {
      return gram.centre();
    } catch (cause) {
      throw new KvzUnsupportedError("Cannot calibrate: values are too large to be squared in float32", { cause });
    }
  })();
  const { matrix, mean } = centred;
  const keyFeatures = model.layers * model.kvHeads * model.keyDim;
  const diagonal = Float64Array.from(
    { length: features },
    (_, f) => kernels.f64(matrix.address + (f * matrix.stride + f) * 8, 1)[0] / count,
  );
  const weights = weightings({ key: diagonal.slice(0, keyFeatures), value: diagonal.slice(keyFeatures) });
  weigh(kernels, matrix, keyFeatures, weights);
  let trace = 0;
  for (let f = 0; f < features; f++) trace += kernels.f64(matrix.address + (f * matrix.stride + f) * 8, 1)[0];

  const wanted = Math.min(rank, features, count - 1);
  const { values, vectors } = svd === "exact"
    ? exactSvd(kernels, matrix, wanted, onProgress)
    : randomizedSvd(kernels, matrix, { rank: wanted, seed, iterations: ITERATIONS, onProgress });
  const kept = values.length;
  if (kept === 0) throw new KvzUnsupportedError("Cannot calibrate: all tokens are equal");
  const back = new Float64Array(kept * features);
  for (let c = 0; c < kept; c++) {
    const q = kernels.f64(vectors + c * features * 8, features);
    eachBlock(keyFeatures, features, weights, ({ inverse, dim }, block, begin) => {
      for (let i = 0; i < dim; i++) {
        let sum = 0;
        const row = (block * dim + i) * dim;
        for (let j = 0; j < dim; j++) sum += inverse[row + j] * q[begin + j];
        back[c * features + begin + i] = sum;
      }
    });
  }
  return {
    variance: values.map((value) => value / count),
    back,
    mean,
    totalVariance: trace / count,
    weightings: weights,
  };
}

/** G ← A G A, block by block. */
function weigh(
  kernels: CalibrateKernels,
  { address, n, stride }: SymmetricMatrix,
  keyFeatures: number,
  weights: Readonly<Record<Kind, Weighting>>,
): void {
  const mark = kernels.mark();
  const largest = Math.max(weights.key.dim, weights.value.dim);
  const root = kernels.alloc(largest * largest * 8);
  const strip = kernels.alloc(largest * n * 8);
  const scratch = kernels.alloc(kernels.exports.gemmScratchBytes());
  const { gemm } = kernels.exports;
  // Rows of a block, then (G is symmetric, and A too) its columns as rows of the transposed product.
  for (const columns of [false, true]) {
    eachBlock(keyFeatures, n, weights, ({ root: a, dim }, block, begin) => {
      kernels.f64(root, dim * dim).set(a.subarray(block * dim * dim, (block + 1) * dim * dim));
      const [from, rs, cs] = columns ? [address + begin * 8, 1, stride] : [address + begin * stride * 8, stride, 1];
      gemm(dim, n, dim, root, dim, 1, from, rs, cs, strip, n, 0, scratch);
      if (!columns) {
        for (let i = 0; i < dim; i++) {
          kernels.f64(address + (begin + i) * stride * 8, n).set(kernels.f64(strip + i * n * 8, n));
        }
        return;
      }
      const whole = kernels.f64(address, (n - 1) * stride + n);
      const part = kernels.f64(strip, dim * n);
      for (let r = 0; r < n; r++) for (let i = 0; i < dim; i++) whole[r * stride + begin + i] = part[i * n + r];
    });
  }
  // Rounding has left the halves unlike in their last bits; the decomposition reads both.
  kernels.exports.mirror(address, n, stride);
  kernels.release(mark);
}

/** Visits every head's features: its kind's weighting, the block's index in it, and its first feature. */
export function eachBlock(
  keyFeatures: number,
  features: number,
  weights: Readonly<Record<Kind, Weighting>>,
  visit: (weighting: Weighting, block: number, begin: number) => void,
): void {
  for (const kind of KINDS) {
    const [begin, end] = kind === "key" ? [0, keyFeatures] : [keyFeatures, features];
    const { dim } = weights[kind];
    for (let at = begin, block = 0; at < end; at += dim, block++) visit(weights[kind], block, at);
  }
}
