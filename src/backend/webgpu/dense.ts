/**
 * Dense layers on WebGPU (wgsl/dense.wgsl).
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { DeviceLimitError } from "../fallback.ts";
import { type DeviceBuffer, paddedLength } from "../backend.ts";
import type { DeviceLayer, GpuDense } from "../gpu/dense.ts";
import { paddedLayer, requireLayerRun } from "../gpu/dense_check.ts";
import type { WebGpuBuffer } from "./buffer.ts";
import { tryDense } from "./dense_trial.ts";
import type { WebGpuDevice } from "./device.ts";
import { dense } from "./shaders/dense.ts";

/** Rows of a tile, and vectors of its columns. */
const TILE = 64;
const TILE_COLUMNS = 16;

/** Neighbouring columns of a layer, in buffers of their own. */
interface Slab {
  /** First column and columns, in vectors of four. */
  readonly begin: number;
  readonly columns: number;
  readonly weights: WebGpuBuffer;
  readonly bias: WebGpuBuffer;
}

class WebGpuLayer implements DeviceLayer {
  readonly device: WebGpuDevice;
  readonly inputs: number;
  readonly outputs: number;
  readonly slabs: readonly Slab[];

  /** `most`: vectors of columns that the weights of a slab may have. */
  constructor(
    device: WebGpuDevice,
    weights: Float32Array,
    bias: Float32Array | null,
    inputs: number,
    outputs: number,
    most: number,
  ) {
    this.device = device;
    this.inputs = inputs;
    this.outputs = outputs;
    const padded = paddedLayer(weights, bias, inputs, outputs);
    const total = paddedLength(outputs) / 4;
    const slabs: Slab[] = [];
    for (let begin = 0; begin < total; begin += most) {
      const columns = Math.min(most, total - begin);
      slabs.push({
        begin,
        columns,
        weights: uploaded(device, columnsOf(padded.weights, total * 4, begin * 4, columns * 4)),
        bias: uploaded(device, padded.bias.subarray(begin * 4, (begin + columns) * 4)),
      });
    }
    this.slabs = slabs;
  }

  free(): void {
    for (const { weights, bias } of this.slabs) {
      weights.free();
      bias.free();
    }
  }
}

function uploaded(device: WebGpuDevice, numbers: Float32Array): WebGpuBuffer {
  const buffer = device.alloc(numbers.byteLength);
  device.write(buffer, numbers, 0);
  return buffer;
}

/** Columns [begin, begin + columns) of rows of `stride` numbers. */
function columnsOf(matrix: Float32Array, stride: number, begin: number, columns: number): Float32Array {
  if (columns === stride) return matrix;
  const out = new Float32Array(matrix.length / stride * columns);
  for (let from = begin, at = 0; at < out.length; from += stride, at += columns) {
    out.set(matrix.subarray(from, from + columns), at);
  }
  return out;
}

/** The kernel on one device. */
export class WebGpuDense implements GpuDense {
  readonly #device: WebGpuDevice;
  #exact: Promise<boolean> | null = null;

  constructor(device: WebGpuDevice) {
    this.#device = device;
  }

  /** @throws {KvzLimitError} when the device cannot bind the weights of four outputs. */
  uploadLayer(weights: Float32Array, bias: Float32Array | null, inputs: number, outputs: number): DeviceLayer {
    const bytes = paddedLength(inputs) * 16;
    const most = bytes === 0 ? TILE_COLUMNS : Math.floor(this.#device.mostBytes / bytes);
    if (most === 0) {
      throw new DeviceLimitError(
        `Cannot bind ${bytes} bytes of weights: this WebGPU device binds at most ${this.#device.mostBytes}`,
      );
    }
    const whole = most < TILE_COLUMNS ? most : most - most % TILE_COLUMNS;
    return new WebGpuLayer(this.#device, weights, bias, inputs, outputs, whole);
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
      throw new DeviceLimitError(
        `Cannot bind a row of ${rowBytes} bytes: this WebGPU device binds at most ${mostBytes}`,
      );
    }
    for (let at = 0; at < count; at += most) {
      const end = Math.min(count, at + most);
      const from = this.#device.range(rows, at * depth * 16, end * depth * 16);
      const to = this.#device.range(out, at * columns * 16, end * columns * 16);
      for (const slab of layer.slabs) {
        this.#device.dispatch({
          shader: dense,
          entry: "layer",
          buffers: [from.range, slab.weights, slab.bias, to.range],
          uniforms: Uint32Array.of(
            end - at,
            depth,
            slab.columns,
            from.skip / 16,
            to.skip / 16 + slab.begin,
            new Uint32Array(Float32Array.of(slope).buffer)[0],
            0,
            columns,
          ),
          workgroups: [Math.ceil((end - at) / TILE), Math.ceil(slab.columns / TILE_COLUMNS), 1],
        });
      }
    }
  }

  exact(): Promise<boolean> {
    return this.#exact ??= tryDense(this.#device, this);
  }
}
