/**
 * Frequency tables of recipe kvz-free: levels of a logistic residual at the middle of each class of spread. Its tails lie
 * between a Gaussian's and a Laplacian's, as those of caches do. Made of additions, products and quotients of exact
 * constants alone, so that every engine has the same tables and no file needs to carry them.
 *
 * @module
 */
import { ESCAPE_ODD } from "../entropy/escapes.ts";
import { normalizeTables, type RansTables } from "../entropy/rans_tables.ts";
import { CLASSES } from "../quantize/trellis/model.ts";
import { reconstruct } from "../quantize/trellis/states.ts";
import { stepOf } from "../quantize/trellis/step.ts";

/** Share of a table that is left to escapes. */
const ESCAPE_SHARE = 1e-4;
/** Sixtieths of an octave in r / σ = 1: the logistic's mass beyond r is 1 / (1 + 2^(157/60 · r/σ)); 157/60 ≈ π / (√3 ln 2). */
const RATE = 157;
/** From here on the mass is nothing. */
const FAR = 3600;

/** Mass of a logistic of standard deviation 2^(k/5) beyond r ≥ 0. Between sixtieths of an octave lines are straight. */
function beyond(r: number, k: number): number {
  const exponent = RATE * r * stepOf(12 * k);
  if (exponent >= FAR) return 0;
  const whole = Math.floor(exponent);
  const [a, b] = [stepOf(whole), stepOf(whole + 1)];
  const small = a + (b - a) * (exponent - whole);
  return small / (1 + small);
}

/** Weights of the symbols of a class and quantizer. */
function logisticWeights(index: number, quantizer: number): Float64Array {
  const k = index - 12;
  const weights = new Float64Array(256);
  const border = (level: number) => (reconstruct(level, quantizer) + reconstruct(level + 1, quantizer)) / 2;
  weights[0] = 1 - 2 * beyond(border(0), k);
  for (let level = 1; 2 * level < ESCAPE_ODD; level++) {
    const mass = beyond(border(level - 1), k) - beyond(border(level), k);
    if (mass < ESCAPE_SHARE / 2) break;
    weights[2 * level - 1] = mass;
    weights[2 * level] = mass;
  }
  weights[254] = weights[255] = ESCAPE_SHARE;
  return weights;
}

/** Tables of 11 bits for every class and quantizer. */
export function logisticTables(): RansTables {
  const weights = Array.from({ length: 2 * CLASSES }, (_, table) => logisticWeights(table >> 1, table & 1));
  return normalizeTables(weights, 11);
}
