/**
 * Symbols on a GPU ↔ rANS streams: by its own coder, or where it has none by that of the host.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../../../backend/backend.ts";
import {
  type DeviceContexts,
  type DeviceTables,
  type GpuEntropy,
  mostBytes,
  RANS_STATUS,
  type StreamBatch,
} from "../../../backend/gpu/entropy.ts";
import { type RansContexts, TOKEN_KINDS } from "../../entropy/rans_contexts.ts";
import { openRans } from "../../entropy/rans_factory.ts";
import { badState, notAtEnd, type Rans, truncated, uncodable } from "../../entropy/rans_stream.ts";
import type { RansTables } from "../../entropy/rans_tables.ts";
import { type Scratch, withScratch } from "../../scratch.ts";
import { NEXT_STATE } from "./states.ts";

/** Length of a stream that could not be coded. */
const UNCODABLE = 0xffffffff;

/** What chooses the tables of chunks' symbols. */
export interface ChunkContexts {
  /** Those of a chunk. */
  readonly onHost: (chunk: number) => RansContexts;
  /** Enqueues writing classes u8 [chunks][rows][16] and kinds u8 [chunks][tokens]. */
  readonly onDevice: (classes: DeviceBuffer, kinds: DeviceBuffer) => void;
}

/** Symbols of chunks on the device. */
export interface DeviceSymbols {
  /** u8 [chunks][rows][tokens]; of a stream that is wrong some symbols or other. */
  readonly symbols: DeviceBuffer;
  /** Waits: what is wrong with each stream, null where nothing is. */
  readonly settled: () => Promise<(Error | null)[]>;
}

/** A coder for one set of tables. */
export class GpuSymbols implements Disposable {
  readonly #backend: Backend;
  readonly #entropy: GpuEntropy | null;
  readonly #tables: RansTables;
  readonly #onDevice: DeviceTables | null;
  #host: Promise<Rans & { free?(): void }> | null = null;

  /** @throws {RangeError} when a table does not sum to 2^bits. */
  constructor(backend: Backend, tables: RansTables) {
    this.#backend = backend;
    this.#entropy = backend.gpu?.entropy ?? null;
    this.#tables = tables;
    this.#onDevice = this.#entropy?.uploadTables(tables) ?? null;
  }

  /** Enqueues the decoding of streams whose lengths have been checked. The buffers are the scratch's. */
  async decode(
    scratch: Scratch,
    streams: readonly Uint8Array[],
    batch: StreamBatch,
    contexts: ChunkContexts,
  ): Promise<DeviceSymbols> {
    const entropy = this.#entropy;
    if (entropy === null) return await this.#decodeOnHost(scratch, streams, batch, contexts);
    const onDevice = contextsOf(scratch, entropy, batch, contexts);
    const begins = new Uint32Array(streams.length + 1);
    streams.forEach(({ length }, i) => begins[i + 1] = begins[i] + length);
    const bytes = scratch.alloc(begins[streams.length]);
    streams.forEach((stream, i) => this.#backend.write(bytes, stream, begins[i]));
    const symbols = scratch.alloc(streams.length * batch.rows * batch.tokens);
    const status = scratch.alloc(streams.length * 4);
    entropy.decode(bytes, scratch.upload(begins), batch, this.#onDevice!, onDevice, symbols, status);
    onDevice.free();
    return { symbols, settled: async () => Array.from(await this.#words(status, streams.length), failureOf) };
  }

  /**
   * The streams of symbols u8 [streams][rows][tokens].
   *
   * @throws {RangeError} when a symbol has frequency 0 in its table.
   */
  async encode(symbols: DeviceBuffer, batch: StreamBatch, contexts: ChunkContexts): Promise<Uint8Array[]> {
    const { streams, rows, tokens } = batch;
    const entropy = this.#entropy;
    if (entropy === null) {
      const coder = await this.#hostCoder();
      const all = await this.#backend.read(symbols, 0, streams * rows * tokens);
      const out: Uint8Array[] = [];
      for (let i = 0; i < streams; i++) {
        const own = all.subarray(i * rows * tokens, (i + 1) * rows * tokens);
        out.push(await coder.encode(own, rows, tokens, contexts.onHost(i)));
      }
      return out;
    }
    return await withScratch(this.#backend, async (scratch) => {
      const onDevice = contextsOf(scratch, entropy, batch, contexts);
      const [bytes, begins] = [scratch.alloc(mostBytes(batch)), scratch.alloc((streams + 1) * 4)];
      const lengths = scratch.alloc(streams * 4);
      entropy.encode(symbols, batch, this.#onDevice!, onDevice, bytes, begins, lengths);
      onDevice.free();
      const [from, length] = await Promise.all([this.#words(begins, streams + 1), this.#words(lengths, streams)]);
      if (length.includes(UNCODABLE)) throw uncodable();
      const all = await this.#backend.read(bytes, 0, from[streams]);
      return Array.from(length, (n, i) => all.slice(from[i], from[i] + n));
    });
  }

  [Symbol.dispose](): void {
    this.#onDevice?.free();
    this.#host?.then((host) => host.free?.(), () => {});
    this.#host = null;
  }

  async #decodeOnHost(
    scratch: Scratch,
    streams: readonly Uint8Array[],
    { rows, tokens }: StreamBatch,
    contexts: ChunkContexts,
  ): Promise<DeviceSymbols> {
    const coder = await this.#hostCoder();
    const symbols = new Uint8Array(streams.length * rows * tokens);
    const failures: (Error | null)[] = [];
    for (const [i, stream] of streams.entries()) {
      try {
        symbols.set(await coder.decode(stream, rows, tokens, contexts.onHost(i)), i * rows * tokens);
        failures.push(null);
      } catch (error) {
        failures.push(error as Error);
      }
    }
    return { symbols: scratch.upload(symbols), settled: () => Promise.resolve(failures) };
  }

  async #words(buffer: DeviceBuffer, count: number): Promise<Uint32Array> {
    return new Uint32Array((await this.#backend.read(buffer, 0, 4 * count)).slice().buffer);
  }

  #hostCoder(): Promise<Rans & { free?(): void }> {
    return this.#host ??= openRans(this.#backend).then((make) => make(this.#tables));
  }
}

/** The contexts on the device, in buffers of the scratch. */
function contextsOf(
  scratch: Scratch,
  entropy: GpuEntropy,
  { streams, rows, tokens }: StreamBatch,
  contexts: ChunkContexts,
): DeviceContexts {
  const [classes, kinds] = [scratch.alloc(streams * rows * TOKEN_KINDS), scratch.alloc(streams * tokens)];
  contexts.onDevice(classes, kinds);
  return entropy.wrapContexts(classes, kinds, NEXT_STATE);
}

/** The error of a status word, as the coders on the host have it. */
function failureOf(status: number): Error | null {
  if (status === RANS_STATUS.badState) return badState();
  if (status === RANS_STATUS.truncated) return truncated();
  return status === RANS_STATUS.notAtEnd ? notAtEnd() : null;
}
