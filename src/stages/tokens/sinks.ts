/**
 * The attention sinks: the oldest tokens, kept in FP8 (KVTC B.15) because coding them like the rest costs accuracy
 * (paper, Table 6). E4M3 with one fp16 scale for each (layer, head) of keys and of values over all sink tokens; keys
 * with RoPE undone, so that they can be restored at other positions like every other token.
 *
 * Stream: scales u16 [layers · heads], then codes u8 [layers · heads][tokens][dim].
 *
 * @module
 */
import { type Backend, paddedLength } from "../../backend/backend.ts";
import { toFloat32 } from "../../cache/elements.ts";
import { rotationTable } from "../../cache/rope.ts";
import { BYTES_PER_ELEMENT, type DType, type RopeSpec } from "../../cache/types.ts";
import { findNonFinite } from "../../cache/finite.ts";
import { KvzFormatError, KvzUnsupportedError } from "../../errors.ts";
import { withScratch } from "../scratch.ts";
import type { ChunkContext, Stage } from "../stage.ts";

/** Geometry of one kind. */
export interface SinkGeometry {
  readonly layers: number;
  readonly heads: number;
  readonly dim: number;
  readonly dtype: DType;
  readonly rope: RopeSpec | null;
}

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
  async encode(x: Uint8Array, ctx: ChunkContext): Promise<Uint8Array> {
    const { layers, heads, dim } = this.#geometry;
    const blocks = layers * heads;
    const { tokens } = ctx;
    const rows = await this.#toRows(x, ctx);
    // Gather yields [token][block][dim]; FP8 scales are per block over all tokens, so bring blocks to the front.
    const byBlock = new Float32Array(blocks * tokens * dim);
    const stride = paddedLength(blocks * dim);
    for (let b = 0; b < blocks; b++) {
      for (let t = 0; t < tokens; t++) {
        byBlock.set(rows.subarray(t * stride + b * dim, t * stride + (b + 1) * dim), (b * tokens + t) * dim);
      }
    }
    const out = new Uint8Array(this.byteLength(tokens));
    await withScratch(this.#backend, async (scratch) => {
      const codes = scratch.alloc(blocks * tokens * dim);
      const scales = scratch.alloc(blocks * 2);
      this.#backend.encodeFp8(scratch.upload(byBlock), blocks, tokens * dim, codes, scales);
      const scaleBytes = await this.#backend.read(scales, 0, blocks * 2);
      const large = findNonFinite(scaleBytes, "f16");
      if (large >= 0) {
        throw new KvzUnsupportedError(
          `Cannot keep sinks: elements of layer ${Math.floor(large / heads)}, head ${
            large % heads
          } are too large for ` +
            "FP8 with a scale in binary16, at most 2.9 · 10^7",
        );
      }
      out.set(scaleBytes);
      out.set(await this.#backend.read(codes, 0, blocks * tokens * dim), blocks * 2);
    });
    return out;
  }

  /**
   * @throws {KvzFormatError} wrong stream length, or a scale or code that is not finite.
   */
  async decode(y: Uint8Array, ctx: ChunkContext): Promise<Uint8Array> {
    const { layers, heads, dim } = this.#geometry;
    const { tokens } = ctx;
    const wanted = this.byteLength(tokens);
    if (y.length !== wanted) {
      throw new KvzFormatError(`Cannot decode sinks: the stream has ${y.length} bytes, expected ${wanted}`);
    }
    const scaleBytes = y.slice(0, layers * heads * 2);
    const codeBytes = y.subarray(layers * heads * 2);
    requireFinite(scaleBytes, codeBytes);
    const blocks = (ctx.layerEnd - ctx.layerBegin) * heads;
    const first = ctx.layerBegin * heads;
    const perBlock = tokens * dim;
    const byBlock = await withScratch(this.#backend, async (scratch) => {
      const dst = scratch.alloc(blocks * perBlock * 4);
      const scales = scratch.upload(scaleBytes.subarray(first * 2, (first + blocks) * 2));
      const codes = scratch.upload(codeBytes.subarray(first * perBlock, (first + blocks) * perBlock));
      this.#backend.decodeFp8(codes, scales, blocks, perBlock, dst);
      return toFloat32(await this.#backend.read(dst, 0, blocks * perBlock * 4), "f32");
    });
    const stride = paddedLength(blocks * dim);
    const rows = new Float32Array(stride * tokens);
    for (let b = 0; b < blocks; b++) {
      for (let t = 0; t < tokens; t++) {
        const from = (b * tokens + t) * dim;
        rows.set(byBlock.subarray(from, from + dim), t * stride + b * dim);
      }
    }
    return await this.#fromRows(rows, blocks, ctx);
  }

  #toRows(x: Uint8Array, ctx: ChunkContext): Promise<Float32Array> {
    const { layers, heads, dim, dtype, rope } = this.#geometry;
    const blocks = layers * heads;
    const rowBytes = paddedLength(blocks * dim) * ctx.tokens * 4;
    return withScratch(this.#backend, async (scratch) => {
      const rotation = rope === null ? null : scratch.upload(rotationTable(rope, ctx.positions, "undo"));
      const rows = scratch.alloc(rowBytes);
      const shape = { dtype, blocks, tokens: ctx.tokens, dim, rotaryDim: rope?.dim ?? 0 };
      this.#backend.gather(scratch.upload(x), shape, rotation, null, rows);
      return toFloat32(await this.#backend.read(rows, 0, rowBytes), "f32");
    });
  }

  #fromRows(rows: Float32Array, blocks: number, ctx: ChunkContext): Promise<Uint8Array> {
    const { dim, dtype, rope } = this.#geometry;
    const bytes = blocks * ctx.tokens * dim * BYTES_PER_ELEMENT[dtype];
    return withScratch(this.#backend, async (scratch) => {
      const rotation = rope === null ? null : scratch.upload(rotationTable(rope, ctx.positions, "redo"));
      const out = scratch.alloc(bytes);
      const shape = { dtype, blocks, tokens: ctx.tokens, dim, rotaryDim: rope?.dim ?? 0 };
      this.#backend.scatter(scratch.upload(rows), shape, rotation, null, out);
      return await this.#backend.read(out, 0, bytes);
    });
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
