/**
 * What recipe kvz does with a chunk: elements ↔ coefficients ↔ streams. Here on the host; kvz_gpu_chunks.ts keeps all between
 * elements and coded bytes on the device.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../backend/backend.ts";
import type { Kind } from "../cache/types.ts";
import { type ChunkCoder, type ChunkStreams, openLevelCoder } from "../stages/quantize/trellis/level_coder.ts";
import { toSubsteps } from "../stages/quantize/trellis/substeps.ts";
import type { ChunkContext } from "../stages/stage.ts";
import { type IntegerTransform, openIntegerTransform } from "../stages/transform/integer.ts";
import type { IntegerGeometry } from "../stages/transform/integer_basis.ts";
import type { KvzSetup } from "./kvz_setup.ts";

/** How a chunk is encoded: the s of its step, how many of the leading components it has, and λ. */
export interface KvzEncoder {
  readonly s: number;
  readonly components: number;
  readonly lambda: number;
}

/** Streams of the tokens that a chunk has already. */
export interface PreviousTokens {
  readonly streams: ChunkStreams;
  readonly tokens: number;
}

/** Codes the chunks of one lane. */
export interface KvzChunks extends Disposable {
  /** Chunks that may be under way at once. */
  readonly jobs: number;

  /**
   * Codes a chunk; null when its tokens are too large for the step of those before.
   *
   * @param elements [layers][heads][tokens][dim], of the host or of the device
   */
  encode(
    elements: Readonly<Record<Kind, Uint8Array | DeviceBuffer>>,
    ctx: ChunkContext,
    encoder: KvzEncoder,
    previous: PreviousTokens | null,
  ): Promise<ChunkStreams | null>;

  /**
   * Elements of the layers in `ctx`.
   *
   * @throws {KvzFormatError} when the streams are not what an encoder makes
   */
  decode(streams: ChunkStreams, ctx: ChunkContext, kinds: readonly Kind[]): Promise<Uint8Array[]>;

  /** The same into buffers of the device. */
  decodeTo(
    streams: ChunkStreams,
    ctx: ChunkContext,
    kinds: readonly Kind[],
    to: readonly DeviceBuffer[],
  ): Promise<void>;

  /** Undoes the entropy coding: bytes for {@linkcode restore}. */
  inflate(streams: ChunkStreams, tokens: number): Promise<Uint8Array>;

  /** Elements of the layers in `ctx`, from what `inflate` gave. */
  restore(inflated: Uint8Array, ctx: ChunkContext, kinds: readonly Kind[]): Promise<Uint8Array[]>;
}

/** On a GPU that has all kernels, otherwise on the host. */
export async function openChunks(backend: Backend, setup: KvzSetup, geometry: IntegerGeometry): Promise<KvzChunks> {
  const { basis, stepSets, tables } = setup;
  if (backend.gpu?.trellis && backend.gpu.integer) {
    const { openGpuChunks } = await import("./kvz_gpu_chunks.ts");
    return openGpuChunks(backend, backend.gpu.trellis, backend.gpu.integer, setup, geometry);
  }
  const [transform, coder] = await Promise.all([
    openIntegerTransform(backend, geometry, basis),
    openLevelCoder(backend, basis.components, stepSets, tables),
  ]);
  return new HostChunks(backend, transform, coder);
}

/** Bytes of quarters with the s of their step, i16, and the number of components, u16, before them. */
export function withStep(s: number, components: number, quarters: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + quarters.length);
  bytes.set([s & 0xff, s >> 8 & 0xff, components & 0xff, components >> 8]);
  bytes.set(quarters, 4);
  return bytes;
}

/** Inverse of {@linkcode withStep}. */
export function takeStep(
  bytes: Uint8Array,
): { readonly s: number; readonly components: number; readonly quarters: Int16Array } {
  return {
    s: (bytes[0] | bytes[1] << 8) << 16 >> 16,
    components: bytes[2] | bytes[3] << 8,
    quarters: new Int16Array(bytes.slice(4).buffer),
  };
}

class HostChunks implements KvzChunks {
  readonly jobs = 1;
  readonly #backend: Backend;
  readonly #transform: IntegerTransform;
  readonly #coder: ChunkCoder;

  constructor(backend: Backend, transform: IntegerTransform, coder: ChunkCoder) {
    this.#backend = backend;
    this.#transform = transform;
    this.#coder = coder;
  }

  async encode(
    elements: Readonly<Record<Kind, Uint8Array | DeviceBuffer>>,
    ctx: ChunkContext,
    encoder: KvzEncoder,
    previous: PreviousTokens | null,
  ): Promise<ChunkStreams | null> {
    const before = previous && await this.#coder.decodeLevels(previous.streams, previous.tokens);
    const components = before?.offsets.length ?? encoder.components;
    const coefficients = await this.#transform.encode(elements, ctx, components);
    const { y, s } = toSubsteps(coefficients, components, ctx.tokens, before?.s ?? encoder.s);
    if (before !== null && s !== before.s) return null;
    return await this.#coder.encode(y, s, components, ctx.tokens, encoder.lambda, before);
  }

  async decode(streams: ChunkStreams, ctx: ChunkContext, kinds: readonly Kind[]): Promise<Uint8Array[]> {
    const { s, quarters } = await this.#coder.decode(streams, ctx.tokens);
    return this.#restore(s, quarters, ctx, kinds);
  }

  async decodeTo(
    streams: ChunkStreams,
    ctx: ChunkContext,
    kinds: readonly Kind[],
    to: readonly DeviceBuffer[],
  ): Promise<void> {
    for (const [i, bytes] of (await this.decode(streams, ctx, kinds)).entries()) this.#backend.write(to[i], bytes);
  }

  async inflate(streams: ChunkStreams, tokens: number): Promise<Uint8Array> {
    const { s, quarters } = await this.#coder.decode(streams, tokens);
    const bytes = new Uint8Array(quarters.buffer, quarters.byteOffset, quarters.byteLength);
    return withStep(s, quarters.length / tokens, bytes);
  }

  // deno-lint-ignore require-await -- one signature for all
  async restore(inflated: Uint8Array, ctx: ChunkContext, kinds: readonly Kind[]): Promise<Uint8Array[]> {
    const { s, quarters } = takeStep(inflated);
    return this.#restore(s, quarters, ctx, kinds);
  }

  [Symbol.dispose](): void {
    this.#transform[Symbol.dispose]();
    this.#coder[Symbol.dispose]();
  }

  #restore(s: number, quarters: Int16Array, ctx: ChunkContext, kinds: readonly Kind[]): Uint8Array[] {
    const levels = { levels: quarters, scales: this.#coder.scales(s, ctx.tokens) };
    return this.#transform.decodeKinds(levels, ctx, kinds);
  }
}
