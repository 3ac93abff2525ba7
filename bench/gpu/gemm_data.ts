/**
 * Operands of the products that are timed: a pattern again and again, since random numbers take longer than the products.
 *
 * @module
 */

/** Fills an array with copies of a pattern. */
export function repeat<T extends Uint16Array | Int8Array>(array: T, pattern: T): T {
  array.set(pattern.subarray(0, array.length) as never);
  for (let done = pattern.length; done < array.length; done *= 2) array.copyWithin(done, 0, done);
  return array;
}

/** Basis entries of the integer transform, −63 … 63. */
export function integerBasis(length: number): Int8Array {
  const pattern = Int8Array.from({ length: 127 * 127 }, (_, i) => (i * 37 + (i >> 7)) % 127 - 63);
  return repeat(new Int8Array(length), pattern);
}
