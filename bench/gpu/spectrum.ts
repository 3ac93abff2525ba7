/**
 * A spectrum for models whose calibration is not at hand, and the error table of coefficients that have it.
 *
 * @module
 */
import { CalibrateKernels } from "../../src/backend/wasm/calibrate_kernels.ts";
import type { Kind } from "../../src/cache/types.ts";
import { ErrorTableBuilder } from "../../src/profile/error_table.ts";
import type { ErrorTable } from "../../src/profile/types.ts";

/** Features of the model that was measured. */
const MEASURED = 5760;
/** Components whose variance was measured. */
const AT = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 384, 512, 768, 1024, 1280, 1536, 1792, 2047];
/** log2 of it: SmolLM2-135M, samples/smollm2-demo.kvzp. */
const LOG_VARIANCE: Readonly<Record<Kind, readonly number[]>> = {
  key: [
    ...[9.19, 8.93, 8.36, 7.66, 6.80, 5.94, 4.93, 3.87, 2.58],
    ...[1.19, 0.39, -0.20, -1.07, -1.75, -2.32, -2.84, -3.31, -3.85],
  ],
  value: [
    ...[7.35, 7.01, 6.92, 6.40, 5.92, 5.34, 4.70, 3.97, 2.98],
    ...[1.74, 0.92, 0.30, -0.67, -1.41, -2.01, -2.53, -3.00, -3.52],
  ],
};
/** Sample rows of a table. */
const ROWS = 32;
/** Rows that are drawn at once. */
const TOGETHER = 4;

/**
 * Variances of the leading components of a model of `features`: SmolLM2's, stretched to as many features, so that a
 * component has the variance of the one at its share of them. Straight lines through logarithms; beyond what was measured
 * the last line goes on.
 */
export function scaledVariance(kind: Kind, features: number, components: number): Float64Array {
  const logs = LOG_VARIANCE[kind];
  return Float64Array.from({ length: components }, (_, c) => {
    const at = Math.max(0, (c + 0.5) * MEASURED / features - 0.5);
    let i = 1;
    while (i < AT.length - 1 && AT[i] < at) i++;
    const [left, right, x] = [AT[i - 1], AT[i], at].map((n) => Math.log2(n + 1));
    return 2 ** (logs[i - 1] + (logs[i] - logs[i - 1]) * (x - left) / (right - left));
  });
}

/** The recipe's error table, measured on Gaussian coefficients of these variances. */
export async function gaussianTable(variance: Float64Array): Promise<ErrorTable> {
  const rank = variance.length;
  const builder = new ErrorTableBuilder(await CalibrateKernels.open("auto"), rank);
  const spread = variance.map(Math.sqrt);
  const rows = new Float32Array(TOGETHER * rank);
  for (let row = 0; row < ROWS; row += TOGETHER) {
    for (let i = 0; i < rows.length; i++) {
      const radius = Math.sqrt(-2 * Math.log(1 - Math.random()));
      rows[i] = spread[i % rank] * radius * Math.cos(2 * Math.PI * Math.random());
    }
    builder.add(rows, TOGETHER, rank);
  }
  return builder.finish();
}
