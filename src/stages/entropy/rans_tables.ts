/**
 * Frequency tables of the rANS coder. A table gives each of 256 symbols a whole frequency; they sum to 2^bits. Tables
 * are normalized from weights with arithmetic that every engine does alike (no logarithm of the platform's), since
 * encoder and decoder each make them from the weights that a profile or a file carries.
 *
 * @module
 */

/** Symbols of a table. */
export const RANS_SYMBOLS = 256;

/** Resolution of frequencies: they sum to 2^11 or 2^12. */
export type RansBits = 11 | 12;

/** Frequency tables of one resolution. */
export interface RansTables {
  /** Frequencies of a table sum to 2^bits. */
  readonly bits: RansBits;
  /** [tables][256]; 0 where a symbol cannot be coded. */
  readonly frequencies: Uint16Array;
}

/** How many tables there are. */
export function tableCount({ frequencies }: RansTables): number {
  return frequencies.length / RANS_SYMBOLS;
}

/**
 * Frequencies [256] for the weights (counts, probabilities, anything proportional to them) of at most 256 symbols, so
 * that the code length Σ −weight · log2(frequency) is least: every weight above 0 gets a frequency of at least 1.
 *
 * @throws {RangeError} unless weights are finite, at least 0, at most 256 of them, and one is above 0.
 */
export function normalizeWeights(weights: ArrayLike<number>, bits: RansBits): Uint16Array {
  requireBits(bits);
  if (weights.length > RANS_SYMBOLS) {
    throw new RangeError(
      `Cannot make a frequency table: it has ${weights.length} weights, expected at most ${RANS_SYMBOLS}`,
    );
  }
  let sum = 0;
  for (let i = 0; i < weights.length; i++) {
    if (!(weights[i] >= 0 && weights[i] < Infinity)) {
      throw new RangeError(`Cannot make a frequency table: weight ${i} is ${weights[i]}, expected a number ≥ 0`);
    }
    sum += weights[i];
  }
  if (!(sum > 0 && sum < Infinity)) {
    throw new RangeError(`Cannot make a frequency table: the weights sum to ${sum}, expected a finite number above 0`);
  }
  const size = 1 << bits;
  const frequencies = new Uint16Array(RANS_SYMBOLS);
  let left = size;
  for (let i = 0; i < weights.length; i++) {
    if (weights[i] === 0) continue;
    frequencies[i] = Math.max(1, Math.min(size, Math.floor(weights[i] / sum * size)));
    left -= frequencies[i];
  }
  // The code length is convex and separable: taking the best single steps, then exchanging while that gains, is optimal.
  for (; left > 0; left--) frequencies[cheapestRaise(weights, frequencies)]++;
  for (; left < 0; left++) frequencies[cheapestCut(weights, frequencies)]--;
  for (;;) {
    const [up, down] = [cheapestRaise(weights, frequencies), cheapestCut(weights, frequencies)];
    if (up === down || down < 0) break;
    if (!(weights[up] * stepGain(frequencies[up]) > weights[down] * stepGain(frequencies[down] - 1))) break;
    frequencies[up]++;
    frequencies[down]--;
  }
  return frequencies;
}

/**
 * One table for each list of weights, as {@linkcode normalizeWeights} makes it.
 *
 * @throws {RangeError} as {@linkcode normalizeWeights}.
 */
export function normalizeTables(weights: readonly ArrayLike<number>[], bits: RansBits): RansTables {
  const frequencies = new Uint16Array(weights.length * RANS_SYMBOLS);
  weights.forEach((list, i) => frequencies.set(normalizeWeights(list, bits), i * RANS_SYMBOLS));
  return { bits, frequencies };
}

/**
 * Checks tables that come from elsewhere.
 *
 * @throws {RangeError} unless there is at least one table and each sums to 2^bits.
 */
export function requireTables({ bits, frequencies }: RansTables): void {
  requireBits(bits);
  if (frequencies.length === 0 || frequencies.length % RANS_SYMBOLS !== 0) {
    throw new RangeError(
      `Cannot use frequency tables: they have ${frequencies.length} entries, expected a multiple of ${RANS_SYMBOLS}`,
    );
  }
  for (let begin = 0; begin < frequencies.length; begin += RANS_SYMBOLS) {
    let sum = 0;
    for (let i = begin; i < begin + RANS_SYMBOLS; i++) sum += frequencies[i];
    if (sum !== 1 << bits) {
      const table = begin / RANS_SYMBOLS;
      throw new RangeError(`Cannot use frequency table ${table}: it sums to ${sum}, expected ${1 << bits}`);
    }
  }
}

function requireBits(bits: number): void {
  if (bits !== 11 && bits !== 12) {
    throw new RangeError(`Cannot use frequency tables: the resolution is ${bits} bits, expected 11 or 12`);
  }
}

/** ln((f + 1) / f) = 2 artanh(1 / (2f + 1)) as the start of its series, to 10^-7 relative for f ≥ 1: what a step saves. */
function stepGain(f: number): number {
  const u = 1 / (2 * f + 1);
  const v = u * u;
  return 2 * u * (1 + v * (1 / 3 + v * (1 / 5 + v * (1 / 7 + v * (1 / 9 + v / 11)))));
}

/** The symbol that gains most by one more; the lowest of equal ones. */
function cheapestRaise(weights: ArrayLike<number>, frequencies: Uint16Array): number {
  let best = -1;
  let most = -1;
  for (let i = 0; i < weights.length; i++) {
    if (weights[i] === 0) continue;
    const gain = weights[i] * stepGain(frequencies[i]);
    if (gain > most) [best, most] = [i, gain];
  }
  return best;
}

/** The symbol that loses least by one less, of those that have more than one; -1 where there is none. */
function cheapestCut(weights: ArrayLike<number>, frequencies: Uint16Array): number {
  let best = -1;
  let least = Infinity;
  for (let i = 0; i < weights.length; i++) {
    if (frequencies[i] <= 1) continue;
    const loss = weights[i] * stepGain(frequencies[i] - 1);
    if (loss < least) [best, least] = [i, loss];
  }
  return best;
}
