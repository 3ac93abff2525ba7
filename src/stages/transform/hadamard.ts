/**
 * The Walsh–Hadamard transform, a rotation that spreads outlying channels over all others (QuaRot, arXiv 2404.00456).
 *
 * @module
 */

/** What every result is multiplied by: 1 ÷ √block as float32. */
export function hadamardScale(block: number): number {
  return Math.fround(1 / Math.sqrt(block));
}

/** Multiplies every block of a row by the orthonormal Walsh–Hadamard matrix, in place; it is its own inverse. Rounded to float32. */
export function hadamard(values: Float32Array, block: number): void {
  const scale = hadamardScale(block);
  for (let begin = 0; begin < values.length; begin += block) {
    for (let half = 1; half < block; half *= 2) {
      for (let i = begin; i < begin + block; i += 2 * half) {
        for (let j = i; j < i + half; j++) {
          const a = values[j];
          const b = values[j + half];
          values[j] = a + b;
          values[j + half] = a - b;
        }
      }
    }
    for (let i = begin; i < begin + block; i++) values[i] *= scale;
  }
}
