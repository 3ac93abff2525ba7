/**
 * Non-uniform quantization of normalized elements, and the outliers of a token (KVQuant, arXiv 2401.18079).
 *
 * All in float64 by additions, products and comparisons alone, so that codes are the same on every engine and backend.
 *
 * @module
 */

/** Borders between neighbouring entries of a rising codebook: their middles. */
export function codeBorders(codebook: ArrayLike<number>): Float64Array {
  return Float64Array.from({ length: codebook.length - 1 }, (_, i) => (codebook[i] + codebook[i + 1]) / 2);
}

/** Index of the entry nearest to `y`, the lower one of two: borders below it. There are 2^bits − 1 borders. */
export function nearestCode(y: number, borders: Float64Array): number {
  let code = 0;
  for (let step = borders.length + 1 >> 1; step > 0; step >>= 1) if (y > borders[code + step - 1]) code += step;
  return code;
}

/**
 * How many of a token's elements are outliers on either side. Those at or beyond the quantile t = 1 − share ÷ 2, linear
 * between the elements, as the authors' code has it: 1 + ⌊share · (channels − 1) ÷ 2⌋. Tokens of one or two elements have none.
 *
 * @param percent share in percent, a multiple of 0.1
 */
export function outliersASide(channels: number, percent: number): number {
  if (percent === 0) return 0;
  const beyond = 1 + Math.floor(Math.round(percent * 10) * (channels - 1) / 2000);
  return Math.min(beyond, (channels - 1) >> 1);
}

/** Finds the outliers of tokens. */
export class TokenOutliers {
  /** 1 where the element of the last token is an outlier, [channels]. */
  readonly marks: Uint8Array;
  /** Least and greatest of the others. */
  low = 0;
  high = 0;
  readonly #kept: Int32Array;

  /** @param aSide outliers on either side, fewer than half of the channels */
  constructor(channels: number, aSide: number) {
    this.marks = new Uint8Array(channels);
    this.#kept = new Int32Array(aSide);
  }

  /** Marks the greatest and the least elements of a token [channels]; of equal ones the first. */
  find(row: Float32Array): void {
    this.marks.fill(0);
    this.#mark(row, 1);
    this.#mark(row, -1);
    [this.low, this.high] = [Infinity, -Infinity];
    for (let c = 0; c < row.length; c++) {
      if (this.marks[c] !== 0) continue;
      if (row[c] < this.low) this.low = row[c];
      if (row[c] > this.high) this.high = row[c];
    }
  }

  #mark(row: Float32Array, sign: number): void {
    const { marks } = this;
    const kept = this.#kept;
    if (kept.length === 0) return;
    // The best so far, the best first.
    let filled = 0;
    for (let c = 0; c < row.length; c++) {
      const x = sign * row[c];
      if (marks[c] !== 0 || (filled === kept.length && x <= sign * row[kept[filled - 1]])) continue;
      let at = filled < kept.length ? filled++ : filled - 1;
      for (; at > 0 && x > sign * row[kept[at - 1]]; at--) kept[at] = kept[at - 1];
      kept[at] = c;
    }
    for (const c of kept) marks[c] = 1;
  }
}
