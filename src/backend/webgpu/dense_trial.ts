/**
 * Whether a WebGPU device computes dense layers as the host does. The kernel keeps operations apart, so that nothing is
 * fused or added in another order; but WGSL leaves it to the device whether numbers below 2^-126 become zero, and which of
 * two neighbours a sum is rounded to. So the kernel itself is tried, on operands that tell: a device answers alike each
 * time, since the same code runs.
 *
 * @module
 */
import { paddedLength } from "../backend.ts";
import type { GpuDense } from "../gpu/dense.ts";
import type { WebGpuDevice } from "./device.ts";

const [ROWS, INPUTS, OUTPUTS] = [70, 37, 9];
/** A float32 that is no power of two. */
const SLOPE = Math.fround(0.01);

/** Runs the trial. */
export async function tryDense(device: WebGpuDevice, dense: GpuDense): Promise<boolean> {
  const { rows, weights, bias } = trialOperands();
  const layer = dense.uploadLayer(weights, bias, INPUTS, OUTPUTS);
  const [stride, columns] = [paddedLength(INPUTS), paddedLength(OUTPUTS)];
  const from = device.alloc(ROWS * stride * 4);
  const to = device.alloc(ROWS * columns * 4);
  try {
    const padded = new Float32Array(ROWS * stride);
    for (let r = 0; r < ROWS; r++) padded.set(rows.subarray(r * INPUTS, (r + 1) * INPUTS), r * stride);
    device.write(from, padded, 0);
    dense.run(layer, from, ROWS, SLOPE, to);
    const found = new Uint32Array((await device.read(to, 0, ROWS * columns * 4)).buffer);
    const wanted = new Uint32Array(trialResults(rows, weights, bias).buffer);
    return wanted.every((bits, i) => bits === found[Math.floor(i / OUTPUTS) * columns + i % OUTPUTS]);
  } finally {
    layer.free();
    from.free();
    to.free();
  }
}

/** Numbers of like size, whose sums cancel, and of sizes down to those whose products lie below 2^-126. */
function trialOperands(): { rows: Float32Array; weights: Float32Array; bias: Float32Array } {
  let state = 1;
  const next = () => {
    state = Math.imul(state, 1664525) + 1013904223 | 0;
    return state / 2 ** 31;
  };
  const sizes = [1, 2 ** -40, 2 ** -64, 2 ** -70, 2 ** -74];
  const rows = new Float32Array(ROWS * INPUTS).map((_, i) => next() * sizes[Math.floor(i / INPUTS) % sizes.length]);
  const weights = new Float32Array(INPUTS * OUTPUTS).map((_, i) => next() * (i % OUTPUTS < 5 ? 1 : 2 ** -63));
  const bias = new Float32Array(OUTPUTS).map((_, j) => j % 3 === 0 ? next() : 0);
  return { rows, weights, bias };
}

/** What the host gives: operation by operation, as `ReferenceNet` (src/stages/transform/dense_reference.ts). */
function trialResults(rows: Float32Array, weights: Float32Array, bias: Float32Array): Float32Array {
  const out = new Float32Array(ROWS * OUTPUTS);
  for (let r = 0; r < ROWS; r++) {
    for (let j = 0; j < OUTPUTS; j++) {
      let sum = 0;
      for (let i = 0; i < INPUTS; i++) {
        sum = Math.fround(sum + Math.fround(rows[r * INPUTS + i] * weights[i * OUTPUTS + j]));
      }
      sum = Math.fround(sum + bias[j]);
      out[r * OUTPUTS + j] = sum < 0 ? sum * SLOPE : sum;
    }
  }
  return out;
}
