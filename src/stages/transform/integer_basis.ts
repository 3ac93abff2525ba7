/**
 * The artefact of the integer transform, and what can be asked of levels before they are multiplied with it.
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import { f16ToNumber, numberToF16 } from "../../cache/elements.ts";
import type { DType, Kind, RopeSpec } from "../../cache/types.ts";

/** Largest magnitude of a basis entry. */
export const INT7_MAX = 63;
/** Largest magnitude of a level: 127 · 256 + 127, so that it splits into two signed bytes. */
export const MAX_LEVEL = 32639;
/** Largest sum of a token's magnitudes, so that every product of a basis column with it stays in 32 bits. */
export const MAX_TOKEN_SUM = Math.floor((2 ** 31 - 1) / INT7_MAX);
/** Most components, a bound on memory. */
export const MAX_COMPONENTS = 4096;

/** A joint basis of keys and values: all key features [layer][head][keyDim], then all value features. */
export interface IntegerBasis {
  readonly components: number;
  /** Features of keys and values together. */
  readonly features: number;
  /** −63 … 63, [components][features]. */
  readonly basis: Int8Array;
  /** What a unit of the basis is worth in each feature, [features]. */
  readonly scales: Float32Array;
  /** Mean of each feature, keys before RoPE, [features]. */
  readonly mean: Float32Array;
  /**
   * The way there, binary16 bits [components][features]: coefficient = Σ (x − mean) · forward. Absent where nothing is
   * encoded.
   */
  readonly forward?: Uint16Array;
}

/** Geometry of the cache in hand. */
export interface IntegerGeometry {
  readonly layers: number;
  readonly heads: number;
  readonly keyDim: number;
  readonly valueDim: number;
  /** RoPE of the keys; null where they are not rotated. */
  readonly rope: RopeSpec | null;
  /** Element type of the source, and of what is restored. */
  readonly dtype: DType;
}

/** Coefficients as integers: coefficient = level · scale of its token. Components are the leading ones of a basis, or all. */
export interface Levels {
  /** [components][tokens]. */
  readonly levels: Int16Array;
  /** [tokens]. */
  readonly scales: Float32Array;
}

/** Elements of a head of a kind. */
export function dimOf(geometry: IntegerGeometry, kind: Kind): number {
  return kind === "key" ? geometry.keyDim : geometry.valueDim;
}

/** Features [begin, end) of some layers of a kind. */
export function featureRange(
  geometry: IntegerGeometry,
  kind: Kind,
  layerBegin: number,
  layerEnd: number,
): readonly [begin: number, end: number] {
  const { layers, heads, keyDim } = geometry;
  const first = kind === "key" ? 0 : layers * heads * keyDim;
  const row = heads * dimOf(geometry, kind);
  return [first + layerBegin * row, first + layerEnd * row];
}

/** The least power of two, 1 or more, that brings entries up to `largest` to at most 2: the device takes less than 4. */
export function deviceGain(largest: number): number {
  let gain = 1;
  while (largest > 2 * gain) gain *= 2;
  return gain;
}

/** Binary16 bits of entries that the device takes, and the power of two that they have been divided by. */
export function withinDevice(bits: Uint16Array): { bits: Uint16Array; gain: number } {
  let largest = 0;
  for (let i = 0; i < bits.length; i++) largest = Math.max(largest, bits[i] & 0x7fff);
  // Infinities are refused where rows are uploaded.
  const gain = largest < 0x7c00 ? deviceGain(f16ToNumber(largest)) : 1;
  if (gain === 1) return { bits, gain };
  // Looked up: there are more entries than patterns.
  const divided = Uint16Array.from({ length: 1 << 16 }, (_, pattern) => numberToF16(f16ToNumber(pattern) / gain));
  const out = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = divided[bits[i]];
  return { bits: out, gain };
}

/**
 * Checks levels before they are multiplied, so that every sum stays in 32 bits, and gives the number of components.
 *
 * @param most components of the basis
 * @throws {KvzFormatError} when one is beyond ±32,639 or a token's are so many and large that a sum could leave 32 bits.
 * @throws {RangeError} when sizes do not fit.
 */
export function requireLevels({ levels, scales }: Levels, most: number, tokens: number): number {
  const components = tokens === 0 ? most : levels.length / tokens;
  if (!Number.isInteger(components) || components > most || scales.length !== tokens) {
    throw new RangeError(
      `Cannot reconstruct: there are ${levels.length} levels and ${scales.length} scales, expected up to ${most} × ` +
        `${tokens} and ${tokens}`,
    );
  }
  // Of 4096 levels of 16 bits at most.
  const sums = new Int32Array(tokens);
  for (let c = 0, i = 0; c < components; c++) {
    for (let t = 0; t < tokens; t++, i++) {
      const magnitude = Math.abs(levels[i]);
      if (magnitude > MAX_LEVEL) {
        throw new KvzFormatError(`Cannot reconstruct: a level is ${levels[i]}, expected at most ±${MAX_LEVEL}`);
      }
      sums[t] += magnitude;
    }
  }
  if (sums.some((sum) => sum > MAX_TOKEN_SUM)) {
    throw new KvzFormatError("Cannot reconstruct: the levels of a token are so large that a sum could leave 32 bits");
  }
  return components;
}
