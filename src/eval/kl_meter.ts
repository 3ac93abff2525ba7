/**
 * KL against one and the same distribution, many times: what does not change is computed once.
 *
 * @module
 */

/** Holds the logits of an untouched cache. */
export class KlMeter {
  readonly #vocabulary: number;
  readonly #logits: Float32Array;
  /** Probabilities, [rows][vocabulary]. */
  readonly #p: Float32Array;
  /** Logarithm of the sum of exponentials of each row. */
  readonly #logSums: Float64Array;

  /**
   * @param logits [rows][vocabulary]; kept, not copied
   * @throws {RangeError} they are no whole rows
   */
  constructor(logits: Float32Array, vocabulary: number) {
    const rows = logits.length / vocabulary;
    if (!(Number.isInteger(rows) && rows > 0)) {
      throw new RangeError(`Cannot measure KL: ${logits.length} logits, expected rows of ${vocabulary}`);
    }
    this.#vocabulary = vocabulary;
    this.#logits = logits;
    this.#p = new Float32Array(logits.length);
    this.#logSums = Float64Array.from({ length: rows }, (_, row) => {
      const z = logits.subarray(row * vocabulary, (row + 1) * vocabulary);
      const logSum = logSumExp(z);
      for (let i = 0; i < vocabulary; i++) this.#p[row * vocabulary + i] = Math.exp(z[i] - logSum);
      return logSum;
    });
  }

  /**
   * Mean over the rows of KL(p ‖ q) in nats, q of these logits.
   *
   * @throws {RangeError} there are more or fewer of them
   */
  kl(logits: Float32Array): number {
    if (logits.length !== this.#logits.length) {
      throw new RangeError(`Cannot measure KL: ${logits.length} logits, expected ${this.#logits.length}`);
    }
    const width = this.#vocabulary;
    let sum = 0;
    for (let row = 0; row < this.#logSums.length; row++) {
      const begin = row * width;
      const q = logits.subarray(begin, begin + width);
      let expected = 0;
      // Of the difference of logits: its rounding is far below that of each of them.
      for (let i = 0; i < width; i++) expected += this.#p[begin + i] * (this.#logits[begin + i] - q[i]);
      sum += expected - this.#logSums[row] + logSumExp(q);
    }
    return sum / this.#logSums.length;
  }
}

function logSumExp(z: Float32Array): number {
  let max = -Infinity;
  for (let i = 0; i < z.length; i++) if (z[i] > max) max = z[i];
  let sum = 0;
  for (let i = 0; i < z.length; i++) sum += Math.exp(z[i] - max);
  return max + Math.log(sum);
}
