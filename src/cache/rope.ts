/**
 * Rotary position embedding: frequencies of the supported scalings and rotation tables for undoing, redoing and
 * shifting it.
 *
 * RoPE turns the coordinate pair i of a key at position m by the angle m · f[i] (Su et al., arXiv 2104.09864).
 * Scaled variants change f, and YaRN also multiplies cos and sin by its attention factor; formulas follow
 * `modeling_rope_utils` of Hugging Face transformers, which the models were trained and are run with.
 *
 * @module
 */
import { fromFloat32, toFloat32 } from "./elements.ts";
import { checkRope } from "./model.ts";
import { naturalLog, power } from "./power.ts";
import { cosSin } from "./trig.ts";
import type { DType, RopeScaling, RopeSpec } from "./types.ts";

type Llama3Scaling = Extract<RopeScaling, { type: "llama3" }>;
type YarnScaling = Extract<RopeScaling, { type: "yarn" }>;

/** Llama 3.1: long wavelengths are divided by the factor, short ones kept, those between interpolated. */
function scaleLlama3(frequencies: Float64Array, scaling: Llama3Scaling): void {
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPosition } = scaling;
  for (let i = 0; i < frequencies.length; i++) {
    const frequency = frequencies[i];
    const turns = originalMaxPosition * frequency / (2 * Math.PI);
    if (turns < lowFreqFactor) frequencies[i] = frequency / factor;
    else if (turns <= highFreqFactor) {
      const smooth = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
      frequencies[i] = (1 - smooth) * frequency / factor + smooth * frequency;
    }
  }
}

/** YaRN (arXiv 2309.00071): a linear ramp over dimensions between keeping and dividing by the factor. */
function scaleYarn(frequencies: Float64Array, rope: RopeSpec, scaling: YarnScaling): void {
  const { factor, betaFast, betaSlow, originalMaxPosition, truncate } = scaling;
  const dimensionOfTurns = (turns: number) =>
    rope.dim * naturalLog(originalMaxPosition / (turns * 2 * Math.PI)) / (2 * naturalLog(rope.theta));
  const round = (value: number, up: boolean) => !truncate ? value : up ? Math.ceil(value) : Math.floor(value);
  const low = Math.max(round(dimensionOfTurns(betaFast), false), 0);
  let high = Math.min(round(dimensionOfTurns(betaSlow), true), rope.dim - 1);
  if (low === high) high += 0.001; // as the original does, to avoid dividing by zero
  for (let i = 0; i < frequencies.length; i++) {
    const ramp = Math.min(Math.max((i - low) / (high - low), 0), 1);
    frequencies[i] = frequencies[i] / factor * ramp + frequencies[i] * (1 - ramp);
  }
}

/**
 * Angle per position of each coordinate pair, in radians: [dim / 2], scaling included.
 *
 * @throws {RangeError} The specification is out of range (see checkRope).
 */
export function ropeFrequencies(rope: RopeSpec): Float64Array {
  checkRope(rope, rope.dim);
  const frequencies = new Float64Array(rope.dim / 2);
  for (let i = 0; i < frequencies.length; i++) frequencies[i] = power(rope.theta, -2 * i, rope.dim);
  const { scaling } = rope;
  if (scaling?.type === "linear") {
    for (let i = 0; i < frequencies.length; i++) frequencies[i] /= scaling.factor;
  } else if (scaling?.type === "llama3") scaleLlama3(frequencies, scaling);
  else if (scaling?.type === "yarn") scaleYarn(frequencies, rope, scaling);
  return frequencies;
}

/** What multiplies cos and sin: YaRN's attention factor, 1 for all others. */
export function ropeMagnitude(rope: RopeSpec): number {
  return rope.scaling?.type === "yarn" ? rope.scaling.attentionFactor : 1;
}

/**
 * YaRN's attention factor where a configuration does not state it: 0.1 · ln(factor) + 1, or with both `mscale` and
 * `mscaleAllDim` non-zero (DeepSeek) the quotient of the two magnitudes.
 */
export function yarnAttentionFactor(factor: number, mscale?: number, mscaleAllDim?: number): number {
  const magnitude = (weight: number) => factor <= 1 ? 1 : 0.1 * weight * naturalLog(factor) + 1;
  return mscale && mscaleAllDim ? magnitude(mscale) / magnitude(mscaleAllDim) : magnitude(1);
}

/**
 * What a rotation table does: `redo` rotates raw keys to their positions, `undo` takes that back, `shift` moves rotated
 * keys by a number of positions (the attention factor is in them already).
 */
export type RotationDirection = "undo" | "redo" | "shift";

/**
 * Rotation table for the backends' `gather` and `scatter`: float32 [tokens][2][dim / 2], cosines then sines, computed
 * in float64 with the same bits on every engine. `undo` holds negated sines and is divided by the attention factor, `redo` is multiplied by it.
 *
 * @param positions Position of each token; for `shift` how many positions each token moves (may be negative).
 * @throws {RangeError} The specification is out of range, or an angle is not below 2^31.
 */
export function rotationTable(rope: RopeSpec, positions: Int32Array, direction: RotationDirection): Float32Array {
  const frequencies = ropeFrequencies(rope);
  const half = frequencies.length;
  const magnitude = direction === "shift" ? 1 : direction === "redo" ? ropeMagnitude(rope) : 1 / ropeMagnitude(rope);
  const sign = direction === "undo" ? -magnitude : magnitude;
  const table = new Float32Array(positions.length * 2 * half);
  for (let t = 0; t < positions.length; t++) {
    const at = t * 2 * half;
    for (let i = 0; i < half; i++) {
      const [cos, sin] = cosSin(positions[t] * frequencies[i]);
      table[at + i] = cos * magnitude;
      table[at + half + i] = sin * sign;
    }
  }
  return table;
}

/**
 * Table that moves keys already rotated to positions `from` to positions `to`.
 *
 * @throws {RangeError} The two lists differ in length, or the specification is out of range.
 */
export function shiftTable(rope: RopeSpec, from: Int32Array, to: Int32Array): Float32Array {
  if (from.length !== to.length) {
    throw new RangeError(`Cannot shift positions: there are ${to.length} new positions, expected ${from.length}`);
  }
  return rotationTable(rope, from.map((position, t) => to[t] - position), "shift");
}

/** Shape of the keys that {@linkcode rotateKeys} takes. */
export interface KeyShape {
  /** Element type. */
  readonly dtype: DType;
  /** Tokens of each block. */
  readonly tokens: number;
  /** Elements of a key. */
  readonly dim: number;
  /** Leading dimensions that are rotated. */
  readonly rotaryDim: number;
}

/**
 * Applies a rotation table to half-split keys [blocks][tokens][dim] in plain TypeScript, for the few raw tokens of a
 * window (the backends rotate the rest). Dimensions past `rotaryDim` keep their values.
 *
 * @returns New little-endian bytes of the same type.
 * @throws {RangeError} Sizes do not fit together.
 */
export function rotateKeys(bytes: Uint8Array, shape: KeyShape, table: Float32Array): Uint8Array {
  const { dtype, tokens, dim, rotaryDim } = shape;
  const values = toFloat32(bytes, dtype);
  if (table.length !== tokens * rotaryDim || rotaryDim > dim || (tokens * dim > 0 && values.length % (tokens * dim))) {
    throw new RangeError(
      `Cannot rotate keys: ${values.length} elements and ${table.length} table entries do not fit ${tokens} tokens of dimension ${dim}, ${rotaryDim} rotated`,
    );
  }
  rotateRows(values, dim, rotaryDim, table);
  return fromFloat32(values, dtype);
}

/**
 * Applies a rotation table to half-split keys [blocks][tokens][dim], in place, each operation in float64 and the result
 * rounded to float32. Dimensions past `rotaryDim` keep their values.
 */
export function rotateRows(values: Float32Array, dim: number, rotaryDim: number, table: Float32Array): void {
  const half = rotaryDim / 2;
  for (let at = 0, turn = 0; at < values.length; at += dim, turn += rotaryDim) {
    if (turn === table.length) turn = 0;
    for (let i = 0; i < half; i++) {
      const x = values[at + i];
      const y = values[at + half + i];
      const cos = table[turn + i];
      const sin = table[turn + half + i];
      values[at + i] = x * cos - y * sin;
      values[at + half + i] = y * cos + x * sin;
    }
  }
}
