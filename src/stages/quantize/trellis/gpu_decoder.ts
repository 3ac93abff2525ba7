/**
 * Streams → coefficients on a GPU. Chunks that come at once are decoded together: one alone would keep a hundredth of a large
 * GPU busy.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../../../backend/backend.ts";
import { type DeviceModels, type GpuTrellis, levelStride } from "../../../backend/gpu/trellis.ts";
import { Batches } from "../../batches.ts";
import { escapeValues } from "../../entropy/escape_values.ts";
import { requireStreamLength } from "../../entropy/rans_stream.ts";
import { type Scratch, withScratch } from "../../scratch.ts";
import type { ChunkStreams } from "./engine.ts";
import { requireDecoded, uploadSide } from "./gpu_side.ts";
import type { GpuSymbols } from "./gpu_symbols.ts";
import { trellisContexts, type TrellisModel } from "./model.ts";
import { decodeSide, sideComponents, type TrellisSide } from "./side.ts";

/** Most chunks that are coded at once: a large GPU works on two each multiprocessor. */
export const MOST_CHUNKS = 64;
/** Sets of models that stay on the device. */
const KEPT_MODELS = 8;

/** Quarters of a chunk on the device. */
export interface DecodedChunk {
  /** The step is 2^(−s/60). */
  readonly s: number;
  readonly components: number;
  /** i16 [tokens][levelStride]. */
  readonly quarters: DeviceBuffer;
  /** Largest magnitude of a quarter. */
  readonly largest: number;
}

interface DecodeJob {
  readonly side: TrellisSide;
  readonly symbols: Uint8Array;
  readonly values: Uint32Array;
  readonly tokens: number;
  /** Where the chunk's quarters go. */
  readonly quarters: DeviceBuffer;
}

/** The decoder of one lane. */
export class GpuChunkDecoder implements Disposable {
  readonly #backend: Backend;
  readonly #trellis: GpuTrellis;
  readonly #most: number;
  readonly #symbols: GpuSymbols;
  readonly #modelAt: (s: number, components: number) => TrellisModel;
  readonly #batches: Batches<DecodeJob, number | Error>;
  readonly #models = new Map<string, DeviceModels>();

  /** @param most components of the file, of which a chunk may have fewer */
  constructor(
    backend: Backend,
    trellis: GpuTrellis,
    most: number,
    symbols: GpuSymbols,
    modelAt: (s: number, components: number) => TrellisModel,
  ) {
    this.#backend = backend;
    this.#trellis = trellis;
    this.#most = most;
    this.#symbols = symbols;
    this.#modelAt = modelAt;
    const alike = (a: DecodeJob, b: DecodeJob) =>
      a.tokens === b.tokens && a.side.offsets.length === b.side.offsets.length;
    this.#batches = new Batches(MOST_CHUNKS, alike, (jobs) => this.#decodeBatch(jobs));
  }

  /**
   * Decodes a chunk into a buffer of the scratch.
   *
   * @throws {KvzFormatError} when the streams are not what an encoder makes
   */
  async decode(scratch: Scratch, streams: ChunkStreams, tokens: number): Promise<DecodedChunk> {
    const components = sideComponents(streams.side.length, tokens, this.#most);
    const side = decodeSide(streams.side, tokens, components);
    requireStreamLength(streams.symbols, components, tokens);
    const quarters = scratch.alloc(tokens * levelStride(components) * 2);
    const values = escapeValues(streams.escapes);
    const largest = await this.#batches.add({ side, symbols: streams.symbols, values, tokens, quarters });
    if (largest instanceof Error) throw largest;
    return { s: side.s, components, quarters, largest };
  }

  [Symbol.dispose](): void {
    for (const models of this.#models.values()) models.free();
    this.#models.clear();
  }

  /** The largest magnitude of each chunk's quarters, or what is wrong with its streams. */
  async #decodeBatch(jobs: readonly DecodeJob[]): Promise<(number | Error)[]> {
    const [{ tokens, side: { offsets: { length: components } } }] = jobs;
    const chunks = jobs.length;
    const batch = { chunks, components, tokens };
    const steps = [...new Set(jobs.map(({ side }) => side.s))];
    return await withScratch(this.#backend, async (scratch) => {
      const side = uploadSide(
        scratch,
        batch,
        jobs.map((job) => job.side),
        jobs.map((job) => steps.indexOf(job.side.s)),
      );
      const streams = { streams: chunks, rows: components, tokens };
      const decoded = await this.#symbols.decode(scratch, jobs.map(({ symbols }) => symbols), streams, {
        onHost: (i) => trellisContexts(this.#modelAt(jobs[i].side.s, components), jobs[i].side),
        onDevice: (classes, kinds) =>
          this.#trellis.contexts(this.#modelsAt(steps, components), batch, side, classes, kinds),
      });
      const begins = new Uint32Array(chunks + 1);
      jobs.forEach(({ values }, i) => begins[i + 1] = begins[i] + values.length);
      const values = new Uint32Array(begins[chunks]);
      jobs.forEach((job, i) => values.set(job.values, begins[i]));
      const bytes = tokens * levelStride(components) * 2;
      const quarters = chunks === 1 ? jobs[0].quarters : scratch.alloc(chunks * bytes);
      const status = scratch.alloc(chunks * 8);
      const escapes = { values: scratch.upload(values), begins: scratch.upload(begins) };
      this.#trellis.decode(this.#modelsAt(steps, components), batch, side, decoded.symbols, escapes, quarters, status);
      if (chunks > 1) jobs.forEach((job, i) => this.#backend.copy(quarters, i * bytes, job.quarters, 0, bytes));
      const [found, failures] = await Promise.all([this.#backend.read(status, 0, chunks * 8), decoded.settled()]);
      const words = new Uint32Array(found.slice().buffer);
      return failures.map((failure, i) => failure ?? checked(words[2 * i], words[2 * i + 1]));
    });
  }

  /** Models of steps on the device, until others have been asked for often enough. */
  #modelsAt(steps: readonly number[], components: number): DeviceModels {
    const key = `${components} ${steps}`;
    const found = this.#models.get(key);
    if (found !== undefined) return found;
    for (const [old, models] of this.#models) {
      if (this.#models.size < KEPT_MODELS) break;
      models.free();
      this.#models.delete(old);
    }
    const models = this.#trellis.uploadModels(steps.map((s) => this.#modelAt(s, components)));
    this.#models.set(key, models);
    return models;
  }
}

/** A chunk's status words as its result. */
function checked(status: number, largest: number): number | Error {
  try {
    requireDecoded(status);
    return largest;
  } catch (error) {
    return error as Error;
  }
}
