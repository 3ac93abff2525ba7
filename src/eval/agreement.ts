/**
 * What two runs of a model over the same tokens have in common: perplexity of each, KL divergence and agreement of the
 * most likely token. Sums are float64.
 *
 * @module
 */
import type { Agreement } from "./point.ts";

/** Most stretches of {@linkcode Agreement.klByPosition}. */
const STRETCHES = 64;

/**
 * Collects rows of logits of an original and a restored cache, in any number of calls.
 *
 * Row i holds the logits that predict token `targets[i]`.
 */
export class AgreementMeter {
  readonly #vocabulary: number;
  #negativeBefore = 0;
  #negativeAfter = 0;
  #sameTop = 0;
  readonly #kl: number[] = [];

  /** A meter for logits of a vocabulary of this size. */
  constructor(vocabulary: number) {
    this.#vocabulary = vocabulary;
  }

  /**
   * Adds rows.
   *
   * @param before logits after the original cache, [rows][vocabulary]
   * @param after logits after the restored cache, [rows][vocabulary]
   * @param targets the tokens that the rows predict, [rows]
   * @throws {RangeError} the sizes do not fit each other
   */
  add(before: Float32Array, after: Float32Array, targets: ArrayLike<number>): void {
    const width = this.#vocabulary;
    if (before.length !== targets.length * width || after.length !== before.length) {
      throw new RangeError(
        `Cannot compare logits: ${before.length} and ${after.length} for ${targets.length} tokens of ${width}`,
      );
    }
    for (let row = 0; row < targets.length; row++) {
      const p = before.subarray(row * width, (row + 1) * width);
      const q = after.subarray(row * width, (row + 1) * width);
      this.#addRow(p, q, targets[row]);
    }
  }

  #addRow(p: Float32Array, q: Float32Array, target: number): void {
    const topP = argmax(p);
    const topQ = argmax(q);
    const maxP = p[topP];
    const maxQ = q[topQ];
    let sumP = 0;
    let sumQ = 0;
    // Σ e^(p − max) (p − q), from which KL = Σ softmax(p) (p − q) − log Z_p + log Z_q.
    let weighted = 0;
    for (let i = 0; i < p.length; i++) {
      const weight = Math.exp(p[i] - maxP);
      sumP += weight;
      sumQ += Math.exp(q[i] - maxQ);
      weighted += weight * (p[i] - q[i]);
    }
    const logZp = maxP + Math.log(sumP);
    const logZq = maxQ + Math.log(sumQ);
    // Rounding can leave a divergence of equal distributions at −1e-16.
    this.#kl.push(Math.max(0, weighted / sumP - logZp + logZq));
    this.#negativeBefore += logZp - p[target];
    this.#negativeAfter += logZq - q[target];
    if (topP === topQ) this.#sameTop++;
  }

  /**
   * The figures of all rows so far.
   *
   * @throws {RangeError} there are no rows
   */
  result(): Agreement {
    const tokens = this.#kl.length;
    if (tokens === 0) throw new RangeError("Cannot compare logits: there are no rows");
    return {
      tokens,
      perplexityBefore: Math.exp(this.#negativeBefore / tokens),
      perplexityAfter: Math.exp(this.#negativeAfter / tokens),
      kl: mean(this.#kl),
      klMax: this.#kl.reduce((a, b) => Math.max(a, b), 0),
      topOne: this.#sameTop / tokens,
      klByPosition: stretches(tokens, STRETCHES).map(([begin, end]) => mean(this.#kl.slice(begin, end))),
    };
  }
}

/** Cuts [0, length) into at most `most` ranges of nearly equal length. */
export function stretches(length: number, most: number): [begin: number, end: number][] {
  const count = Math.min(length, most);
  return Array.from({ length: count }, (_, i) => [
    Math.floor(i * length / count),
    Math.floor((i + 1) * length / count),
  ]);
}

/** Index of the largest element, the first of equal ones. */
export function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}
