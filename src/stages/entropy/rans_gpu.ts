/**
 * The rANS coder on a GPU's kernels, a stream a call: the bytes and errors of {@linkcode ReferenceRans}.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../../backend/backend.ts";
import { type DeviceTables, type GpuEntropy, mostBytes, RANS_STATUS } from "../../backend/gpu/entropy.ts";
import { type RansContexts, requireContexts } from "./rans_contexts.ts";
import { badState, notAtEnd, type Rans, requireStream, requireSymbols, truncated, uncodable } from "./rans_stream.ts";
import type { RansTables } from "./rans_tables.ts";

/** Length of a stream that cannot be coded. */
const UNCODABLE = 0xffffffff;

/** What the coder needs of a backend. */
export type Memory = Pick<Backend, "alloc" | "write" | "read">;

/** A coder for one set of tables, which it holds on the device until it is freed. */
export class GpuRans implements Rans {
  readonly #memory: Memory;
  readonly #kernels: GpuEntropy;
  readonly #tables: DeviceTables;

  /** @throws {RangeError} when a table does not sum to 2^bits. */
  constructor(memory: Memory, kernels: GpuEntropy, tables: RansTables) {
    this.#memory = memory;
    this.#kernels = kernels;
    this.#tables = kernels.uploadTables(tables);
  }

  async encode(symbols: Uint8Array, rows: number, tokens: number, contexts: RansContexts): Promise<Uint8Array> {
    requireSymbols(symbols, rows, tokens);
    requireContexts(contexts, rows, tokens, this.#tables.count);
    if (symbols.length === 0) return new Uint8Array(0);
    const batch = { streams: 1, rows, tokens };
    const onDevice = this.#kernels.uploadContexts([contexts], batch, this.#tables.count);
    const buffers: DeviceBuffer[] = [];
    const alloc = (byteLength: number) => this.#alloc(buffers, byteLength);
    try {
      const [from, bytes] = [alloc(symbols.length), alloc(mostBytes(batch))];
      const [begins, lengths] = [alloc(8), alloc(4)];
      this.#memory.write(from, symbols);
      this.#kernels.encode(from, batch, this.#tables, onDevice, bytes, begins, lengths);
      const [length] = await this.#words(lengths, 1);
      if (length === UNCODABLE) throw uncodable();
      return await this.#memory.read(bytes, 0, length);
    } finally {
      for (const buffer of [onDevice, ...buffers]) buffer.free();
    }
  }

  async decode(
    bytes: Uint8Array,
    rows: number,
    tokens: number,
    contexts: RansContexts,
    out?: Uint8Array,
  ): Promise<Uint8Array> {
    const symbols = requireStream(bytes, rows, tokens, out);
    requireContexts(contexts, rows, tokens, this.#tables.count);
    if (symbols.length === 0) return symbols;
    const batch = { streams: 1, rows, tokens };
    const onDevice = this.#kernels.uploadContexts([contexts], batch, this.#tables.count);
    const buffers: DeviceBuffer[] = [];
    const alloc = (byteLength: number) => this.#alloc(buffers, byteLength);
    try {
      const [from, to] = [alloc(bytes.length), alloc(symbols.length)];
      const [begins, status] = [alloc(8), alloc(4)];
      this.#memory.write(from, bytes);
      this.#memory.write(begins, Uint32Array.of(0, bytes.length));
      this.#kernels.decode(from, begins, batch, this.#tables, onDevice, to, status);
      // Both are enqueued before either is waited for.
      const [[code], found] = await Promise.all([this.#words(status, 1), this.#memory.read(to, 0, symbols.length)]);
      if (code === RANS_STATUS.badState) throw badState();
      if (code === RANS_STATUS.truncated) throw truncated();
      if (code === RANS_STATUS.notAtEnd) throw notAtEnd();
      symbols.set(found);
      return symbols;
    } finally {
      for (const buffer of [onDevice, ...buffers]) buffer.free();
    }
  }

  /** Gives the tables' memory back; the coder must not be used any more. */
  free(): void {
    this.#tables.free();
  }

  #alloc(buffers: DeviceBuffer[], byteLength: number): DeviceBuffer {
    const buffer = this.#memory.alloc(Math.max(16, byteLength));
    buffers.push(buffer);
    return buffer;
  }

  async #words(buffer: DeviceBuffer, count: number): Promise<Uint32Array> {
    return new Uint32Array((await this.#memory.read(buffer, 0, 4 * count)).buffer);
  }
}
