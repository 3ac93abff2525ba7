/**
 * Rounding a basis to 7-bit integers with one scale a feature, rows of weak components more coarsely: an error of a row
 * costs its variance.
 *
 * @module
 */
import { INT7_MAX } from "../../stages/transform/integer_basis.ts";
import { MULTIPLES } from "./basis_coding.ts";
import { STEP_NOISE } from "./rate.ts";

/** Share of the quantization noise of the finest step that rounding the basis may add. */
const NOISE_SHARE = 0.12;

/** An integer basis. */
export interface Int7Basis {
  /** [components][features]. */
  readonly basis: Int8Array;
  /** [features]. */
  readonly scales: Float32Array;
}

/** What errors of a head's features cost: eᵀ A² e. */
export interface CostBlock {
  /** Its first feature. */
  readonly begin: number;
  readonly dim: number;
  /** A², [dim][dim]; positive definite. */
  readonly cost: ArrayLike<number>;
}

/**
 * Rounds `back` [components][features]. An entry's error is taken into account where the next are rounded, so that
 * together they cost least in A² (as in OPTQ, Frantar et al. 2023, arXiv:2210.17323): with A² = L D Lᵀ, an entry's share of
 * the cost is D times the square of its own error plus what L takes of those behind it.
 *
 * @param blocks of all features
 * @param variance of the components in the weighted space
 * @param finestStep finest step that the basis shall serve
 */
export function roundBasis(
  back: Float64Array,
  features: number,
  blocks: readonly CostBlock[],
  variance: ArrayLike<number>,
  finestStep: number,
): Int7Basis {
  const components = variance.length;
  const scales = new Float32Array(features);
  for (let c = 0; c < components; c++) {
    for (let f = 0; f < features; f++) {
      scales[f] = Math.max(scales[f], Math.abs(back[c * features + f]) / INT7_MAX);
    }
  }
  const factors = blocks.map(({ begin, dim, cost }) => ({ begin, dim, ...factor(cost, dim) }));
  // What rounding one row to whole units costs for a coefficient of 1.
  let unit = 0;
  for (const { begin, dim, pivots } of factors) {
    for (let i = 0; i < dim; i++) unit += pivots[i] * scales[begin + i] ** 2 / 12;
  }
  const allowed = NOISE_SHARE * STEP_NOISE * finestStep ** 2;
  const basis = new Int8Array(components * features);
  for (let c = 0; c < components; c++) {
    const most = Math.sqrt(allowed / (unit * variance[c]));
    const multiple = [...MULTIPLES].reverse().find((m) => m <= most) ?? 1;
    const row = back.subarray(c * features, (c + 1) * features);
    const out = basis.subarray(c * features, (c + 1) * features);
    for (const { begin, dim, lower } of factors) {
      roundBlock(row.subarray(begin, begin + dim), lower, scales.subarray(begin, begin + dim), multiple, out, begin);
    }
  }
  return { basis, scales };
}

/** Rounds a head's part of a row to multiples, from its last entry to its first. */
function roundBlock(
  row: Float64Array,
  lower: Float64Array,
  scales: Float32Array,
  multiple: number,
  out: Int8Array,
  begin: number,
): void {
  const dim = row.length;
  const limit = Math.floor(INT7_MAX / multiple);
  const errors = new Float64Array(dim);
  for (let i = dim - 1; i >= 0; i--) {
    const unit = scales[i] * multiple;
    if (unit === 0) continue;
    let wanted = row[i];
    for (let j = i + 1; j < dim; j++) wanted += lower[j * dim + i] * errors[j];
    const value = Math.max(-limit, Math.min(limit, Math.round(wanted / unit)));
    errors[i] = row[i] - value * unit;
    out[begin + i] = multiple * value;
  }
}

/** Least pivot as a share of the mean diagonal: binary16, in which A² is stored, may have left a direction nothing. */
const LEAST_PIVOT = 0.01;

/** A² = L D Lᵀ: L below its diagonal of ones, [dim][dim], and D. */
function factor(cost: ArrayLike<number>, dim: number): { lower: Float64Array; pivots: Float64Array } {
  const lower = new Float64Array(dim * dim);
  const pivots = new Float64Array(dim);
  let trace = 0;
  for (let i = 0; i < dim; i++) trace += cost[i * dim + i];
  const least = LEAST_PIVOT * trace / dim || 1;
  for (let i = 0; i < dim; i++) {
    for (let j = 0; j < i; j++) {
      let sum = cost[i * dim + j];
      for (let k = 0; k < j; k++) sum -= lower[i * dim + k] * lower[j * dim + k] * pivots[k];
      lower[i * dim + j] = sum / pivots[j];
    }
    let sum = cost[i * dim + i];
    for (let k = 0; k < i; k++) sum -= lower[i * dim + k] ** 2 * pivots[k];
    pivots[i] = Math.max(sum, least);
  }
  return { lower, pivots };
}
