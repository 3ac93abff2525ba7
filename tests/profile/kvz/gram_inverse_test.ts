import { assert, assertAlmostEquals } from "deno-std/assert";
import { invertGram } from "../../../src/profile/kvz/gram_inverse.ts";

/** Rows of pseudo-random numbers, and their Gram matrix. */
function gramOf(n: number, length: number): Float64Array {
  const rows = Float64Array.from({ length: n * length }, (_, i) => Math.sin(1 + i * i));
  return Float64Array.from({ length: n * n }, (_, at) => {
    const [i, j] = [Math.floor(at / n), at % n];
    let sum = 0;
    for (let k = 0; k < length; k++) sum += rows[i * length + k] * rows[j * length + k];
    return sum / length;
  });
}

for (const [n, length] of [[1, 3], [2, 9], [40, 160]]) {
  Deno.test(`the inverse of the Gram matrix of ${n} rows times it is the identity`, () => {
    const gram = gramOf(n, length);
    const inverse = invertGram(gram, n);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let k = 0; k < n; k++) sum += inverse[i * n + k] * gram[k * n + j];
        // The ridge of 1e-4 is part of it.
        assertAlmostEquals(sum, Number(i === j), 0.01);
      }
    }
  });
}

Deno.test("rows that are nothing, or the same, give numbers", () => {
  for (const gram of [[0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 2, 2, 1]]) {
    const n = Math.sqrt(gram.length);
    assert(invertGram(gram, n).every((value) => Math.abs(value) <= 1e9), JSON.stringify(gram));
  }
});
