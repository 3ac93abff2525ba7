/**
 * What the trellis coder knows of the coefficients at one step: how each is predicted from a reference token, how large
 * the residual is, and what every level costs.
 *
 * @module
 */
import type { RansContexts } from "../../entropy/rans_contexts.ts";
import type { RansTables } from "../../entropy/rans_tables.ts";
import { ESCAPE_ODD } from "../../entropy/escapes.ts";
import { NEXT_STATE } from "./states.ts";
import type { TrellisSide } from "./side.ts";

/** Prediction modes. */
export const MODES = 5;
/** Energies of a token: its residuals are smaller than usual, as usual, larger. */
export const ENERGIES = 3;
/** Classes of spread; each has a table for either quantizer. */
export const CLASSES = 64;
/** Frequency tables. */
export const TABLES = 2 * CLASSES;
/** Classes are a fifth of an octave apart: 12 steps of logSigma. */
const CLASS_STEP = 12;
/** Class of a residual as wide as the step. */
const UNIT_CLASS = 12;
/** Costs are in 1/256 bit. */
export const BIT = 256;

/** Parameters of prediction and spread, trained at one step. */
export interface StepSet {
  /** The step is 2^(−s/60). */
  readonly s: number;
  /** Prediction from the reference token in 1/32, [MODES][components], 0 to 32. */
  readonly rho32: Int8Array;
  /** log2 of the residual's standard deviation in coefficient units, times 60: [MODES][components]. */
  readonly logSigma: Int16Array;
}

/** The coder's model of a chunk. */
export interface TrellisModel {
  readonly components: number;
  /** The step is 2^(−s/60). */
  readonly s: number;
  /** [MODES][components]. */
  readonly rho32: Int8Array;
  /** Class before offset and energy, [MODES][components], below {@linkcode CLASSES}. */
  readonly base: Uint8Array;
  /** Cost of each symbol in 1/256 bit, [TABLES][256]; of 254 and 255 without their escapes. */
  readonly bits: Uint16Array;
  /** First zigzag code that each table lacks, [TABLES]. */
  readonly limits: Uint8Array;
}

/** The step set nearest to `s`; of two as near, the coarser one. */
export function nearestSet(sets: readonly StepSet[], s: number): StepSet {
  let best = sets[0];
  for (const set of sets) {
    const [distance, least] = [Math.abs(set.s - s), Math.abs(best.s - s)];
    if (distance < least || (distance === least && set.s < best.s)) best = set;
  }
  return best;
}

/** Class of a residual whose logSigma is given, at a step. */
export function baseClass(logSigma: number, s: number): number {
  return clampClass(Math.floor((logSigma + s + CLASS_STEP / 2) / CLASS_STEP) + UNIT_CLASS);
}

/** Standard deviation, in units of the step, at the middle of a class. */
export function classSigma(index: number): number {
  return 2 ** ((index - UNIT_CLASS) / 5);
}

/** Class of a component in a token: its base moved by the chunk's offset and the token's energy. */
export function tokenClass(base: number, offset: number, energy: number): number {
  return clampClass(base + offset + 2 * (energy - 1));
}

function clampClass(index: number): number {
  return Math.min(CLASSES - 1, Math.max(0, index));
}

/**
 * Costs of the symbols of tables, in 1/256 bit; those that a table lacks cost as much as a cost can say. All engines round
 * alike: none of the numbers is within 10^-5 of a half, and no Math.log2 is as wrong as that.
 */
export function tableBits({ bits, frequencies }: RansTables): Uint16Array {
  return Uint16Array.from(
    frequencies,
    (frequency) => frequency === 0 ? 0xffff : Math.round(BIT * (bits - Math.log2(frequency))),
  );
}

/**
 * First zigzag code that each table lacks.
 *
 * @throws {RangeError} when a table has codes beyond it, or lacks an escape: it could not code every level.
 */
export function tableLimits({ frequencies }: RansTables): Uint8Array {
  const tables = frequencies.length / 256;
  return Uint8Array.from({ length: tables }, (_, table) => {
    const row = frequencies.subarray(table * 256, (table + 1) * 256);
    const lacking = row.indexOf(0);
    const limit = lacking < 0 || lacking > ESCAPE_ODD ? ESCAPE_ODD : lacking;
    if (row.subarray(limit, ESCAPE_ODD).some((frequency) => frequency > 0) || row[254] === 0 || row[255] === 0) {
      throw new RangeError(`Cannot use table ${table}: its codes have gaps or it lacks an escape`);
    }
    return limit;
  });
}

/** The leading components of a step set. */
export function cutStepSet({ s, rho32, logSigma }: StepSet, components: number): StepSet {
  const all = rho32.length / MODES;
  const cut = <T extends Int8Array | Int16Array>(from: T, to: T): T => {
    for (let mode = 0; mode < MODES; mode++) {
      to.set(from.subarray(mode * all, mode * all + components), mode * components);
    }
    return to;
  };
  return {
    s,
    rho32: cut(rho32, new Int8Array(MODES * components)),
    logSigma: cut(logSigma, new Int16Array(MODES * components)),
  };
}

/** The model of a chunk of the leading components, or of all, at step `s`, from the nearest step set. */
export function trellisModel(
  sets: readonly StepSet[],
  s: number,
  costs: { readonly bits: Uint16Array; readonly limits: Uint8Array },
  components: number = sets[0].rho32.length / MODES,
): TrellisModel {
  const nearest = nearestSet(sets, s);
  const { rho32, logSigma } = nearest.rho32.length === MODES * components ? nearest : cutStepSet(nearest, components);
  return {
    components,
    s,
    rho32,
    base: Uint8Array.from(logSigma, (value) => baseClass(value, s)),
    bits: costs.bits,
    limits: costs.limits,
  };
}

/** Contexts of the entropy coder for a chunk: rows are components. */
export function trellisContexts(model: TrellisModel, side: TrellisSide): RansContexts {
  const { components, base } = model;
  const { modes, energies, offsets } = side;
  const classes = new Uint8Array(components * 16);
  for (let c = 0; c < components; c++) {
    for (let mode = 0; mode < MODES; mode++) {
      for (let energy = 0; energy < ENERGIES; energy++) {
        classes[c * 16 + ENERGIES * mode + energy] = tokenClass(base[mode * components + c], offsets[c], energy);
      }
    }
  }
  const kinds = Uint8Array.from(modes, (mode, t) => ENERGIES * mode + energies[t]);
  return { variant: "trellis", classes, kinds, next: NEXT_STATE };
}
