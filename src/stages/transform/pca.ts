/**
 * KVTC's transform: undo RoPE (keys), subtract the calibration mean, project on the cross-layer PCA basis (paper §3.1):
 * D = (X − µ) Vᵀ; back: X̂ = D V + µ, RoPE redone. All layers and heads of a token form one row of p features.
 *
 * @module
 */
import { type Backend, type DeviceBasis, type DeviceBuffer, paddedLength } from "../../backend/backend.ts";
import { rotationTable } from "../../cache/rope.ts";
import { BYTES_PER_ELEMENT, type DType, type RopeSpec } from "../../cache/types.ts";
import type { ChunkContext, DeviceStage } from "../stage.ts";

/** Artefact and geometry of the transform for one kind. */
export interface PcaArtefact {
  readonly layers: number;
  readonly heads: number;
  readonly dim: number;
  /** Source element type, and that of the output on decode. */
  readonly dtype: DType;
  /** RoPE of the keys; null for values. */
  readonly rope: RopeSpec | null;
  /** [layers · heads · dim]. */
  readonly mean: Float32Array;
  /** Binary16 [components][layers · heads · dim]. */
  readonly basis: Uint16Array;
  readonly components: number;
}

/** Coefficients of a chunk on the device: f32 [tokens][stride]. */
export interface Coefficients {
  readonly buffer: DeviceBuffer;
  readonly stride: number;
}

/**
 * The transform stage. `encode` takes source elements [layers][heads][tokens][dim] and returns coefficients in a buffer
 * that the stage reuses for the next chunk; `decode` restores the layers that the context asks for.
 */
export class PcaTransform implements DeviceStage<Uint8Array, Coefficients> {
  readonly name = "pca";
  readonly #backend: Backend;
  /** Without the basis: once it is on the device, the host's copy may go. */
  readonly #artefact: Omit<PcaArtefact, "basis">;
  readonly #basis: DeviceBasis;
  readonly #mean: DeviceBuffer;
  readonly #stride: number;
  #scratch: { tokens: number; source: DeviceBuffer; coefficients: DeviceBuffer } | null = null;

  constructor(backend: Backend, artefact: PcaArtefact) {
    this.#backend = backend;
    const { basis, ...rest } = artefact;
    this.#artefact = rest;
    const { layers, heads, dim, components, mean } = rest;
    this.#basis = backend.uploadBasis(basis, components, layers * heads * dim);
    this.#mean = backend.alloc(mean.byteLength);
    backend.write(this.#mean, mean);
    this.#stride = paddedLength(components);
  }

  /** @param components the leading ones that are wanted, a multiple of 8 or all */
  encode(
    x: Uint8Array | DeviceBuffer,
    ctx: ChunkContext,
    components: number = this.#artefact.components,
  ): Coefficients {
    const { layers, heads, dim, dtype, rope } = this.#artefact;
    const { source: own, coefficients } = this.#buffers(ctx.tokens);
    const rotation = this.#rotation(ctx.positions, "undo");
    const source = x instanceof Uint8Array ? own : x;
    if (x instanceof Uint8Array) this.#backend.write(source, x);
    const shape = { dtype, blocks: layers * heads, tokens: ctx.tokens, dim, rotaryDim: rope?.dim ?? 0 };
    this.#backend.gatherProject(source, shape, rotation, this.#mean, this.#basis, coefficients, components);
    rotation?.free();
    return { buffer: coefficients, stride: paddedLength(components) };
  }

  async decode(y: Coefficients, ctx: ChunkContext): Promise<Uint8Array> {
    const { heads, dim, dtype } = this.#artefact;
    const { source } = this.#buffers(ctx.tokens);
    this.decodeTo(y, ctx, source);
    const blocks = (ctx.layerEnd - ctx.layerBegin) * heads;
    return await this.#backend.read(source, 0, blocks * ctx.tokens * dim * BYTES_PER_ELEMENT[dtype]);
  }

  /** Like {@linkcode decode}, into device memory; enqueues. */
  decodeTo(y: Coefficients, ctx: ChunkContext, to: DeviceBuffer): void {
    const { heads, dim, dtype, rope } = this.#artefact;
    const begin = ctx.layerBegin * heads * dim;
    const end = ctx.layerEnd * heads * dim;
    const blocks = (ctx.layerEnd - ctx.layerBegin) * heads;
    const shape = { dtype, blocks, tokens: ctx.tokens, dim, rotaryDim: rope?.dim ?? 0 };
    const rotation = this.#rotation(ctx.positions, "redo");
    const whole = blocks * dim === this.#artefact.mean.length;
    const mean = whole ? this.#mean : this.#backend.alloc((end - begin) * 4);
    if (!whole) this.#backend.write(mean, this.#artefact.mean.subarray(begin, end));
    this.#backend.reconstructScatter(y.buffer, this.#basis, begin, shape, rotation, mean, to);
    rotation?.free();
    if (!whole) mean.free();
  }

  /** The coefficient buffer for a chunk of `tokens`, for a later stage's decode to write into. */
  coefficients(tokens: number): Coefficients {
    return { buffer: this.#buffers(tokens).coefficients, stride: this.#stride };
  }

  [Symbol.dispose](): void {
    this.#basis.free();
    this.#mean.free();
    this.#freeScratch();
  }

  #rotation(positions: Int32Array, direction: "undo" | "redo"): DeviceBuffer | null {
    const { rope } = this.#artefact;
    if (rope === null) return null;
    const table = rotationTable(rope, positions, direction);
    const buffer = this.#backend.alloc(table.byteLength);
    this.#backend.write(buffer, table);
    return buffer;
  }

  /** Scratch for up to `tokens` tokens, kept between chunks. */
  #buffers(tokens: number): { source: DeviceBuffer; coefficients: DeviceBuffer } {
    if (this.#scratch !== null && this.#scratch.tokens >= tokens) return this.#scratch;
    this.#freeScratch();
    const { layers, heads, dim, dtype } = this.#artefact;
    const features = layers * heads * dim;
    this.#scratch = {
      tokens,
      source: this.#backend.alloc(features * tokens * BYTES_PER_ELEMENT[dtype]),
      coefficients: this.#backend.alloc(this.#stride * tokens * 4),
    };
    return this.#scratch;
  }

  #freeScratch(): void {
    this.#scratch?.source.free();
    this.#scratch?.coefficients.free();
    this.#scratch = null;
  }
}
