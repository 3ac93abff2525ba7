/**
 * The joint transform on a GPU that multiplies integers: coefficients and levels stay on the device. Sums are exact, so that
 * the same elements are restored as by {@linkcode IntegerTransform}, up to the rounding of the rotation (docs/backends.md).
 *
 * @module
 */
import { type Backend, type BlockShape, type DeviceBuffer, paddedLength } from "../../backend/backend.ts";
import type { DeviceIntegerBasis, GpuInteger } from "../../backend/gpu/integer.ts";
import { type CoefficientBuffers, levelStride } from "../../backend/gpu/trellis.ts";
import { rotationTable } from "../../cache/rope.ts";
import { BYTES_PER_ELEMENT, type Kind } from "../../cache/types.ts";
import { Scratch } from "../scratch.ts";
import type { ChunkContext } from "../stage.ts";
import { requireFit } from "./integer.ts";
import { dimOf, featureRange, type IntegerBasis, type IntegerGeometry } from "./integer_basis.ts";
import { ForwardTransform } from "./integer_forward.ts";

/** Most bytes of sums at once: what every WebGPU device binds, with room for a layer more than fits. */
const SUM_BYTES = 96 << 20;

/** Coefficients as integers on the device: quarters i16 [tokens][levelStride(components)], and what a quarter is worth. */
export interface DeviceLevels {
  readonly quarters: DeviceBuffer;
  /** The leading ones of the basis, or all. */
  readonly components: number;
  readonly scale: number;
}

interface FeatureFacts {
  readonly scales: DeviceBuffer;
  readonly mean: DeviceBuffer;
}

/** The transform stage of one lane. */
export class GpuIntegerTransform implements Disposable {
  readonly #backend: Backend;
  readonly #kernels: GpuInteger;
  readonly #geometry: IntegerGeometry;
  readonly #forward: ForwardTransform | null;
  readonly #basis: DeviceIntegerBasis;
  readonly #scales: Float32Array;
  readonly #mean: Float32Array;
  readonly #facts = new Map<string, FeatureFacts>();

  /** @throws {RangeError} when basis and geometry do not fit together. */
  constructor(backend: Backend, kernels: GpuInteger, geometry: IntegerGeometry, basis: IntegerBasis) {
    requireFit(geometry, basis);
    this.#backend = backend;
    this.#kernels = kernels;
    this.#geometry = geometry;
    this.#forward = basis.forward ? new ForwardTransform(backend, geometry, basis, basis.forward) : null;
    this.#basis = kernels.uploadBasis(basis.basis, basis.components, basis.features);
    // A worker's copy of the setup ends with the constructor.
    this.#scales = basis.scales.slice();
    this.#mean = basis.mean.slice();
  }

  /**
   * Coefficients of a chunk, in buffers that are used again for the next one.
   *
   * @param sources elements [layers][heads][tokens][dim] of keys and of values
   * @param components the leading ones that are wanted; rows may have more
   * @throws {TypeError} when the basis came without its forward matrix
   */
  encode(
    sources: Readonly<Record<Kind, Uint8Array | DeviceBuffer>>,
    ctx: ChunkContext,
    components: number,
  ): CoefficientBuffers {
    if (this.#forward === null) throw new TypeError("Cannot encode: the basis has no forward matrix");
    const first = this.#forward.encode("key", sources.key, ctx, components);
    const second = this.#forward.encode("value", sources.value, ctx, components);
    return { first: first.buffer, second: second.buffer, stride: first.stride, gain: this.#forward.gain };
  }

  /** Restores layers [layerBegin, layerEnd) of a kind into `to`: elements [layers][heads][tokens][dim]. Enqueues. */
  decodeTo(levels: DeviceLevels, ctx: ChunkContext, kind: Kind, to: DeviceBuffer): void {
    const { tokens, positions, layerBegin, layerEnd } = ctx;
    const { heads, rope } = this.#geometry;
    const row = heads * dimOf(this.#geometry, kind);
    const most = Math.max(1, Math.floor(SUM_BYTES / (tokens * 4 * row)));
    const turns = kind === "key" && rope !== null ? rotationTable(rope, positions, "redo") : null;
    const scratch = new Scratch(this.#backend);
    try {
      const rotation = turns === null ? null : scratch.upload(turns);
      const tokenScales = scratch.upload(new Float32Array(tokens).fill(levels.scale));
      const whole = layerEnd - layerBegin <= most;
      for (let layer = layerBegin; layer < layerEnd; layer += most) {
        const end = Math.min(layer + most, layerEnd);
        const bytes = this.byteLength(kind, tokens, end - layer);
        const part = whole ? to : scratch.alloc(bytes);
        this.#restore(scratch, levels, ctx, kind, layer, end, tokenScales, rotation, part);
        if (!whole) this.#backend.copy(part, 0, to, this.byteLength(kind, tokens, layer - layerBegin), bytes);
      }
    } finally {
      scratch.free();
    }
  }

  /** Bytes of so many layers of a kind. */
  byteLength(kind: Kind, tokens: number, layers: number): number {
    const { heads, dtype } = this.#geometry;
    return layers * heads * tokens * dimOf(this.#geometry, kind) * BYTES_PER_ELEMENT[dtype];
  }

  [Symbol.dispose](): void {
    this.#forward?.[Symbol.dispose]();
    this.#basis.free();
    for (const { scales, mean } of this.#facts.values()) {
      scales.free();
      mean.free();
    }
    this.#facts.clear();
  }

  /** Scales and means of features, kept on the device. */
  #factsOf(begin: number, end: number): FeatureFacts {
    const key = `${begin} ${end}`;
    let facts = this.#facts.get(key);
    if (facts === undefined) {
      const upload = (values: Float32Array) => {
        const buffer = this.#backend.alloc(Math.max(16, values.byteLength));
        this.#backend.write(buffer, values);
        return buffer;
      };
      facts = { scales: upload(this.#scales.subarray(begin, end)), mean: upload(this.#mean.subarray(begin, end)) };
      this.#facts.set(key, facts);
    }
    return facts;
  }

  #restore(
    scratch: Scratch,
    { quarters, components }: DeviceLevels,
    { tokens }: ChunkContext,
    kind: Kind,
    layerBegin: number,
    layerEnd: number,
    tokenScales: DeviceBuffer,
    rotation: DeviceBuffer | null,
    to: DeviceBuffer,
  ): void {
    const { heads, rope, dtype } = this.#geometry;
    const [begin, end] = featureRange(this.#geometry, kind, layerBegin, layerEnd);
    const sums = scratch.alloc(tokens * paddedLength(end - begin) * 4);
    this.#kernels.multiply(this.#basis, quarters, levelStride(components), tokens, begin, end, sums);
    const shape: BlockShape = {
      dtype,
      blocks: (layerEnd - layerBegin) * heads,
      tokens,
      dim: dimOf(this.#geometry, kind),
      rotaryDim: rotation === null ? 0 : rope!.dim,
    };
    const { scales, mean } = this.#factsOf(begin, end);
    this.#kernels.scatterSums(sums, shape, scales, tokenScales, rotation, mean, to);
  }
}
