/**
 * Statistics of rows → the codes that tell them. Only arithmetic that IEEE 754 fixes (no logarithm, no arc tangent of
 * the platform's), so that every engine writes the same file.
 *
 * @module
 */
import { BINS_PER_SIGMA, COSINES_32, DIRECTIONS, MEAN_BINS, type RowCodes, SCALES } from "./codes.ts";
import { PHASES, type RowGroup } from "./shape.ts";

/** Sums over the sampled tokens of a row: x · cos, x · sin (cos = 1, sin = 0 where nothing turns), x². [rows][3] */
export type RowSums = Float32Array;

/** Greatest |mean| / σ that classes tell apart. */
const MOST = (MEAN_BINS - 1) / BINS_PER_SIGMA;

/** Codes of every row of a group, into `codes`. `sampled` are the tokens that the sums are over, phases those tokens'. */
export function chooseCodes(sums: RowSums, group: RowGroup, sampled: readonly number[], codes: RowCodes): void {
  const { begin, end, phases } = group;
  const n = sampled.length;
  if (phases === null) {
    for (let row = begin; row < end; row++) {
      const mean = sums[3 * row] / n;
      const variance = floored(sums[3 * row + 2] / n - mean * mean, mean * mean);
      const bin = nearestBin(mean * mean / variance, MEAN_BINS - 1);
      codes.scales[row] = scaleCode(variance);
      codes.means[row] = bin + (mean < 0 && bin > 0 ? 128 : 0);
    }
    return;
  }
  const [cc, cs, ss] = phaseSums(phases, sampled);
  for (let row = begin; row < end; row += 2) {
    const at = 3 * row;
    const [xc, xs, xx] = [sums[at], sums[at + 1], sums[at + 2]];
    const [yc, ys, yy] = [sums[at + 3], sums[at + 4], sums[at + 5]];
    // The pair's mean before rotation (a, b), then what is left of each row less a · cos − b · sin, a · sin + b · cos.
    const [a, b] = [(xc + ys) / n, (yc - xs) / n];
    const square = a * a + b * b;
    const x = xx - 2 * (a * xc - b * xs) + a * a * cc - 2 * a * b * cs + b * b * ss;
    const y = yy - 2 * (a * ys + b * yc) + a * a * ss + 2 * a * b * cs + b * b * cc;
    const [first, second] = [floored(x / n, square), floored(y / n, square)];
    const both = Math.sqrt(first * second);
    codes.scales[row] = scaleCode(first);
    codes.scales[row + 1] = scaleCode(second);
    codes.means[row] = nearestBin(square / both, 255);
    codes.means[row + 1] = nearestDirection(a, b);
  }
}

/** Of the sampled tokens' phases: Σ cos², Σ cos · sin, Σ sin². */
export function phaseSums(phases: Uint8Array, sampled: readonly number[]): [cc: number, cs: number, ss: number] {
  let [cc, cs, ss] = [0, 0, 0];
  for (const t of sampled) {
    const [cos, sin] = [PHASE_COSINES[phases[t]], PHASE_SINES[phases[t]]];
    cc += cos * cos;
    cs += cos * sin;
    ss += sin * sin;
  }
  return [cc, cs, ss];
}

/** One σ for all rows of a block and no means: for chunks too short to pay for codes of rows. */
export function blockScale(sums: RowSums, rows: readonly number[], sampled: number): number {
  let sum = 0;
  for (const row of rows) sum += sums[3 * row + 2];
  return scaleCode(floored(sum / (rows.length * sampled), 0));
}

/** A variance that neither vanishes nor lets |mean| / σ exceed what classes tell apart. */
function floored(variance: number, meanSquare: number): number {
  return Math.max(variance, meanSquare / (MOST * MOST), 2 ** -20);
}

const floats = new Float32Array(1);
const bitsOfFloats = new Uint32Array(floats.buffer);

/** 2 · log2 σ = log2 of the variance, to the nearest whole number: 32 where it is 1. */
function scaleCode(variance: number): number {
  floats[0] = variance;
  // The exponent, and one more from √2 on.
  const code = 32 + ((bitsOfFloats[0] + (0x800000 - 0x3504f3)) >>> 23) - 127;
  return Math.min(Math.max(code, 0), SCALES - 1);
}

/** √square in bins, to the nearest whole one. */
function nearestBin(square: number, most: number): number {
  return Math.min(most, Math.floor(Math.sqrt(square) * BINS_PER_SIGMA + 0.5));
}

/** Direction of (a, b) in 1/32 turn: the one that it projects on farthest, sought in a quarter turn. */
function nearestDirection(a: number, b: number): number {
  const [x, y] = [Math.abs(a), Math.abs(b)];
  let best = 0;
  let most = -1;
  for (let direction = 0; direction <= DIRECTIONS / 4; direction++) {
    const length = x * COSINES_32[direction] + y * COSINES_32[DIRECTIONS / 4 - direction];
    if (length > most) [best, most] = [direction, length];
  }
  const folded = a < 0 ? DIRECTIONS / 2 - best : best;
  return (b < 0 ? DIRECTIONS - folded : folded) % DIRECTIONS;
}

/** cos and sin of each phase's middle, f32. */
export const PHASE_COSINES = Float32Array.from({ length: PHASES }, (_, k) => COSINES_32[2 * k + 1] / 65536);
export const PHASE_SINES = Float32Array.from({ length: PHASES }, (_, k) => COSINES_32[2 * k - 7 & 31] / 65536);
