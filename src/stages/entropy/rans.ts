/**
 * The rANS coder in WebAssembly: the bytes of {@linkcode ReferenceRans}, at 1 to 2 symbols a nanosecond.
 *
 * @module
 */
import { EntropyKernels, type RansKernels } from "../../backend/wasm/entropy_kernels.ts";
import type { WasmBuild } from "../../backend/wasm/exports.ts";
import { KvzBackendError } from "../../errors.ts";
import { type RansContexts, requireContexts, TOKEN_KINDS, TRELLIS_STATES } from "./rans_contexts.ts";
import {
  badState,
  type HostRans,
  notAtEnd,
  RANS_LANES,
  requireStream,
  requireSymbols,
  truncated,
  uncodable,
  usedLanes,
} from "./rans_stream.ts";
import { RANS_SYMBOLS, type RansTables, requireTables, tableCount } from "./rans_tables.ts";

/** Bytes that the decoder may read past the end of a stream before it notices: the words of 32 symbols, and a vector. */
const PADDING = 2 * RANS_LANES + 16;
/** Bytes that the kernels may touch past the ends of matrices and tokens: they take four lanes at once. */
const SLACK = 3;
/** Symbols that are decoded at a time into an array that is given, in whole rows. */
const PART = 65536;
/** Bytes of an encoding table. */
const ENCODE_TABLE = RANS_SYMBOLS * 8;
/** Bytes of 32 states. */
const STATES = RANS_LANES * 4;

/**
 * A coder for the tables, on kernels of its own.
 *
 * @throws {KvzBackendError} when the engine cannot run the kernels.
 * @throws {RangeError} when a table does not sum to 2^bits.
 */
export async function createRans(tables: RansTables, options: { build?: WasmBuild } = {}): Promise<WasmRans> {
  return new WasmRans(await EntropyKernels.open(options.build), tables);
}

/** A coder on kernels that others may share. Tables are made when they are first needed, one set for each direction. */
export class WasmRans implements HostRans {
  readonly #kernels: RansKernels;
  readonly #tables: RansTables;
  /** Tables in the kernels' memory; 0 before their first use. */
  #decoding = 0;
  #encoding = 0;
  #freed = false;

  /** @throws {RangeError} when a table does not sum to 2^bits. */
  constructor(kernels: RansKernels, tables: RansTables) {
    requireTables(tables);
    this.#kernels = kernels;
    this.#tables = tables;
  }

  encode(symbols: Uint8Array, rows: number, tokens: number, contexts: RansContexts, room?: Uint8Array): Uint8Array {
    requireSymbols(symbols, rows, tokens);
    requireContexts(contexts, rows, tokens, tableCount(this.#tables));
    const kernels = this.#kernels;
    const { bits } = this.#tables;
    // Symbols that lie in the kernels' memory are coded where they are. Its growth would end views, not addresses.
    const lie = symbols.buffer === kernels.exports.memory.buffer;
    const [address, count] = [symbols.byteOffset, symbols.length];
    const tables = this.#encodingTables();
    return kernels.scoped((alloc) => {
      const from = lie ? address : alloc(count + SLACK);
      const states = alloc(STATES);
      const wordBytes = 2 * count + 16;
      // Before them room for the states, that the stream comes out in one piece.
      const words = alloc(STATES + wordBytes) + STATES;
      if (!lie) kernels.write(from, symbols);
      let [tableOf, indices, kinds] = [0, 0, 0];
      if (contexts.variant === "plain") {
        tableOf = alloc(2 * rows);
        kernels.write(tableOf, contexts.tableOf);
      } else {
        const [classes, kindOf, next] = placeContexts(kernels, contexts, alloc);
        // Where states do not move the tables, those of a row are made when it is coded.
        const still = contexts.next.every((state) => state < 4);
        const indexed = still ? tokens : count;
        indices = alloc(indexed + SLACK);
        kernels.bytes(indices + indexed, SLACK).fill(0);
        if (still) [tableOf, kinds] = [classes, kindOf];
        else kernels.exports.tableIndices(from, rows, tokens, classes, kindOf, next, alloc(tokens), indices);
      }
      const end = words + wordBytes;
      const { encode } = kernels.exports;
      // Addresses come back signed.
      const begin = encode(from, rows, tokens, bits, tables, tableOf, indices, kinds, states, end) >>> 0;
      if (begin === 0) throw uncodable();
      const stateBytes = 4 * usedLanes(rows, tokens);
      const stream = kernels.bytes(begin - stateBytes, stateBytes + end - begin);
      stream.set(kernels.bytes(states, stateBytes));
      // A slice, unlike a new array, is not filled with zeros first.
      if (room === undefined || room.length < stream.length) return stream.slice();
      room.set(stream);
      return room.subarray(0, stream.length);
    });
  }

  decode(bytes: Uint8Array, rows: number, tokens: number, contexts: RansContexts, out?: Uint8Array): Uint8Array {
    const count = requireStream(bytes, rows, tokens, out);
    requireContexts(contexts, rows, tokens, tableCount(this.#tables));
    const kernels = this.#kernels;
    const { bits } = this.#tables;
    const tables = this.#decodingTables();
    return kernels.scoped((alloc) => {
      const from = alloc(bytes.length + PADDING);
      const states = alloc(STATES + 4);
      // Symbols for a given array leave while they are in the core's cache; a slice takes all of them at once.
      const part = out === undefined ? rows : Math.max(1, Math.floor(PART / Math.max(tokens, 1)));
      const to = alloc(Math.min(part * tokens, count) + SLACK);
      const trellis = alloc(tokens + SLACK);
      let [choice, classes, next] = [0, 0, 0];
      if (contexts.variant === "plain") {
        choice = alloc(2 * rows);
        kernels.write(choice, contexts.tableOf);
      } else {
        [classes, choice, next] = placeContexts(kernels, contexts, alloc);
      }
      kernels.write(from, bytes);
      const { length } = bytes;
      const { decode } = kernels.exports;
      let begin = 0;
      do {
        const end = Math.min(begin + part, rows);
        const code = decode(
          from,
          length,
          begin,
          end,
          rows,
          tokens,
          bits,
          tables,
          choice,
          classes,
          next,
          trellis,
          states,
          to,
        );
        if (code === 1) throw badState();
        if (code === 2) throw truncated();
        if (code === 3) throw notAtEnd();
        out?.set(kernels.bytes(to, (end - begin) * tokens), begin * tokens);
        begin = end;
      } while (begin < rows);
      // A slice, unlike a new array, is not filled with zeros first.
      return out ?? kernels.bytes(to, count).slice();
    });
  }

  /** Gives the tables' memory back; the coder must not be used any more. For coders that share kernels. */
  free(): void {
    if (this.#decoding !== 0) this.#kernels.free(this.#decoding);
    if (this.#encoding !== 0) this.#kernels.free(this.#encoding);
    this.#decoding = this.#encoding = 0;
    this.#freed = true;
  }

  #decodingTables(): number {
    this.#requireOpen();
    if (this.#decoding === 0) {
      const [{ bits }, { decodeTable }] = [this.#tables, this.#kernels.exports];
      this.#decoding = this.#makeTables(4 << bits, (from, to) => decodeTable(from, bits, to));
    }
    return this.#decoding;
  }

  #encodingTables(): number {
    this.#requireOpen();
    if (this.#encoding === 0) this.#encoding = this.#makeTables(ENCODE_TABLE, this.#kernels.exports.encodeTable);
    return this.#encoding;
  }

  #makeTables(bytes: number, make: (frequencies: number, to: number) => void): number {
    const { frequencies } = this.#tables;
    const count = tableCount(this.#tables);
    const to = this.#kernels.alloc(count * bytes);
    this.#kernels.scoped((alloc) => {
      const from = alloc(frequencies.byteLength);
      this.#kernels.write(from, frequencies);
      for (let i = 0; i < count; i++) make(from + i * RANS_SYMBOLS * 2, to + i * bytes);
    });
    return to;
  }

  #requireOpen(): void {
    if (this.#freed) throw new KvzBackendError("Cannot code symbols: the coder was freed");
  }
}

/**
 * Memory that a coder takes which encodes symbols [rows][tokens] of its kernels' memory under contexts that never move the
 * tables, its tables included: room for it in one piece lets all of it be taken without the memory growing.
 */
export function encodingBytes(rows: number, tokens: number, tables: number): number {
  const contexts = TOKEN_KINDS * rows + tokens + SLACK + 2 * TRELLIS_STATES + tokens + SLACK;
  const coding = contexts + 2 * STATES + 2 * rows * tokens + 16;
  // Frequencies are given back before symbols are coded. Blocks begin at multiples of 64.
  return tables * ENCODE_TABLE + Math.max(tables * 2 * RANS_SYMBOLS, coding) + 64 * 8;
}

/** Copies trellis contexts into the kernels' memory: classes, kinds, next. */
export function placeContexts(
  kernels: RansKernels,
  contexts: RansContexts & { variant: "trellis" },
  alloc: (byteLength: number) => number,
): [classes: number, kinds: number, next: number] {
  const [classes, kinds, next] = [
    alloc(contexts.classes.length),
    alloc(contexts.kinds.length + SLACK),
    alloc(contexts.next.length),
  ];
  kernels.write(classes, contexts.classes);
  kernels.write(kinds, contexts.kinds);
  kernels.bytes(kinds + contexts.kinds.length, SLACK).fill(0);
  kernels.write(next, contexts.next);
  return [classes, kinds, next];
}
