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
import { badState, notAtEnd, type Rans, requireStreamLength, truncated, uncodable } from "../../entropy/rans_stream.ts";
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

/** Symbols of a chunk on the device. */
export interface DeviceSymbols {
  /** u8 [rows][tokens]. */
  readonly symbols: DeviceBuffer;
  /** Waits. @throws {KvzFormatError} when the stream is not what an encoder makes */
  readonly settled: () => Promise<void>;
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

  /** Enqueues a stream's decoding. The buffers are the scratch's. */
  async decode(
    scratch: Scratch,
    bytes: Uint8Array,
    rows: number,
    tokens: number,
    contexts: ChunkContexts,
  ): Promise<DeviceSymbols> {
    const entropy = this.#entropy;
    if (entropy === null) {
      const symbols = await (await this.#hostCoder()).decode(bytes, rows, tokens, contexts.onHost(0));
      return { symbols: scratch.upload(symbols), settled: () => Promise.resolve() };
    }
    requireStreamLength(bytes, rows, tokens);
    const batch = { streams: 1, rows, tokens };
    const onDevice = contextsOf(scratch, entropy, batch, contexts);
    const [symbols, status] = [scratch.alloc(rows * tokens), scratch.alloc(4)];
    const begins = scratch.upload(Uint32Array.of(0, bytes.length));
    entropy.decode(scratch.upload(bytes), begins, batch, this.#onDevice!, onDevice, symbols, status);
    onDevice.free();
    return { symbols, settled: async () => requireOk((await this.#words(status, 1))[0]) };
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

/** @throws {KvzFormatError} as the coders on the host do. */
function requireOk(status: number): void {
  if (status === RANS_STATUS.badState) throw badState();
  if (status === RANS_STATUS.truncated) throw truncated();
  if (status === RANS_STATUS.notAtEnd) throw notAtEnd();
}
