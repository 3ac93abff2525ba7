/**
 * The attention sinks: the oldest tokens, kept in FP8 (KVTC B.15) because coding them like the rest costs accuracy
 * (paper, Table 6). E4M3 with one fp16 scale for each (layer, head) of keys and of values over all sink tokens; keys
 * with RoPE undone, so that they can be restored at other positions like every other token.
 *
 * Stream: scales u16 [layers · heads], then codes u8 [layers · heads][tokens][dim].
 *
 * @module
 */
import { type Backend, type BlockShape, type DeviceBuffer, paddedLength } from "../../backend/backend.ts";
import { rotationTable } from "../../cache/rope.ts";
import { BYTES_PER_ELEMENT, type DType, type RopeSpec } from "../../cache/types.ts";
import { findNonFinite } from "../../cache/finite.ts";
import { KvzFormatError, KvzUnsupportedError } from "../../errors.ts";
import { type Scratch, withScratch } from "../scratch.ts";
import type { ChunkContext, Stage } from "../stage.ts";

/** Geometry of one kind. */
export interface SinkGeometry {
  readonly layers: number;
  readonly heads: number;
  readonly dim: number;
  readonly dtype: DType;
  readonly rope: RopeSpec | null;
}

/** Layout alone. */
const PLAIN = { dtype: "f32", rotaryDim: 0 } as const;

/** Sinks of one kind: source elements [layers][heads][tokens][dim] ↔ one byte stream. */
export class SinkStage implements Stage<Uint8Array, Uint8Array> {
  readonly name = "sinks";
  readonly #backend: Backend;
  readonly #geometry: SinkGeometry;

  constructor(backend: Backend, geometry: SinkGeometry) {
    this.#backend = backend;
    this.#geometry = geometry;
  }

  /** Stream length for a number of sink tokens. */
  byteLength(tokens: number): number {
    const { layers, heads, dim } = this.#geometry;
    return layers * heads * (2 + tokens * dim);
  }

  /** @throws {KvzUnsupportedError} Elements are too large for FP8 with a scale in binary16. */
  async encode(x: Uint8Array | DeviceBuffer, ctx: ChunkContext): Promise<Uint8Array> {
    const { layers, heads, dim, rope } = this.#geometry;
    const blocks = layers * heads;
    const { tokens } = ctx;
    const count = blocks * tokens * dim;
    return await withScratch(this.#backend, async (scratch) => {
      const backend = this.#backend;
      const shape = this.#shape(blocks, tokens);
      const rotation = rope === null ? null : scratch.upload(rotationTable(rope, ctx.positions, "undo"));
      const rows = scratch.alloc(paddedLength(blocks * dim) * tokens * 4);
      backend.gather(x instanceof Uint8Array ? scratch.upload(x) : x, shape, rotation, null, rows);
      // Rows are [token][block][dim]; scales are per block over all tokens, so blocks come to the front again.
      const byBlock = scratch.alloc(4 * count);
      backend.scatter(rows, { ...shape, ...PLAIN }, null, null, byBlock);
      const [codes, scales] = [scratch.alloc(count), scratch.alloc(blocks * 2)];
      backend.encodeFp8(byBlock, blocks, tokens * dim, codes, scales);
      const scaleBytes = await backend.read(scales, 0, blocks * 2);
      const large = findNonFinite(scaleBytes, "f16");
      if (large >= 0) {
        throw new KvzUnsupportedError(
          `Cannot keep sinks: elements of layer ${Math.floor(large / heads)}, head ${
            large % heads
          } are too large for ` +
            "FP8 with a scale in binary16, at most 2.9 · 10^7",
        );
      }
      const out = new Uint8Array(this.byteLength(tokens));
      out.set(scaleBytes);
      out.set(await backend.read(codes, 0, count), blocks * 2);
      return out;
    });
  }

  /**
   * @throws {KvzFormatError} wrong stream length, or a scale or code that is not finite.
   */
  async decode(y: Uint8Array, ctx: ChunkContext): Promise<Uint8Array> {
    const { heads, dim, dtype } = this.#geometry;
    const bytes = (ctx.layerEnd - ctx.layerBegin) * heads * ctx.tokens * dim * BYTES_PER_ELEMENT[dtype];
    return await withScratch(this.#backend, async (scratch) => {
      const out = scratch.alloc(bytes);
      this.#decodeTo(scratch, y, ctx, out);
      return await this.#backend.read(out, 0, bytes);
    });
  }

  /** Like {@linkcode decode}, into device memory; enqueues. */
  async decodeTo(y: Uint8Array, ctx: ChunkContext, to: DeviceBuffer): Promise<void> {
    await withScratch(this.#backend, (scratch) => this.#decodeTo(scratch, y, ctx, to));
  }

  #decodeTo(scratch: Scratch, y: Uint8Array, ctx: ChunkContext, to: DeviceBuffer): void {
    const { layers, heads, dim, rope } = this.#geometry;
    const { tokens } = ctx;
    const wanted = this.byteLength(tokens);
    if (y.length !== wanted) {
      throw new KvzFormatError(`Cannot decode sinks: the stream has ${y.length} bytes, expected ${wanted}`);
    }
    const scaleBytes = y.slice(0, layers * heads * 2);
    const codeBytes = y.subarray(layers * heads * 2);
    requireFinite(scaleBytes, codeBytes);
    const backend = this.#backend;
    const blocks = (ctx.layerEnd - ctx.layerBegin) * heads;
    const first = ctx.layerBegin * heads;
    const perBlock = tokens * dim;
    const byBlock = scratch.alloc(blocks * perBlock * 4);
    const scales = scratch.upload(scaleBytes.subarray(first * 2, (first + blocks) * 2));
    const codes = scratch.upload(codeBytes.subarray(first * perBlock, (first + blocks) * perBlock));
    backend.decodeFp8(codes, scales, blocks, perBlock, byBlock);
    const shape = this.#shape(blocks, tokens);
    const rows = scratch.alloc(paddedLength(blocks * dim) * tokens * 4);
    backend.gather(byBlock, { ...shape, ...PLAIN }, null, null, rows);
    const rotation = rope === null ? null : scratch.upload(rotationTable(rope, ctx.positions, "redo"));
    backend.scatter(rows, shape, rotation, null, to);
  }

  #shape(blocks: number, tokens: number): BlockShape {
    const { dim, dtype, rope } = this.#geometry;
    return { dtype, blocks, tokens, dim, rotaryDim: rope?.dim ?? 0 };
  }
}

function requireFinite(scales: Uint8Array, codes: Uint8Array): void {
  for (let i = 1; i < scales.length; i += 2) {
    if ((scales[i] & 0x7c) === 0x7c) throw new KvzFormatError("Cannot decode sinks: a scale is not finite");
  }
  for (const code of codes) {
    if ((code & 0x7f) === 0x7f) throw new KvzFormatError("Cannot decode sinks: a fp8 code is NaN");
  }
}
