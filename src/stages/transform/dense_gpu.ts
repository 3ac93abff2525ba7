/**
 * Dense layers on a GPU: what lies between two layers stays on the device.
 *
 * @module
 */
import { type Backend, type DeviceBuffer, paddedLength } from "../../backend/backend.ts";
import type { DeviceLayer, GpuDense } from "../../backend/gpu/dense.ts";
import { toHalves } from "../../cache/elements.ts";
import { encodeLatents, type Int8Rows } from "../quantize/latent_int8.ts";
import { withScratch } from "../scratch.ts";
import type { DenseLayer, HalvesOptions, RowBlocks, RowElements, RowNet } from "./dense.ts";
import { floatsOf, joinBlocks, splitBlocks } from "./row_elements.ts";

/** What every WebGPU device binds, twice. */
const SLICE_BYTES = 1 << 26;

/** The layers on one device. */
export class GpuNet implements RowNet {
  readonly #backend: Backend;
  readonly #dense: GpuDense;
  readonly #sliceBytes: number;
  readonly #layers: readonly { readonly layer: DeviceLayer; readonly slope: number }[];

  /** `sliceBytes`: of the widest rows that are on the device at once, unless a single row has more. */
  constructor(backend: Backend, dense: GpuDense, layers: readonly DenseLayer[], sliceBytes: number = SLICE_BYTES) {
    this.#backend = backend;
    this.#sliceBytes = sliceBytes;
    this.#dense = dense;
    this.#layers = layers.map(({ weights, bias, inputs, outputs, slope }) => ({
      layer: dense.uploadLayer(weights, bias, inputs, outputs),
      slope: Math.fround(slope),
    }));
  }

  async run(elements: RowElements | Int8Rows, { from = 1, into = 1 }: RowBlocks = {}): Promise<Float32Array> {
    const widths = [this.#layers[0].layer.inputs, ...this.#layers.map(({ layer }) => layer.outputs)];
    const [inputs, outputs] = [widths[0], widths[widths.length - 1]];
    const rows = joinBlocks(floatsOf(elements, inputs), from, inputs);
    const count = rows.length / inputs;
    const step = Math.max(1, Math.floor(this.#sliceBytes / (4 * paddedLength(Math.max(...widths)))));
    const out = new Float32Array(count * outputs);
    for (let begin = 0; begin < count; begin += step) {
      const end = Math.min(count, begin + step);
      const part = rows.subarray(begin * inputs, end * inputs);
      narrow(await this.#slice(part, end - begin), outputs, out.subarray(begin * outputs, end * outputs));
    }
    return splitBlocks(out, into, outputs);
  }

  async runToHalves(rows: RowElements | Int8Rows, options: HalvesOptions = {}): Promise<Uint16Array> {
    return toHalves(await this.run(rows, options), options.saturate);
  }

  async runToInt8(rows: RowElements, blocks: Pick<RowBlocks, "from"> = {}): Promise<Int8Rows> {
    return encodeLatents(await this.run(rows, blocks), this.#layers[this.#layers.length - 1].layer.outputs);
  }

  [Symbol.dispose](): void {
    for (const { layer } of this.#layers) layer.free();
  }

  /** Results of some rows, padded. */
  async #slice(rows: Float32Array, count: number): Promise<Float32Array> {
    return await withScratch(this.#backend, async (scratch) => {
      let from: DeviceBuffer = scratch.upload(widen(rows, this.#layers[0].layer.inputs));
      let bytes = 0;
      for (const { layer, slope } of this.#layers) {
        bytes = count * paddedLength(layer.outputs) * 4;
        const to = scratch.alloc(bytes);
        this.#dense.run(layer, from, count, slope, to);
        from = to;
      }
      return new Float32Array((await this.#backend.read(from, 0, bytes)).buffer);
    });
  }
}

/** Rows of `length` with zeros behind, as kernels take them. */
function widen(rows: Float32Array, length: number): Float32Array {
  const stride = paddedLength(length);
  if (stride === length) return rows;
  const count = rows.length / length;
  const out = new Float32Array(count * stride);
  for (let r = 0; r < count; r++) out.set(rows.subarray(r * length, (r + 1) * length), r * stride);
  return out;
}

/** The inverse of {@linkcode widen}. */
function narrow(rows: Float32Array, length: number, to: Float32Array): void {
  const stride = paddedLength(length);
  if (stride === length) return to.set(rows);
  const count = to.length / length;
  for (let r = 0; r < count; r++) to.set(rows.subarray(r * stride, r * stride + length), r * length);
}
