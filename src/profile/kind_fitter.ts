/**
 * Calibration of one kind: rows in, statistics or a fitted basis with its error table out. Keys and values have one
 * each, in two workers where there are threads for them.
 *
 * @module
 */
import { type Backend, type DeviceBuffer, paddedLength } from "../backend/backend.ts";
import { CalibrateKernels } from "../backend/wasm/calibrate_kernels.ts";
import type { WasmBuild } from "../backend/wasm/exports.ts";
import { f16ToNumber, numberToF16 } from "../cache/elements.ts";
import { findNonFinite } from "../cache/finite.ts";
import { BYTES_PER_ELEMENT, type DType, type Kind } from "../cache/types.ts";
import { KvzUnsupportedError } from "../errors.ts";
import type { Progress } from "./eigen.ts";
import { ErrorTableBuilder } from "./error_table.ts";
import { GramAccumulator, type Moments } from "./gram.ts";
import { exactSvd, type PrincipalComponents, randomizedSvd } from "./svd.ts";
import type { ErrorTable, KindProfile } from "./types.ts";

/** Geometry of one kind. */
export interface FitterSetup {
  readonly kind: Kind;
  readonly layers: number;
  readonly heads: number;
  readonly dim: number;
}

/** A run of tokens of one sequence. */
export interface RowBlock {
  /** Little-endian [layers][heads][tokens][dim], as CacheSource.read gives it. */
  readonly bytes: Uint8Array;
  readonly dtype: DType;
  readonly tokens: number;
  /** Rotation that undoes RoPE (rotationTable), or null. */
  readonly rotation: Float32Array | null;
  /** Leading dimensions that are rotated; 0 without rotation. */
  readonly rotaryDim: number;
  /** For each token the slot of the sample that it goes to, or −1. */
  readonly slots: Int32Array;
  /** Positions of the tokens. */
  readonly positions: Int32Array;
  /** Name of the sequence and its token at the block's beginning, for messages. */
  readonly name: string;
  readonly firstToken: number;
}

/** Statistics of one kind: what a partial file holds. */
export interface KindStatistics {
  /** Count, mean and co-moments. */
  readonly moments: Moments;
  /** Sampled rows as binary16 bits, [rows][features], in the order of their priorities. */
  readonly sample: Uint16Array;
}

/** How to fit. */
export interface FitOptions {
  readonly rank: number;
  readonly svd: "randomized" | "exact";
  readonly seed: number;
  /** Slots of the sample in the order of their priorities. */
  readonly order: Int32Array;
}

/** Rows projected at a time for the error table. */
const PROJECT_ROWS = 256;
/** Share of the decomposition in the time of a fit. */
const SVD_SHARE = 0.9;
/** Largest binary16 number. */
const F16_MAX = 65504;

/** The calibration of one kind, in this thread. */
export class KindFitter implements Disposable {
  readonly #setup: FitterSetup;
  readonly #features: number;
  readonly #backend: Backend;
  readonly #kernels: CalibrateKernels;
  readonly #gram: GramAccumulator;
  readonly #sample: Float32Array[] = [];
  readonly #buffers = new Map<string, DeviceBuffer>();

  private constructor(setup: FitterSetup, backend: Backend, kernels: CalibrateKernels) {
    this.#setup = setup;
    this.#features = setup.layers * setup.heads * setup.dim;
    this.#backend = backend;
    this.#kernels = kernels;
    this.#gram = new GramAccumulator(kernels, this.#features);
  }

  /** Takes over the backend: it is disposed of with the fitter. */
  static async open(
    setup: FitterSetup,
    backend: Backend,
    build: WasmBuild | "auto" = "auto",
  ): Promise<KindFitter> {
    return new KindFitter(setup, backend, await CalibrateKernels.open(build));
  }

  /**
   * Adds a run of tokens.
   *
   * @throws {KvzUnsupportedError} when a value is NaN or infinite; sequence, layer, head and token are named.
   */
  async add(block: RowBlock): Promise<void> {
    const { tokens, slots } = block;
    if (tokens === 0) return;
    this.#requireFinite(block);
    const stride = paddedLength(this.#features);
    const rows = await this.#gather(block);
    this.#gram.add(rows, tokens, stride);
    for (let t = 0; t < tokens; t++) {
      if (slots[t] >= 0) this.#sample[slots[t]] = rows.slice(t * stride, t * stride + this.#features);
    }
  }

  /** Adds the rows behind statistics; row i of their sample goes to slot `slots[i]`, or nowhere when that is −1. */
  merge({ moments, sample }: KindStatistics, slots: Int32Array): void {
    this.#gram.merge(moments);
    for (let i = 0; i < slots.length; i++) {
      if (slots[i] < 0) continue;
      const bits = sample.subarray(i * this.#features, (i + 1) * this.#features);
      this.#sample[slots[i]] = Float32Array.from(bits, f16ToNumber);
    }
  }

  /** The statistics so far. */
  statistics(order: Int32Array): KindStatistics {
    return { moments: this.#gram.moments(), sample: this.#sampleBits(order) };
  }

  /**
   * Fits the basis and measures the error table. The fitter is used up by it.
   *
   * @throws {KvzUnsupportedError} when values are too large for float32 sums of squares, or do not vary at all.
   * @throws {KvzLimitError} when the matrices do not fit a WebAssembly memory.
   */
  async fit(options: FitOptions, onProgress: Progress = () => {}): Promise<KindProfile> {
    const { count } = this.#gram;
    const features = this.#features;
    const { matrix, mean, trace } = this.#centre();
    const rank = Math.min(options.rank, features, count - 1);
    const report: Progress = (fraction) => onProgress(SVD_SHARE * fraction);
    const mark = this.#kernels.mark();
    const components: PrincipalComponents = options.svd === "exact"
      ? exactSvd(this.#kernels, matrix, rank, report)
      : randomizedSvd(this.#kernels, matrix, { rank, seed: options.seed, onProgress: report });
    const kept = components.values.length;
    if (kept === 0) throw new KvzUnsupportedError(`Cannot calibrate: all ${this.#setup.kind}s are equal`);
    const basis = new Uint16Array(kept * features);
    const vectors = this.#kernels.f64(components.vectors, kept * features);
    for (let i = 0; i < basis.length; i++) basis[i] = numberToF16(vectors[i]);
    this.#kernels.release(mark);

    const mean32 = Float32Array.from(mean);
    const table = await this.#errorTable(mean32, basis, kept, options.order, (fraction) => {
      onProgress(SVD_SHARE + (1 - SVD_SHARE) * fraction);
    });
    onProgress(1);
    return {
      features,
      components: kept,
      mean: mean32,
      basis,
      variance: Float32Array.from(components.values, (value) => value / count),
      totalVariance: trace / count,
      table,
    };
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#buffers.values()) buffer.free();
    this.#buffers.clear();
    this.#backend[Symbol.dispose]();
  }

  #centre(): ReturnType<GramAccumulator["centre"]> {
    try {
      return this.#gram.centre();
    } catch (cause) {
      throw new KvzUnsupportedError(`Cannot calibrate: ${this.#setup.kind}s are too large to be squared in float32`, {
        cause,
      });
    }
  }

  #requireFinite({ bytes, dtype, tokens, name, firstToken }: RowBlock): void {
    const index = findNonFinite(bytes, dtype);
    if (index < 0) return;
    const { kind, heads, dim } = this.#setup;
    const row = Math.floor(index / dim);
    const block = Math.floor(row / tokens);
    throw new KvzUnsupportedError(
      `Cannot calibrate on ${name}: ${kind} of layer ${Math.floor(block / heads)}, head ${block % heads}, token ${
        firstToken + row % tokens
      } holds NaN or infinity, expected finite numbers`,
    );
  }

  /** Rows with RoPE undone, float32 [tokens][paddedLength(features)]. */
  async #gather({ bytes, dtype, tokens, rotation, rotaryDim }: RowBlock): Promise<Float32Array> {
    const { layers, heads, dim } = this.#setup;
    const backend = this.#backend;
    const length = tokens * paddedLength(this.#features) * 4;
    const source = this.#upload("source", bytes);
    const turns = rotation === null ? null : this.#upload("rotation", rotation);
    const rows = this.#buffer("rows", length);
    backend.gather(source, { dtype, blocks: layers * heads, tokens, dim, rotaryDim }, turns, null, rows);
    return floats(await backend.read(rows, 0, length));
  }

  /** The sample as binary16 bits. Values beyond binary16, which no cache of a working model has, are saturated. */
  #sampleBits(order: Int32Array): Uint16Array {
    const bits = new Uint16Array(order.length * this.#features);
    for (let i = 0; i < order.length; i++) {
      const row = this.#sample[order[i]];
      const at = i * this.#features;
      for (let f = 0; f < row.length; f++) {
        bits[at + f] = numberToF16(Math.min(F16_MAX, Math.max(-F16_MAX, row[f])));
      }
    }
    return bits;
  }

  /** Projects the sample through the backend, as compression does, and measures every group on it. */
  async #errorTable(
    mean: Float32Array,
    basisBits: Uint16Array,
    components: number,
    order: Int32Array,
    onProgress: Progress,
  ): Promise<ErrorTable> {
    const backend = this.#backend;
    const features = this.#features;
    const stride = paddedLength(components);
    const sample = this.#sampleBits(order);
    const mark = this.#kernels.mark();
    const builder = new ErrorTableBuilder(this.#kernels, components);
    const basis = backend.uploadBasis(basisBits, components, features);
    const centre = this.#upload("mean", mean);
    const rows = this.#buffer("rows", PROJECT_ROWS * paddedLength(features) * 4);
    const coefficients = this.#buffer("coefficients", PROJECT_ROWS * stride * 4);
    for (let begin = 0; begin < order.length; begin += PROJECT_ROWS) {
      const tokens = Math.min(PROJECT_ROWS, order.length - begin);
      const source = this.#upload("source", sample.subarray(begin * features, (begin + tokens) * features));
      const shape = { dtype: "f16", blocks: 1, tokens, dim: features, rotaryDim: 0 } as const;
      backend.gather(source, shape, null, centre, rows);
      backend.project(rows, tokens, basis, coefficients);
      builder.add(floats(await backend.read(coefficients, 0, tokens * stride * 4)), tokens, stride);
      onProgress((begin + tokens) / order.length);
    }
    basis.free();
    const table = builder.finish();
    this.#kernels.release(mark);
    return table;
  }

  /** A device buffer of at least a size, kept for the next call. */
  #buffer(use: string, byteLength: number): DeviceBuffer {
    const old = this.#buffers.get(use);
    if (old !== undefined && old.byteLength >= byteLength) return old;
    old?.free();
    const buffer = this.#backend.alloc(byteLength);
    this.#buffers.set(use, buffer);
    return buffer;
  }

  #upload(use: string, data: ArrayBufferView): DeviceBuffer {
    const buffer = this.#buffer(use, data.byteLength);
    this.#backend.write(buffer, data);
    return buffer;
  }
}

/** Bytes of float32 values as such, without a copy where they are aligned. */
function floats(bytes: Uint8Array): Float32Array {
  const { buffer, byteOffset, byteLength } = bytes.byteOffset % BYTES_PER_ELEMENT.f32 === 0
    ? bytes
    : new Uint8Array(bytes);
  return new Float32Array(buffer, byteOffset, byteLength / BYTES_PER_ELEMENT.f32);
}
