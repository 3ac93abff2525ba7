/**
 * Dense layers on a GPU, with the bits of the host's (src/stages/transform/dense.ts): every sum runs from the
 * first to the last of its terms, each product and each sum rounded to float32 by itself.
 *
 * @module
 */
import type { DeviceBuffer } from "../backend.ts";

/** Weights and biases of a layer on the device. */
export interface DeviceLayer {
  readonly inputs: number;
  readonly outputs: number;
  free(): void;
}

/** The kernels. Calls enqueue, but for `exact`. */
export interface GpuDense {
  /** Uploads weights [inputs][outputs] and biases [outputs], or none. */
  uploadLayer(weights: Float32Array, bias: Float32Array | null, inputs: number, outputs: number): DeviceLayer;

  /**
   * out[r][j] = f(Σ_i rows[r][i] · weights[i][j] + bias[j]), f(v) = v < 0 ? v · slope : v; slope is a float32, 1 for none.
   * Rows have stride paddedLength(inputs), padding zero; `out` paddedLength(outputs), padding written as zero.
   */
  run(layer: DeviceLayer, rows: DeviceBuffer, count: number, slope: number, out: DeviceBuffer): void;

  /**
   * Whether this device gives those bits. CUDA promises them. WGSL leaves it to the device whether small numbers become
   * zero and how a sum is rounded, so WebGPU tries once and remembers. Where they differ, stages compute on the host.
   */
  exact(): Promise<boolean>;
}
