/**
 * What a chunk says of its features once: the steps of keys and values of each layer, and each feature's mean.
 *
 *     step = 2^(−s/60),   x = step · (mean + y / 16)
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import { KINDS } from "../../cache/types.ts";
import { MAX_INPUT, SUBSTEPS } from "../quantize/trellis/cost.ts";
import { nearestS, stepOf } from "../quantize/trellis/step.ts";
import { featureCount, type FeatureShape, kindRange, layerFeatures } from "./shape.ts";

/** Steps and means of a chunk. */
export interface ChunkHead {
  /** [layers][2], keys then values. */
  readonly s: Int16Array;
  /** Mean of each feature in whole steps, [features]. */
  readonly means: Int16Array;
}

/** Largest |s|: steps from 2^−136 to 2^136 hold every f32. */
export const MAX_STEP = 8160;
/** Largest magnitude of a feature in steps. */
const MAX_STEPS = MAX_INPUT / SUBSTEPS;
/** A chunk needs so many tokens before its means pay. */
const MEAN_TOKENS = 8;
/** Added and subtracted it rounds a float64 of less than 2^51 to the nearest whole number, halves to even. */
const ROUNDING = 1.5 * 2 ** 52;
/**
 * Steps of keys against those of values, in units of their spreads: by Fisher blocks of SmolLM2 an error of the keys costs
 * 1.8 times as much as one of the values that is as large a share of the variance.
 */
const KEY_STEP = 0.75;

/** Length of a head's bytes. */
export function headLength(shape: FeatureShape): number {
  return 4 * shape.layers + 2 * featureCount(shape);
}

/** A head without its layers. */
export function emptyHead(shape: FeatureShape): ChunkHead {
  return { s: new Int16Array(2 * shape.layers), means: new Int16Array(featureCount(shape)) };
}

/**
 * Measures steps and means of one layer and writes them into `head`.
 *
 * @param x features of the layer, [features][tokens]
 * @param step in units of the spread of the layer's keys or values: the root of the mean variance of their features
 */
export function measureLayer(
  x: Float32Array,
  shape: FeatureShape,
  layer: number,
  tokens: number,
  step: number,
  head: ChunkHead,
): void {
  const first = layer * layerFeatures(shape);
  for (const [which, kind] of KINDS.entries()) {
    const { begin, end } = kindRange(shape, layer, kind);
    const { mean, variance, largest } = moments(x, begin - first, end - first, tokens);
    const wanted = (kind === "key" ? KEY_STEP : 1) * step * Math.sqrt(variance);
    // A layer of constants has no spread; its largest value still has to fit.
    let s = nearestS(Math.max(wanted, largest / MAX_STEPS, 2 ** -130));
    while (largest > MAX_STEPS * stepOf(s)) s--;
    head.s[2 * layer + which] = s;
    mean.forEach((value, i) => head.means[begin + i] = Math.round(value / stepOf(s)));
  }
}

/** Means of rows [begin, end) of x, the mean of their variances, and the largest magnitude. */
function moments(x: Float32Array, begin: number, end: number, tokens: number) {
  const mean = new Float64Array(end - begin);
  let variance = 0;
  let largest = 0;
  for (let f = begin; f < end; f++) {
    let sum = 0;
    let squares = 0;
    for (let i = f * tokens; i < (f + 1) * tokens; i++) {
      sum += x[i];
      squares += x[i] * x[i];
      largest = Math.max(largest, Math.abs(x[i]));
    }
    if (tokens >= MEAN_TOKENS) mean[f - begin] = sum / tokens;
    variance += Math.max(0, squares / tokens - mean[f - begin] * mean[f - begin]);
  }
  return { mean, variance: variance / (end - begin), largest };
}

/**
 * Features of a layer in sixteenths of their step around their mean, rounded to nearest even: [features][tokens].
 *
 * @returns null where one is beyond what the coder takes: later tokens of a chunk may be much larger than those that the
 * step was chosen for
 */
export function toSixteenths(
  x: Float32Array,
  shape: FeatureShape,
  layer: number,
  tokens: number,
  { s, means }: ChunkHead,
): Int32Array | null {
  const y = new Int32Array(x.length);
  const first = layer * layerFeatures(shape);
  for (const [which, kind] of KINDS.entries()) {
    const { begin, end } = kindRange(shape, layer, kind);
    const scale = SUBSTEPS / stepOf(s[2 * layer + which]);
    for (let f = begin; f < end; f++) {
      const mean = SUBSTEPS * means[f];
      for (let i = (f - first) * tokens; i < (f - first + 1) * tokens; i++) {
        const value = x[i] * scale;
        // With the mean within ±6,250 steps the sum of both stays in the reconstruction's 16 bits of quarters.
        if (Math.abs(value) > MAX_INPUT + 1) return null;
        y[i] = (value + ROUNDING) - ROUNDING - mean;
        if (Math.abs(y[i]) > MAX_INPUT) return null;
      }
    }
  }
  return y;
}

/** A head's bytes: low and high bytes of s, then of the means. */
export function encodeHead({ s, means }: ChunkHead): Uint8Array {
  const out = new Uint8Array(2 * s.length + 2 * means.length);
  writePlanes(s, out, 0);
  writePlanes(means, out, 2 * s.length);
  return out;
}

/**
 * Inverse of {@linkcode encodeHead}.
 *
 * @throws {KvzFormatError} when a step or mean is none that an encoder writes
 */
export function decodeHead(bytes: Uint8Array, shape: FeatureShape): ChunkHead {
  const steps = 2 * shape.layers;
  const [s, means] = [readPlanes(bytes, 0, steps), readPlanes(bytes, 2 * steps, featureCount(shape))];
  for (const value of s) {
    if (Math.abs(value) > MAX_STEP) {
      throw new KvzFormatError(`Cannot decode chunk: a step is ${value}, expected at most ±${MAX_STEP}`);
    }
  }
  for (const value of means) {
    if (Math.abs(value) > MAX_STEPS) {
      throw new KvzFormatError(`Cannot decode chunk: a mean is ${value} steps, expected at most ±${MAX_STEPS}`);
    }
  }
  return { s, means };
}

function writePlanes(values: Int16Array, out: Uint8Array, at: number): void {
  values.forEach((value, i) => {
    out[at + i] = value & 0xff;
    out[at + values.length + i] = value >> 8 & 0xff;
  });
}

function readPlanes(bytes: Uint8Array, at: number, count: number): Int16Array {
  return Int16Array.from({ length: count }, (_, i) => bytes[at + i] | bytes[at + count + i] << 8);
}
