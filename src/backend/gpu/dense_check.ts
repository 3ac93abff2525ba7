/**
 * Checks of arguments that the dense kernels of every GPU make alike, and how they have weights in memory.
 *
 * @module
 */
import { type DeviceBuffer, paddedLength } from "../backend.ts";
import { requireBytes, requireCounts } from "../check.ts";
import type { DeviceLayer } from "./dense.ts";

/**
 * Weights as [paddedLength(inputs)][paddedLength(outputs)] and biases as [paddedLength(outputs)], padded with zeros.
 *
 * @throws {RangeError} when there are not so many.
 */
export function paddedLayer(
  weights: Float32Array,
  bias: Float32Array | null,
  inputs: number,
  outputs: number,
): { readonly weights: Float32Array; readonly bias: Float32Array } {
  requireCounts("upload layer", { inputs, outputs });
  if (weights.length !== inputs * outputs || (bias !== null && bias.length !== outputs)) {
    throw new RangeError(
      `Cannot upload layer: it has ${weights.length} weights and ${bias?.length ?? "no"} biases, expected ` +
        `${inputs} × ${outputs} and ${outputs}`,
    );
  }
  const stride = paddedLength(outputs);
  const padded = new Float32Array(paddedLength(inputs) * stride);
  for (let i = 0; i < inputs; i++) padded.set(weights.subarray(i * outputs, (i + 1) * outputs), i * stride);
  const biases = new Float32Array(stride);
  if (bias !== null) biases.set(bias);
  return { weights: padded, bias: biases };
}

/** @throws {RangeError} when rows or results do not fit, or the slope is no float32. */
export function requireLayerRun(
  { inputs, outputs }: DeviceLayer,
  rows: DeviceBuffer,
  count: number,
  slope: number,
  out: DeviceBuffer,
): void {
  const what = "run layer";
  requireCounts(what, { count });
  if (Math.fround(slope) !== slope) {
    throw new RangeError(`Cannot ${what}: "slope" is ${slope}, expected a float32`);
  }
  requireBytes(what, "rows", rows.byteLength, count * paddedLength(inputs) * 4);
  requireBytes(what, "out", out.byteLength, count * paddedLength(outputs) * 4);
}
