/**
 * KVTC's bit allocation: which components are quantized together, and to how many bits, for a given ratio.
 *
 * @module
 */
import { type QuantGroup, TYPE_BITS } from "../../backend/backend.ts";
import { type ErrorTable, GROUP_METADATA_BITS, GROUP_SIZES, GROUP_TYPES } from "../../profile/types.ts";
import { solveAllocation } from "./allocate_dp.ts";

/** Options of {@linkcode allocateBits}. */
export interface AllocateOptions {
  /** Components that may be used, the first ones of the table; by default all. */
  readonly components?: number;
}

/** A plan: the groups, what they cost and what error they leave on the sample behind the table. */
export interface BitAllocation {
  /** By ascending `first`, without overlap; components in no group are dropped. */
  readonly groups: QuantGroup[];
  /** Bits a token, at most the budget: codes, and 32 bits a group for shift and scale. */
  readonly bits: number;
  /** Squared error over all sample rows, dropped components of the table included. */
  readonly error: number;
}

/**
 * Bits a token that a target ratio leaves to keys or to values: floor(16 · features / ratio), fp16 being the
 * uncompressed form.
 *
 * @throws {RangeError} when the ratio is not a positive number.
 */
export function ratioBudget(features: number, ratio: number): number {
  if (!(ratio > 0 && ratio < Infinity)) {
    throw new RangeError(`Cannot compute bit budget: ratio is ${ratio}, expected a positive number`);
  }
  return Math.floor(16 * features / ratio);
}

/**
 * The exact optimum of KVTC's allocation over {none, int2, int4, fp8} × {1, 16, 64, 256, 1024} under a budget of bits
 * a token (arXiv 2511.01815v2, §3.2 and B.17).
 *
 * @throws {RangeError} when the table's lengths do not fit its rank, or the budget is not a non-negative number.
 */
export function allocateBits(table: ErrorTable, budgetBits: number, options: AllocateOptions = {}): BitAllocation {
  const { components = table.rank } = options;
  if (!(Number.isInteger(components) && components >= 0 && components <= table.rank)) {
    throw new RangeError(`Cannot allocate bits: components is ${components}, expected 0 to ${table.rank}`);
  }
  const perRow = GROUP_SIZES.length * GROUP_TYPES.length;
  if (table.energy.length !== table.rank || table.errors.length !== table.rank * perRow) {
    throw new RangeError(
      `Cannot allocate bits: the table has ${table.energy.length} energies and ${table.errors.length} errors, ` +
        `expected ${table.rank} and ${table.rank * perRow}`,
    );
  }
  const { groups, bits, error } = solveAllocation({
    rank: components,
    sizes: GROUP_SIZES,
    typeBits: GROUP_TYPES.map((type) => TYPE_BITS[type]),
    metadataBits: GROUP_METADATA_BITS,
    energy: table.energy.subarray(0, components),
    errors: table.errors.subarray(0, components * perRow),
  }, budgetBits);
  let dropped = 0;
  for (let i = components; i < table.rank; i++) dropped += table.energy[i];
  return {
    groups: groups.map(({ first, size, type }) => ({ first, size, type: GROUP_TYPES[type] })),
    bits,
    error: error + dropped,
  };
}
