/** The error table in plain float64 over the reference quantizer: the definition that the kernel is tested against. */
import { dequantizeCode, quantizeGroup } from "../../src/backend/reference/quantizer.ts";
import { GROUP_SIZES, GROUP_TYPES } from "../../src/profile/types.ts";

/** Squared error of quantizing some coefficients of one token as a group. */
export function groupError(values: Float32Array, type: 1 | 2 | 3): number {
  const { codes, shift, scale } = quantizeGroup(values, type);
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (values[i] - dequantizeCode(codes[i], type, shift, scale)) ** 2;
  return sum;
}

/** errors [rank][sizes][types] of coefficients [rows][rank]. */
export function errorTableReference(coefficients: Float32Array, rows: number, rank: number): Float64Array {
  const types = GROUP_TYPES.length;
  const errors = new Float64Array(rank * GROUP_SIZES.length * types).fill(Infinity);
  for (let i = 0; i < rank; i++) {
    GROUP_SIZES.forEach((size, s) => {
      if (size > i + 1) return;
      GROUP_TYPES.forEach((type, t) => {
        let sum = 0;
        for (let row = 0; row < rows; row++) {
          const end = row * rank + i + 1;
          sum += groupError(coefficients.subarray(end - size, end), type);
        }
        errors[(i * GROUP_SIZES.length + s) * types + t] = sum;
      });
    });
  }
  return errors;
}
