/**
 * Coefficients on a GPU → streams, several chunks of one geometry at once.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../../../backend/backend.ts";
import {
  type CoefficientBuffers,
  type DeviceModels,
  type DeviceWeight,
  type GpuTrellis,
  type GpuTrellisEncoder,
  levelStride,
  type SideBuffers,
  type TrellisBatch,
} from "../../../backend/gpu/trellis.ts";
import type { Scratch } from "../../scratch.ts";
import { SUBSTEPS } from "./cost.ts";
import type { ChunkStreams } from "./engine.ts";
import { prefixRows, sideOf, uploadSide } from "./gpu_side.ts";
import type { GpuSymbols } from "./gpu_symbols.ts";
import { trellisContexts, type TrellisModel } from "./model.ts";
import type { TrellisCode } from "./reference.ts";
import { encodeSide, type TrellisSide } from "./side.ts";
import { stepOf } from "./step.ts";
import { largeEnough } from "./substeps.ts";

/** Most bytes of an escape that an encoder writes: levels are within ±2^14. */
const ESCAPE_BYTES = 3;

/** What chunks that are coded at once have in common. */
export interface ChunkKind {
  readonly components: number;
  /** New tokens. */
  readonly tokens: number;
  /** λ in 1/256. */
  readonly weight: number;
}

/** The encoder of one lane. */
export class GpuChunkEncoder implements Disposable {
  readonly #backend: Backend;
  readonly #trellis: GpuTrellis;
  readonly #kernels: GpuTrellisEncoder;
  readonly #symbols: GpuSymbols;
  readonly #modelAt: (s: number, components: number) => TrellisModel;
  #weight: DeviceWeight | null = null;

  constructor(
    backend: Backend,
    trellis: GpuTrellis,
    symbols: GpuSymbols,
    modelAt: (s: number, components: number) => TrellisModel,
  ) {
    this.#backend = backend;
    this.#trellis = trellis;
    this.#kernels = trellis.encoder;
    this.#symbols = symbols;
    this.#modelAt = modelAt;
  }

  /**
   * Codes coefficients of chunks that follow each other, f32 [chunks · tokens][stride]: an error for a chunk that cannot be
   * coded, null where it does not fit the step of the tokens before (one chunk only).
   *
   * @param wanted s of each chunk
   */
  async encodeCoefficients(
    scratch: Scratch,
    coefficients: CoefficientBuffers,
    wanted: readonly number[],
    kind: ChunkKind,
    before: TrellisCode | null,
  ): Promise<(ChunkStreams | Error | null)[]> {
    const { components, tokens } = kind;
    const batch = { chunks: wanted.length, components, tokens };
    const found = scratch.alloc(16 * batch.chunks);
    this.#kernels.magnitudes(coefficients, batch, found);
    const largest = new Float64Array((await this.#backend.read(found, 0, 16 * batch.chunks)).slice().buffer);
    const failures: (Error | null)[] = [];
    const steps = wanted.map((s, i) => {
      try {
        failures.push(null);
        return largeEnough(largest[2 * i], largest[2 * i + 1], s);
      } catch (error) {
        failures[i] = error as Error;
        return s;
      }
    });
    if (before !== null && failures[0] === null && steps[0] !== before.s) return [null];
    if (failures.every((failure) => failure !== null)) return failures;
    const first = before?.refs.length ?? 0;
    const rows = scratch.alloc(batch.chunks * (first + tokens) * levelStride(components) * 4);
    // What cannot be coded becomes zeros: the others' batch goes on.
    const factors = Float64Array.from(steps, (s, i) => failures[i] === null ? SUBSTEPS / stepOf(s) : 0);
    this.#kernels.substeps(coefficients, batch, first, scratch.upload(factors), rows);
    const coded = await this.encodeRows(scratch, rows, steps, kind, before);
    return coded.map((streams, i) => failures[i] ?? streams);
  }

  /**
   * Codes rows i32 [chunks][first + tokens][stride], the rows of the `first` tokens that `before` (of one chunk) has coded
   * unused.
   *
   * @param steps s of each chunk
   */
  async encodeRows(
    scratch: Scratch,
    rows: DeviceBuffer,
    steps: readonly number[],
    { components, tokens, weight }: ChunkKind,
    before: TrellisCode | null,
  ): Promise<ChunkStreams[]> {
    const chunks = steps.length;
    const first = before?.refs.length ?? 0;
    const batch: TrellisBatch = { chunks, components, tokens: first + tokens };
    const distinct = [...new Set(steps)];
    const models = distinct.map((s) => this.#modelAt(s, components));
    const onDevice = this.#trellis.uploadModels(models);
    try {
      const side = uploadSide(scratch, batch, before === null ? [] : [before], steps.map((s) => distinct.indexOf(s)));
      const bytes = chunks * batch.tokens * levelStride(components) * 2;
      const prefix = before === null ? null : prefixRows(before, batch.tokens);
      const coded = prefix === null ? { levels: scratch.alloc(bytes), reconstruction: scratch.alloc(bytes) } : {
        levels: scratch.upload(prefix.levels),
        reconstruction: scratch.upload(prefix.reconstruction),
      };
      this.#kernels.encode(onDevice, this.#weightOf(models[0], weight), batch, first, rows, coded, side);
      return await this.#pack(scratch, batch, steps, onDevice, side, coded.levels);
    } finally {
      onDevice.free();
    }
  }

  [Symbol.dispose](): void {
    this.#weight?.free();
    this.#weight = null;
  }

  /** Levels → streams. */
  async #pack(
    scratch: Scratch,
    batch: TrellisBatch,
    steps: readonly number[],
    models: DeviceModels,
    side: SideBuffers,
    levels: DeviceBuffer,
  ): Promise<ChunkStreams[]> {
    const { chunks, components, tokens } = batch;
    const symbols = scratch.alloc(chunks * components * tokens);
    const places = scratch.alloc(chunks * components * Math.ceil(tokens / 32) * 4);
    const lengths = scratch.alloc(chunks * 4);
    this.#kernels.symbols(models, batch, side, levels, symbols, places, lengths);
    const most = ESCAPE_BYTES * components * tokens;
    const begins = scratch.upload(Uint32Array.from({ length: chunks }, (_, i) => i * most));
    const escapes = scratch.alloc(chunks * most);
    this.#kernels.escapes(models, batch, side, levels, places, lengths, begins, escapes);
    const [sides, found] = await Promise.all([
      this.#readSides(batch, steps, side),
      this.#backend.read(lengths, 0, chunks * 4),
    ]);
    const escaped = new Uint32Array(found.slice().buffer);
    const [streams, ...escapeBytes] = await Promise.all([
      this.#symbols.encode(symbols, { streams: chunks, rows: components, tokens }, {
        onHost: (i) => trellisContexts(this.#modelAt(steps[i], components), sides[i]),
        onDevice: (classes, kinds) => this.#trellis.contexts(models, batch, side, classes, kinds),
      }),
      ...Array.from(escaped, (length, i) => {
        return length === 0 ? new Uint8Array(0) : this.#backend.read(escapes, i * most, length);
      }),
    ]);
    return sides.map((own, i) => ({ side: encodeSide(own), symbols: streams[i], escapes: escapeBytes[i] }));
  }

  async #readSides({ chunks, components, tokens }: TrellisBatch, steps: readonly number[], side: SideBuffers) {
    const [words, offsets] = await Promise.all([
      this.#backend.read(side.words, 0, chunks * tokens * 4),
      this.#backend.read(side.offsets, 0, chunks * components),
    ]);
    const all = new Uint32Array(words.slice().buffer);
    const shifts = new Int8Array(offsets.slice().buffer);
    return steps.map((s, i): TrellisSide => ({
      s,
      ...sideOf(
        all.subarray(i * tokens, (i + 1) * tokens),
        shifts.slice(i * components, (i + 1) * components),
      ),
    }));
  }

  #weightOf(model: TrellisModel, weight: number): DeviceWeight {
    if (this.#weight?.weight !== weight) {
      this.#weight?.free();
      this.#weight = this.#kernels.uploadWeight(model, weight);
    }
    return this.#weight!;
  }
}
