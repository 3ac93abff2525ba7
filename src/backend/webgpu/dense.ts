/**
 * Dense layers on WebGPU (wgsl/dense.wgsl).
 *
 * @module
 */
import { KvzBackendError, KvzLimitError } from "../../errors.ts";
import { type DeviceBuffer, paddedLength } from "../backend.ts";
import type { DeviceLayer, GpuDense } from "../gpu/dense.ts";
import { paddedLayer, requireLayerRun } from "../gpu/dense_check.ts";
import type { WebGpuBuffer } from "./buffer.ts";
import { tryDense } from "./dense_trial.ts";
import type { WebGpuDevice } from "./device.ts";
import { dense } from "./shaders/dense.ts";

/** Rows of a tile. */
const TILE = 64;

class WebGpuLayer implements DeviceLayer {
  readonly device: WebGpuDevice;
  readonly inputs: number;
  readonly outputs: number;
  readonly weights: WebGpuBuffer;
  readonly bias: WebGpuBuffer;

  constructor(device: WebGpuDevice, weights: Float32Array, bias: Float32Array | null, inputs: number, outputs: number) {
    this.device = device;
    this.inputs = inputs;
    this.outputs = outputs;
    const padded = paddedLayer(weights, bias, inputs, outputs);
    this.weights = device.alloc(padded.weights.byteLength);
    this.bias = device.alloc(padded.bias.byteLength);
    device.write(this.weights, padded.weights, 0);
    device.write(this.bias, padded.bias, 0);
  }

  free(): void {
    this.weights.free();
    this.bias.free();
  }
}

/** The kernel on one device. */
export class WebGpuDense implements GpuDense {
  readonly #device: WebGpuDevice;
  #exact: Promise<boolean> | null = null;

  constructor(device: WebGpuDevice) {
    this.#device = device;
  }

  /** @throws {KvzLimitError} when the device cannot bind the weights. */
  uploadLayer(weights: Float32Array, bias: Float32Array | null, inputs: number, outputs: number): DeviceLayer {
    const bytes = paddedLength(inputs) * paddedLength(outputs) * 4;
    if (bytes > this.#device.mostBytes) {
      throw new KvzLimitError(
        `Cannot bind ${bytes} bytes of weights: this WebGPU device binds at most ${this.#device.mostBytes}`,
      );
    }
    return new WebGpuLayer(this.#device, weights, bias, inputs, outputs);
  }

  run(layer: DeviceLayer, rows: DeviceBuffer, count: number, slope: number, out: DeviceBuffer): void {
    if (!(layer instanceof WebGpuLayer) || layer.device !== this.#device) {
      throw new KvzBackendError("Cannot use a layer: it belongs to another backend");
    }
    requireLayerRun(layer, rows, count, slope, out);
    const [depth, columns] = [layer.inputs, layer.outputs].map((n) => paddedLength(n) / 4);
    if (columns === 0) return;
    const { mostBytes, limits } = this.#device;
    const rowBytes = Math.max(depth, columns) * 16;
    const most = Math.min(Math.floor(mostBytes / rowBytes), limits.maxComputeWorkgroupsPerDimension * TILE);
    if (most === 0) {
      throw new KvzLimitError(`Cannot bind a row of ${rowBytes} bytes: this WebGPU device binds at most ${mostBytes}`);
    }
    for (let at = 0; at < count; at += most) {
      const end = Math.min(count, at + most);
      const from = this.#device.range(rows, at * depth * 16, end * depth * 16);
      const to = this.#device.range(out, at * columns * 16, end * columns * 16);
      this.#device.dispatch({
        shader: dense,
        entry: "layer",
        buffers: [from.range, layer.weights, layer.bias, to.range],
        uniforms: Uint32Array.of(
          end - at,
          depth,
          columns,
          from.skip / 16,
          to.skip / 16,
          new Uint32Array(Float32Array.of(slope).buffer)[0],
          0,
          0,
        ),
        workgroups: [Math.ceil((end - at) / TILE), Math.ceil(columns / 16), 1],
      });
    }
  }

  exact(): Promise<boolean> {
    return this.#exact ??= tryDense(this.#device, this);
  }
}
