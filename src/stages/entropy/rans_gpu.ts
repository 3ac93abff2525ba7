/**
 * The rANS coder on a GPU's kernels: the bytes and errors of {@linkcode ReferenceRans}. A stream is a chain, of which a
 * device is full with thousands: what is begun before something is awaited is coded together (rans_batches.ts).
 *
 * @module
 */
import type { DeviceBuffer } from "../../backend/backend.ts";
import { requireBytes } from "../../backend/check.ts";
import type { RansBatches } from "./rans_batches.ts";
import { type RansContexts, requireContexts } from "./rans_contexts.ts";
import { type Rans, requireStream, requireSymbols } from "./rans_stream.ts";
import { type RansTables, requireTables, tableCount } from "./rans_tables.ts";

/** A coder for one set of tables. */
export class GpuRans implements Rans {
  readonly #batches: RansBatches;
  readonly #tables: RansTables;

  /** @throws {RangeError} when a table does not sum to 2^bits. */
  constructor(batches: RansBatches, tables: RansTables) {
    requireTables(tables);
    this.#batches = batches;
    this.#tables = { bits: tables.bits, frequencies: tables.frequencies.slice() };
  }

  async encode(symbols: Uint8Array, rows: number, tokens: number, contexts: RansContexts): Promise<Uint8Array> {
    requireSymbols(symbols, rows, tokens);
    requireContexts(contexts, rows, tokens, tableCount(this.#tables));
    if (symbols.length === 0) return new Uint8Array(0);
    return await this.#batches.encode({ data: symbols.slice(), rows, tokens, contexts, tables: this.#tables });
  }

  async decode(
    bytes: Uint8Array,
    rows: number,
    tokens: number,
    contexts: RansContexts,
    out?: Uint8Array,
  ): Promise<Uint8Array> {
    const count = requireStream(bytes, rows, tokens, out);
    const symbols = out ?? new Uint8Array(count);
    requireContexts(contexts, rows, tokens, tableCount(this.#tables));
    if (symbols.length === 0) return symbols;
    symbols.set(await this.#batches.decode({ data: bytes, rows, tokens, contexts, tables: this.#tables }));
    return symbols;
  }

  /** {@linkcode encode} of symbols u8 [rows][tokens] on the device, at least one, which stay as they are until it is done. */
  async encodeOnDevice(
    symbols: DeviceBuffer,
    rows: number,
    tokens: number,
    contexts: RansContexts,
  ): Promise<Uint8Array> {
    requireBytes("encode symbols", "symbols", symbols.byteLength, rows * tokens);
    requireContexts(contexts, rows, tokens, tableCount(this.#tables));
    return await this.#batches.encode({ data: symbols, rows, tokens, contexts, tables: this.#tables });
  }

  /** {@linkcode decode} to symbols u8 [rows][tokens] on the device, at least one. */
  async decodeTo(
    bytes: Uint8Array,
    rows: number,
    tokens: number,
    contexts: RansContexts,
    symbols: DeviceBuffer,
  ): Promise<void> {
    requireStream(bytes, rows, tokens);
    requireBytes("decode symbols", "symbols", symbols.byteLength, rows * tokens);
    requireContexts(contexts, rows, tokens, tableCount(this.#tables));
    await this.#batches.decode({ data: bytes, rows, tokens, contexts, tables: this.#tables, to: symbols });
  }
}
