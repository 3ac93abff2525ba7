/**
 * rANS (range asymmetric numeral systems; Duda 2013, with the renormalization of Giesen's ryg_rans) in plain TypeScript:
 * the coder that defines the stream. The kernels in asm/entropy/ make and read the same bytes.
 *
 * Symbols are coded from last to first, so that they decode from first to last. Every symbol moves the state x of its
 * token's lane: with frequency f of 2^bits, of which `start` lie below it, x → ⌊x / f⌋ · 2^bits + start + x mod f. A
 * state that would reach 2^32 first gives its lower 16 bits away as a word; the decoder takes one when a state falls
 * below 2^16. Words lie in the order in which the decoder takes them.
 *
 * @module
 */
import { type RansContexts, requireContexts, tablesOf, TableWalk } from "./rans_contexts.ts";
import {
  badState,
  type HostRans,
  notAtEnd,
  RANS_LANES,
  RANS_LOW,
  requireStream,
  requireSymbols,
  truncated,
  uncodable,
  usedLanes,
} from "./rans_stream.ts";
import { RANS_SYMBOLS, type RansTables, requireTables, tableCount } from "./rans_tables.ts";

/** The reference coder. */
export class ReferenceRans implements HostRans {
  readonly #tables: RansTables;
  /** Sum of the frequencies below each symbol, [tables][256]. */
  readonly #starts: Uint16Array;
  /** Symbol of each slot, [tables][2^bits]. */
  readonly #symbols: Uint8Array;

  /** @throws {RangeError} when a table does not sum to 2^bits. */
  constructor(tables: RansTables) {
    requireTables(tables);
    const { bits, frequencies } = tables;
    this.#tables = tables;
    this.#starts = new Uint16Array(frequencies.length);
    this.#symbols = new Uint8Array(tableCount(tables) << bits);
    for (let i = 0, slot = 0; i < frequencies.length; i++) {
      this.#starts[i] = slot % (1 << bits);
      this.#symbols.fill(i % RANS_SYMBOLS, slot, slot + frequencies[i]);
      slot += frequencies[i];
    }
  }

  encode(symbols: Uint8Array, rows: number, tokens: number, contexts: RansContexts): Uint8Array {
    requireSymbols(symbols, rows, tokens);
    requireContexts(contexts, rows, tokens, tableCount(this.#tables));
    const { bits, frequencies } = this.#tables;
    const tables = tablesOf(symbols, rows, tokens, contexts);
    const states = new Float64Array(usedLanes(rows, tokens)).fill(RANS_LOW);
    const words: number[] = [];
    for (let i = symbols.length - 1; i >= 0; i--) {
      const lane = (i % tokens) % RANS_LANES;
      const entry = tables[i] * RANS_SYMBOLS + symbols[i];
      const f = frequencies[entry];
      if (f === 0) throw uncodable();
      let x = states[lane];
      if (x >= f * (1 << 32 - bits)) {
        words.push(x % 2 ** 16);
        x = Math.floor(x / 2 ** 16);
      }
      states[lane] = Math.floor(x / f) * (1 << bits) + this.#starts[entry] + x % f;
    }
    const bytes = new Uint8Array(4 * states.length + 2 * words.length);
    const view = new DataView(bytes.buffer);
    states.forEach((x, lane) => view.setUint32(4 * lane, x, true));
    words.forEach((word, i) => view.setUint16(bytes.length - 2 * (i + 1), word, true));
    return bytes;
  }

  decode(bytes: Uint8Array, rows: number, tokens: number, contexts: RansContexts, out?: Uint8Array): Uint8Array {
    const count = requireStream(bytes, rows, tokens, out);
    const symbols = out ?? new Uint8Array(count);
    requireContexts(contexts, rows, tokens, tableCount(this.#tables));
    const { bits, frequencies } = this.#tables;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const states = Float64Array.from({ length: usedLanes(rows, tokens) }, (_, lane) => view.getUint32(4 * lane, true));
    if (states.some((x) => x < RANS_LOW)) throw badState();
    let at = 4 * states.length;
    const walk = new TableWalk(contexts, tokens);
    for (let row = 0, i = 0; row < rows; row++) {
      for (let t = 0; t < tokens; t++, i++) {
        const table = walk.table(row, t);
        let x = states[t % RANS_LANES];
        const slot = x % (1 << bits);
        const symbol = this.#symbols[(table << bits) + slot];
        const entry = table * RANS_SYMBOLS + symbol;
        x = frequencies[entry] * Math.floor(x / (1 << bits)) + slot - this.#starts[entry];
        if (x < RANS_LOW) {
          if (at === bytes.length) throw truncated();
          x = x * 2 ** 16 + view.getUint16(at, true);
          at += 2;
        }
        states[t % RANS_LANES] = x;
        symbols[i] = symbol;
        walk.advance(t, symbol);
      }
    }
    if (at !== bytes.length || states.some((x) => x !== RANS_LOW)) throw notAtEnd();
    return symbols;
  }
}
