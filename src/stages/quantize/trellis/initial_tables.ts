/**
 * Tables before any training: levels of a Laplacian residual at the middle of each class.
 *
 * @module
 */
import { ESCAPE_ODD } from "../../entropy/escapes.ts";
import { normalizeTables, type RansTables } from "../../entropy/rans_tables.ts";
import { CLASSES, classSigma } from "./model.ts";
import { reconstruct } from "./states.ts";

/** Share of a table that is left to escapes. */
const ESCAPE_SHARE = 1e-4;

/**
 * Weights of the symbols of a class and quantizer: the Laplacian's mass between the midpoints of neighbouring levels.
 * Codes that 11 bits cannot hold anyway are left to the escapes.
 */
export function laplaceWeights(index: number, quantizer: number): Float64Array {
  const rate = Math.SQRT2 / classSigma(index);
  const weights = new Float64Array(256);
  // Mass beyond r > 0; below 0 it is the same.
  const beyond = (r: number) => Math.exp(-rate * r) / 2;
  const border = (k: number) => (reconstruct(k, quantizer) + reconstruct(k + 1, quantizer)) / 2;
  weights[0] = 1 - 2 * beyond(border(0));
  for (let k = 1; 2 * k < ESCAPE_ODD; k++) {
    const mass = beyond(border(k - 1)) - beyond(border(k));
    if (mass < ESCAPE_SHARE / 2) break;
    weights[2 * k - 1] = mass;
    weights[2 * k] = mass;
  }
  weights[254] = weights[255] = ESCAPE_SHARE;
  return weights;
}

/** Tables of 11 bits for every class and quantizer. */
export function initialTables(): RansTables {
  const weights = Array.from({ length: 2 * CLASSES }, (_, table) => laplaceWeights(table >> 1, table & 1));
  return normalizeTables(weights, 11);
}
