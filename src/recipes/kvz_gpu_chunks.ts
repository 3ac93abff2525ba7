/**
 * What recipe kvz does with a chunk on a GPU that has all kernels: only elements and coded bytes cross the bus, or only coded
 * bytes, where the elements are on the device.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../backend/backend.ts";
import type { GpuInteger } from "../backend/gpu/integer.ts";
import { type GpuTrellis, levelStride } from "../backend/gpu/trellis.ts";
import { BYTES_PER_ELEMENT, type Kind } from "../cache/types.ts";
import { type Scratch, withScratch } from "../stages/scratch.ts";
import { type DecodedChunk, MOST_CHUNKS } from "../stages/quantize/trellis/gpu_decoder.ts";
import { GpuLevelCoder } from "../stages/quantize/trellis/gpu_level_coder.ts";
import { type ChunkStreams, openHostLevelCoder } from "../stages/quantize/trellis/level_coder.ts";
import { stepOf } from "../stages/quantize/trellis/step.ts";
import type { ChunkContext } from "../stages/stage.ts";
import type { IntegerGeometry } from "../stages/transform/integer_basis.ts";
import { type DeviceLevels, GpuIntegerTransform } from "../stages/transform/integer_gpu.ts";
import { kvz } from "./kvz.ts";
import { type KvzChunks, type KvzEncoder, type PreviousTokens, takeStep, withStep } from "./kvz_chunks.ts";
import type { KvzSetup } from "./kvz_setup.ts";

/** Opens the chunk coder. */
export function openGpuChunks(
  backend: Backend,
  trellis: GpuTrellis,
  integer: GpuInteger,
  { basis, stepSets, tables }: KvzSetup,
  geometry: IntegerGeometry,
): KvzChunks {
  const { components } = basis;
  const openHost = () => openHostLevelCoder(backend, components, stepSets, tables);
  return new GpuChunks(
    backend,
    new GpuIntegerTransform(backend, integer, geometry, basis),
    new GpuLevelCoder(backend, trellis, components, stepSets, tables, openHost),
    jobsOf(geometry, Math.min(1 << 30, trellis.encoder.mostBytes)),
  );
}

/** Quarters of a step as the transform takes them. */
function levelsOf({ s, components, quarters }: Omit<DecodedChunk, "largest">): DeviceLevels {
  return { quarters, components, scale: stepOf(s) / 4 };
}

/** Chunks that may be under way at once, so that their elements take up to `mostBytes`. */
function jobsOf({ layers, heads, keyDim, valueDim, dtype }: IntegerGeometry, mostBytes: number): number {
  const bytes = kvz.chunkTokens * layers * heads * (keyDim + valueDim) * BYTES_PER_ELEMENT[dtype];
  return Math.max(1, Math.min(MOST_CHUNKS, Math.floor(mostBytes / bytes)));
}

class GpuChunks implements KvzChunks {
  readonly jobs: number;
  readonly #backend: Backend;
  readonly #transform: GpuIntegerTransform;
  readonly #coder: GpuLevelCoder;

  constructor(
    backend: Backend,
    transform: GpuIntegerTransform,
    coder: GpuLevelCoder,
    jobs: number,
  ) {
    this.jobs = jobs;
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
    const coefficients = this.#transform.encode(elements, ctx, components);
    const { s, lambda } = encoder;
    return await this.#coder.encodeCoefficients(coefficients, s, components, ctx.tokens, lambda, before);
  }

  async decode(streams: ChunkStreams, ctx: ChunkContext, kinds: readonly Kind[]): Promise<Uint8Array[]> {
    return await withScratch(this.#backend, async (scratch) => {
      const levels = levelsOf(await this.#coder.decodeOnDevice(scratch, streams, ctx.tokens));
      return await Promise.all(this.#restore(scratch, levels, ctx, kinds));
    });
  }

  async decodeTo(
    streams: ChunkStreams,
    ctx: ChunkContext,
    kinds: readonly Kind[],
    to: readonly DeviceBuffer[],
  ): Promise<void> {
    await withScratch(this.#backend, async (scratch) => {
      const levels = levelsOf(await this.#coder.decodeOnDevice(scratch, streams, ctx.tokens));
      for (const [i, kind] of kinds.entries()) this.#transform.decodeTo(levels, ctx, kind, to[i]);
    });
  }

  async inflate(streams: ChunkStreams, tokens: number): Promise<Uint8Array> {
    return await withScratch(this.#backend, async (scratch) => {
      const { s, components, quarters } = await this.#coder.decodeOnDevice(scratch, streams, tokens);
      return withStep(s, components, await this.#backend.read(quarters, 0, tokens * levelStride(components) * 2));
    });
  }

  async restore(inflated: Uint8Array, ctx: ChunkContext, kinds: readonly Kind[]): Promise<Uint8Array[]> {
    return await withScratch(this.#backend, async (scratch) => {
      const { quarters, ...step } = takeStep(inflated);
      const levels = levelsOf({ ...step, quarters: scratch.upload(quarters) });
      return await Promise.all(this.#restore(scratch, levels, ctx, kinds));
    });
  }

  [Symbol.dispose](): void {
    this.#transform[Symbol.dispose]();
    this.#coder[Symbol.dispose]();
  }

  /** Enqueues the restoration of all kinds, then their reads. */
  #restore(
    scratch: Scratch,
    levels: DeviceLevels,
    ctx: ChunkContext,
    kinds: readonly Kind[],
  ): Promise<Uint8Array>[] {
    const buffers = kinds.map((kind) => {
      const bytes = this.#transform.byteLength(kind, ctx.tokens, ctx.layerEnd - ctx.layerBegin);
      const buffer = scratch.alloc(bytes);
      this.#transform.decodeTo(levels, ctx, kind, buffer);
      return { buffer, bytes };
    });
    return buffers.map(({ buffer, bytes }) => this.#backend.read(buffer, 0, bytes));
  }
}
