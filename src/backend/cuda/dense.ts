/**
 * Dense layers on a CUDA device (cuda/dense.cu).
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { type DeviceBuffer, paddedLength } from "../backend.ts";
import type { DeviceLayer, GpuDense } from "../gpu/dense.ts";
import { paddedLayer, requireLayerRun } from "../gpu/dense_check.ts";
import type { CudaBuffer, CudaDevice } from "./device.ts";

class CudaLayer implements DeviceLayer {
  readonly device: CudaDevice;
  readonly inputs: number;
  readonly outputs: number;
  readonly weights: CudaBuffer;
  readonly bias: CudaBuffer;

  constructor(device: CudaDevice, weights: Float32Array, bias: Float32Array | null, inputs: number, outputs: number) {
    this.device = device;
    this.inputs = inputs;
    this.outputs = outputs;
    const padded = paddedLayer(weights, bias, inputs, outputs);
    this.weights = device.alloc(Math.max(16, padded.weights.byteLength));
    this.bias = device.alloc(Math.max(16, padded.bias.byteLength));
    device.write(this.weights, padded.weights);
    device.write(this.bias, padded.bias);
  }

  free(): void {
    this.weights.free();
    this.bias.free();
  }
}

/** The kernel on one device. */
export class CudaDense implements GpuDense {
  readonly #device: CudaDevice;

  constructor(device: CudaDevice) {
    this.#device = device;
  }

  uploadLayer(weights: Float32Array, bias: Float32Array | null, inputs: number, outputs: number): DeviceLayer {
    return new CudaLayer(this.#device, weights, bias, inputs, outputs);
  }

  run(layer: DeviceLayer, rows: DeviceBuffer, count: number, slope: number, out: DeviceBuffer): void {
    if (!(layer instanceof CudaLayer) || layer.device !== this.#device) {
      throw new KvzBackendError("Cannot use a layer: it belongs to another backend");
    }
    requireLayerRun(layer, rows, count, slope, out);
    const [depth, columns] = [layer.inputs, layer.outputs].map((n) => paddedLength(n) / 4);
    this.#device.launch("dense", "denseLayer", {
      grid: [Math.ceil(count / 64), Math.ceil(columns / 16), 1],
      block: [256, 1, 1],
    }, [
      rows,
      layer.weights,
      layer.bias,
      ...[count, depth, columns].map((u32) => ({ u32 })),
      { f32: slope },
      out,
    ]);
  }

  /** IEEE's rounding and small numbers are CUDA's own, and nothing is fused that is not asked for. */
  exact(): Promise<boolean> {
    return Promise.resolve(true);
  }
}
