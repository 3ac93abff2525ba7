/**
 * A chunk's coefficients ↔ its streams on a GPU: trellis, escapes and rANS there, only coded bytes and side information cross.
 * The streams are those of {@linkcode LevelCoder}.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../../../backend/backend.ts";
import {
  type CoefficientBuffers,
  type DeviceModels,
  type DeviceWeight,
  type GpuTrellis,
  levelStride,
  type SideBuffers,
  type TrellisBatch,
} from "../../../backend/gpu/trellis.ts";
import { escapeValues } from "../../entropy/escape_values.ts";
import type { RansTables } from "../../entropy/rans_tables.ts";
import { type Scratch, withScratch } from "../../scratch.ts";
import { MAX_LEVEL, MAX_TOKEN_SUM, requireLevels } from "../../transform/integer_basis.ts";
import { SUBSTEPS } from "./cost.ts";
import type { ChunkStreams } from "./engine.ts";
import { componentMajor, prefixRows, requireDecoded, sideOf, tokenMajor, uploadSide } from "./gpu_side.ts";
import { GpuSymbols } from "./gpu_symbols.ts";
import type { ChunkCoder } from "./level_coder.ts";
import { type StepSet, tableBits, tableLimits, trellisContexts, type TrellisModel, trellisModel } from "./model.ts";
import { checkEncoderInput, type TrellisCode, weightOf } from "./reference.ts";
import { decodeSide, encodeSide, type TrellisSide } from "./side.ts";
import { stepOf } from "./step.ts";
import { largeEnough, toSubsteps } from "./substeps.ts";

/** Steps whose models stay on the device. */
const KEPT_MODELS = 8;
/** Most bytes of an escape that an encoder writes: levels are within ±2^14. */
const ESCAPE_BYTES = 3;

/** Quarters of a chunk on the device. */
export interface DeviceChunk {
  /** The step is 2^(−s/60). */
  readonly s: number;
  /** i16 [tokens][levelStride]. */
  readonly quarters: DeviceBuffer;
  /**
   * Waits, and checks what the kernels found.
   *
   * @throws {KvzFormatError} when the streams are not what an encoder makes
   */
  readonly settled: () => Promise<void>;
}

/** Codes the chunks of one lane. */
export class GpuLevelCoder implements ChunkCoder {
  readonly #backend: Backend;
  readonly #trellis: GpuTrellis;
  readonly #components: number;
  readonly #stepSets: readonly StepSet[];
  readonly #costs: { readonly bits: Uint16Array; readonly limits: Uint8Array };
  readonly #symbols: GpuSymbols;
  readonly #openHost: () => Promise<ChunkCoder>;
  #host: Promise<ChunkCoder> | null = null;
  readonly #models = new Map<number, { readonly model: TrellisModel; readonly onDevice: DeviceModels }>();
  #weight: DeviceWeight | null = null;

  /** @param openHost makes the coder of what the device has no kernels for */
  constructor(
    backend: Backend,
    trellis: GpuTrellis,
    components: number,
    stepSets: readonly StepSet[],
    tables: RansTables,
    openHost: () => Promise<ChunkCoder>,
  ) {
    this.#backend = backend;
    this.#trellis = trellis;
    this.#components = components;
    this.#stepSets = stepSets;
    this.#costs = { bits: tableBits(tables), limits: tableLimits(tables) };
    this.#symbols = new GpuSymbols(backend, tables);
    this.#openHost = openHost;
  }

  async encode(
    y: Int32Array,
    s: number,
    tokens: number,
    lambda: number,
    before: TrellisCode | null,
  ): Promise<ChunkStreams> {
    if (this.#trellis.encoder === null) return await (await this.#hostCoder()).encode(y, s, tokens, lambda, before);
    const weight = checkEncoderInput(this.#modelOf(s).model, y, tokens, lambda);
    const [first, stride] = [before?.refs.length ?? 0, levelStride(this.#components)];
    const rows = new Int32Array((first + tokens) * stride);
    tokenMajor(y, this.#components, tokens, rows.subarray(first * stride));
    return await this.#scoped((scratch) => this.#encodeRows(scratch, scratch.upload(rows), s, tokens, weight, before));
  }

  async encodeCoefficients(
    coefficients: CoefficientBuffers,
    wanted: number,
    tokens: number,
    lambda: number,
    before: TrellisCode | null,
  ): Promise<ChunkStreams | null> {
    const { encoder } = this.#trellis;
    const components = this.#components;
    if (encoder === null) {
      const { y, s } = toSubsteps(await this.#read(coefficients, tokens), components, tokens, before?.s ?? wanted);
      if (before !== null && s !== before.s) return null;
      return await (await this.#hostCoder()).encode(y, s, tokens, lambda, before);
    }
    return await this.#scoped(async (scratch) => {
      const batch = { chunks: 1, components, tokens };
      const found = scratch.alloc(16);
      encoder.magnitudes(coefficients, batch, found);
      const [largest, largestSum] = new Float64Array((await this.#backend.read(found, 0, 16)).buffer);
      const s = largeEnough(largest, largestSum, before?.s ?? wanted);
      if (before !== null && s !== before.s) return null;
      const weight = weightOf(lambda);
      const first = before?.refs.length ?? 0;
      const rows = scratch.alloc((first + tokens) * levelStride(components) * 4);
      encoder.substeps(coefficients, batch, first, scratch.upload(Float64Array.of(SUBSTEPS / stepOf(s))), rows);
      return await this.#encodeRows(scratch, rows, s, tokens, weight, before);
    });
  }

  async decode(streams: ChunkStreams, tokens: number): Promise<{ readonly s: number; readonly quarters: Int16Array }> {
    return await this.#scoped(async (scratch) => {
      const { s, quarters, settled } = await this.#decode(scratch, streams, tokens);
      await settled();
      return { s, quarters: componentMajor(await this.#readRows(quarters, tokens), this.#components, tokens) };
    });
  }

  /**
   * The same on the device. The buffers are the scratch's. Levels that a product with them could leave 32 bits for are refused
   * as well.
   */
  async decodeOnDevice(scratch: Scratch, streams: ChunkStreams, tokens: number): Promise<DeviceChunk> {
    const chunk = await this.#decode(scratch, streams, tokens);
    return { ...chunk, settled: async () => await this.#requireProduct(chunk.quarters, tokens, await chunk.settled()) };
  }

  async decodeLevels(streams: ChunkStreams, tokens: number): Promise<TrellisCode> {
    return await (await this.#hostCoder()).decodeLevels(streams, tokens);
  }

  scales(s: number, tokens: number): Float32Array {
    return new Float32Array(tokens).fill(stepOf(s) / 4);
  }

  [Symbol.dispose](): void {
    for (const { onDevice } of this.#models.values()) onDevice.free();
    this.#models.clear();
    this.#weight?.free();
    this.#weight = null;
    this.#symbols[Symbol.dispose]();
    this.#host?.then((host) => host[Symbol.dispose](), () => {});
    this.#host = null;
  }

  /** Enqueues a chunk's decoding; `settled` gives the largest magnitude of its quarters. */
  async #decode(scratch: Scratch, { side: bytes, symbols, escapes }: ChunkStreams, tokens: number) {
    const components = this.#components;
    const side = decodeSide(bytes, tokens, components);
    const { model, onDevice } = this.#modelOf(side.s);
    const batch = { chunks: 1, components, tokens };
    const placed = uploadSide(scratch, batch, [side], [0]);
    const decoded = await this.#symbols.decode(scratch, symbols, components, tokens, {
      onHost: () => trellisContexts(model, side),
      onDevice: (classes, kinds) => this.#trellis.contexts(onDevice, batch, placed, classes, kinds),
    });
    const values = escapeValues(escapes);
    const quarters = scratch.alloc(tokens * levelStride(components) * 2);
    const status = scratch.alloc(8);
    this.#trellis.decode(
      onDevice,
      batch,
      placed,
      decoded.symbols,
      { values: scratch.upload(values), begins: scratch.upload(Uint32Array.of(0, values.length)) },
      quarters,
      status,
    );
    const settled = async () => {
      const [found] = await Promise.all([this.#backend.read(status, 0, 8), decoded.settled()]);
      const [first, largest] = new Uint32Array(found.buffer, found.byteOffset, 2);
      requireDecoded(first);
      return largest;
    };
    return { s: side.s, quarters, settled };
  }

  /** Reads quarters back only where they are so large that a sum could leave 32 bits. */
  async #requireProduct(quarters: DeviceBuffer, tokens: number, largest: number): Promise<void> {
    const components = this.#components;
    if (largest <= MAX_LEVEL && largest * components <= MAX_TOKEN_SUM) return;
    const levels = componentMajor(await this.#readRows(quarters, tokens), components, tokens);
    requireLevels({ levels, scales: new Float32Array(tokens) }, components, tokens);
  }

  async #encodeRows(
    scratch: Scratch,
    rows: DeviceBuffer,
    s: number,
    tokens: number,
    weight: number,
    before: TrellisCode | null,
  ): Promise<ChunkStreams> {
    const encoder = this.#trellis.encoder!;
    const components = this.#components;
    const first = before?.refs.length ?? 0;
    const batch: TrellisBatch = { chunks: 1, components, tokens: first + tokens };
    const { model, onDevice } = this.#modelOf(s);
    const bytes = batch.tokens * levelStride(components) * 2;
    const prefix = before === null ? null : prefixRows(before, batch.tokens);
    const coded = prefix === null ? { levels: scratch.alloc(bytes), reconstruction: scratch.alloc(bytes) } : {
      levels: scratch.upload(prefix.levels),
      reconstruction: scratch.upload(prefix.reconstruction),
    };
    const side = uploadSide(scratch, batch, before === null ? [] : [before], [0]);
    encoder.encode(onDevice, this.#weightOf(model, weight), batch, first, rows, coded, side);
    const symbols = scratch.alloc(components * batch.tokens);
    const places = scratch.alloc(components * Math.ceil(batch.tokens / 32) * 4);
    const lengths = scratch.alloc(4);
    encoder.symbols(onDevice, batch, side, coded.levels, symbols, places, lengths);
    const escapes = scratch.alloc(ESCAPE_BYTES * components * batch.tokens);
    const begins = scratch.upload(new Uint32Array(1));
    encoder.escapes(onDevice, batch, side, coded.levels, places, lengths, begins, escapes);
    const [chosen, length] = await Promise.all([
      this.#readSide(batch, s, side),
      this.#backend.read(lengths, 0, 4),
    ]);
    const [stream, escaped] = await Promise.all([
      this.#symbols.encode(symbols, components, batch.tokens, {
        onHost: () => trellisContexts(model, chosen),
        onDevice: (classes, kinds) => this.#trellis.contexts(onDevice, batch, side, classes, kinds),
      }),
      this.#backend.read(escapes, 0, new Uint32Array(length.slice().buffer)[0]),
    ]);
    return { side: encodeSide(chosen), symbols: stream, escapes: escaped };
  }

  async #readSide({ components, tokens }: TrellisBatch, s: number, side: SideBuffers): Promise<TrellisSide> {
    const [words, offsets] = await Promise.all([
      this.#backend.read(side.words, 0, tokens * 4),
      this.#backend.read(side.offsets, 0, components),
    ]);
    return { s, ...sideOf(new Uint32Array(words.slice().buffer), new Int8Array(offsets.slice().buffer)) };
  }

  /** Coefficients of a chunk as the host's transform gives them. */
  async #read({ first, second, stride, gain }: CoefficientBuffers, tokens: number): Promise<Float32Array> {
    const components = this.#components;
    const out = new Float32Array(tokens * components);
    for (const buffer of [first, second]) {
      const bytes = await this.#backend.read(buffer, 0, tokens * stride * 4);
      const values = new Float32Array(bytes.buffer, bytes.byteOffset, tokens * stride);
      for (let t = 0; t < tokens; t++) {
        for (let c = 0; c < components; c++) out[t * components + c] += gain * values[t * stride + c];
      }
    }
    return out;
  }

  async #readRows(quarters: DeviceBuffer, tokens: number): Promise<Int16Array> {
    const bytes = await this.#backend.read(quarters, 0, tokens * levelStride(this.#components) * 2);
    return new Int16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
  }

  #modelOf(s: number) {
    let found = this.#models.get(s);
    if (found === undefined) {
      const model = trellisModel(this.#stepSets, s, this.#costs);
      found = { model, onDevice: this.#trellis.uploadModels([model]) };
      for (const [old, { onDevice }] of this.#models) {
        if (this.#models.size < KEPT_MODELS) break;
        onDevice.free();
        this.#models.delete(old);
      }
      this.#models.set(s, found);
    }
    return found;
  }

  #weightOf(model: TrellisModel, weight: number): DeviceWeight {
    if (this.#weight?.weight !== weight) {
      this.#weight?.free();
      this.#weight = this.#trellis.encoder!.uploadWeight(model, weight);
    }
    return this.#weight!;
  }

  #hostCoder(): Promise<ChunkCoder> {
    return this.#host ??= this.#openHost();
  }

  async #scoped<T>(use: (scratch: Scratch) => Promise<T>): Promise<T> {
    return await withScratch(this.#backend, use);
  }
}
