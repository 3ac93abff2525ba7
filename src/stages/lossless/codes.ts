/**
 * What a chunk tells of its rows: scale and mean, coarsely. From these follow, in whole-number arithmetic, the table of
 * every symbol and a map of symbols that makes rows of different scales and signs alike.
 *
 * A symbol holds an element's sign (bit 7), exponent (bits 6–2) and two fraction bits, so symbols less the sign stand on
 * a scale of quarter octaves. The map takes whole octaves of the row's standard deviation σ away (modulo 32, so that it
 * can be undone) and turns the sign where the mean is negative. What remains, |mean| / σ in steps of a third and σ
 * within its octave to a half, is the class of the row, one of 64: a table of frequencies each.
 *
 * @module
 */
import { powerOfTwo } from "../../cache/power.ts";
import { KvzFormatError } from "../../errors.ts";
import { PHASES, phasesMet, type RowGroup } from "./shape.ts";

/** Steps of |mean| / σ. */
export const MEAN_BINS = 32;
/** Steps of |mean| / σ for one. */
export const BINS_PER_SIGMA = 3;
/** Classes of rows: half octave of σ, then bin of the mean. */
export const CLASSES = 2 * MEAN_BINS;
/** Codes of σ: half octaves, of which 32 whole ones. */
export const SCALES = 64;
/** Directions that the mean of a turning pair is told in. */
export const DIRECTIONS = 32;

/** Two bytes a row. */
export interface RowCodes {
  /** σ in half octaves, below 64. */
  readonly scales: Uint8Array;
  /**
   * Rows that do not turn: bin of |mean| / σ, plus 128 where the mean is negative. Of a pair of rows that turn, the
   * first holds the length of the pair's mean before rotation, in thirds of the geometric mean of the two σ, the second
   * its direction, in 1/32 turn.
   */
  readonly means: Uint8Array;
}

/** The classes and the map that follow from codes. */
export interface RowModel {
  /** Class for each phase, [rows][16]; that of the first that occurs where none does. Rows that do not turn have one. */
  readonly classes: Uint8Array;
  /** 128 where the sign is turned, for each phase, [rows][16]. */
  readonly flips: Uint8Array;
  /** Octaves taken off the exponent, [rows]. */
  readonly octaves: Uint8Array;
}

/** cos of k / 32 turn in 1/65536, a quarter turn of it. */
const QUARTER = [65536, 64277, 60547, 54491, 46341, 36410, 25080, 12785, 0];
/** The direction in the first quarter turn whose cosine is that of k / 32 turn but for the sign. */
const FOLDS = Uint8Array.from({ length: DIRECTIONS }, (_, k) => {
  const half = k % (DIRECTIONS / 2);
  return Math.min(half, DIRECTIONS / 2 - half);
});
/** cos of k / 32 turn in 1/65536. */
export const COSINES_32: Float64Array = Float64Array.from(
  FOLDS,
  (fold, k) => k > DIRECTIONS / 4 && k < 3 * DIRECTIONS / 4 ? -QUARTER[fold] : QUARTER[fold],
);
/** 2^(k / 4) in 1/65536. */
const QUARTER_OCTAVES = [65536, 77936, 92682, 110218];

/** The direction in which a phase's middle lies, for a pair whose mean has `direction`: its first row is the cosine. */
export function phaseDirection(direction: number, phase: number): number {
  return (direction + 2 * phase + 1) & 31;
}

/** Codes → classes and map. */
export function rowModel(codes: RowCodes, groups: readonly RowGroup[]): RowModel {
  const rows = codes.scales.length;
  const model = {
    classes: new Uint8Array(rows * PHASES),
    flips: new Uint8Array(rows * PHASES),
    octaves: codes.scales.map((scale) => scale >> 1),
  };
  for (const { begin, end, phases } of groups) {
    if (phases === null) modelStill(codes, begin, end, model);
    else modelTurning(codes, begin, end, phasesMet(phases), model);
  }
  return model;
}

function modelStill({ scales, means }: RowCodes, begin: number, end: number, { classes, flips }: RowModel): void {
  for (let row = begin; row < end; row++) {
    const at = row * PHASES;
    classes.fill((scales[row] & 1) * MEAN_BINS + (means[row] & 127), at, at + PHASES);
    flips.fill(means[row] & 128, at, at + PHASES);
  }
}

function modelTurning(
  { scales, means }: RowCodes,
  begin: number,
  end: number,
  met: Uint8Array,
  { classes, flips }: RowModel,
): void {
  const quarter = DIRECTIONS / 4;
  const bins = new Uint8Array(quarter + 1);
  for (let row = begin; row < end; row += 2) {
    const [length, direction] = [means[row], means[row + 1]];
    // The second row of the pair is the sine, which is the cosine a quarter turn before.
    for (let half = 0; half < 2; half++) {
      const [own, other] = [scales[row + half], scales[row + 1 - half]];
      const perCosine = length * ratio(other - own);
      // Middles of phases lie two directions apart: half of the cosines occur.
      for (let k = (direction + 1) & 1; k <= quarter; k += 2) bins[k] = bin(perCosine, QUARTER[k]);
      const first = (own & 1) * MEAN_BINS;
      const at = (row + half) * PHASES;
      for (let phase = 0; phase < PHASES; phase++) {
        const k = phaseDirection(direction, met[phase]) - quarter * half & (DIRECTIONS - 1);
        classes[at + phase] = first + bins[FOLDS[k]];
        flips[at + phase] = k > quarter && k < 3 * quarter ? 128 : 0;
      }
    }
  }
}

/** 2^(k / 4) in 1/65536: the geometric mean of two σ over one of them, which lie k half octaves apart. */
function ratio(k: number): number {
  const octaves = Math.floor(k / 4);
  return QUARTER_OCTAVES[k - 4 * octaves] * powerOfTwo(octaves);
}

/** A length in 1/65536 bins times a cosine in 1/65536, as a bin. All below 2^53, so exact. */
function bin(length: number, cos: number): number {
  return Math.min(MEAN_BINS - 1, Math.floor(length * cos / 2 ** 32 + 0.5));
}

/** Codes as a chunk carries them. */
export function packCodes({ scales, means }: RowCodes): Uint8Array {
  const bytes = new Uint8Array(2 * scales.length);
  bytes.set(scales);
  bytes.set(means, scales.length);
  return bytes;
}

/** @throws {KvzFormatError} when a code is out of range */
export function unpackCodes(bytes: Uint8Array, groups: readonly RowGroup[]): RowCodes {
  const rows = bytes.length / 2;
  const codes = { scales: bytes.slice(0, rows), means: bytes.slice(rows) };
  const refuse = (row: number, name: string, value: number): never => {
    throw new KvzFormatError(`Cannot decode elements: row ${row} has ${name} ${value}, which no encoder writes`);
  };
  codes.scales.forEach((scale, row) => scale >= SCALES && refuse(row, "scale", scale));
  for (const { begin, end, phases } of groups) {
    for (let row = begin; row < end; row++) {
      const mean = codes.means[row];
      if (phases === null ? (mean & 127) >= MEAN_BINS : row % 2 === 1 && mean >= DIRECTIONS) refuse(row, "mean", mean);
    }
  }
  return codes;
}
