/**
 * Which frequency table codes which symbol. Symbols stand in a matrix [rows][tokens], a row per component. Either a
 * table serves a whole row, or it follows from the row, the kind of the token and the state of the token's trellis: the
 * dependent quantizer's state (8 states, two quantizers), which runs along the rows of a token and moves by the parity
 * of each level. Encoder and decoder see the same states, so they cost nothing.
 *
 * @module
 */

/** Kinds that a token can have. */
export const TOKEN_KINDS = 16;
/** Classes that a row can have for a kind. */
export const ROW_CLASSES = 64;
/** States of the trellis; states 4–7 use the second quantizer. */
export const TRELLIS_STATES = 8;

/** One table for each row. */
export interface PlainContexts {
  readonly variant: "plain";
  /** Table of each row, [rows]. */
  readonly tableOf: Uint16Array;
}

/** Table 2 · classes[row][kinds[token]] + (state >> 2), with a trellis state for each token. */
export interface TrellisContexts {
  readonly variant: "trellis";
  /** Class (below 64) of each row for each of 16 kinds of token, [rows][16]. */
  readonly classes: Uint8Array;
  /** Kind (below 16) of each token, [tokens]. */
  readonly kinds: Uint8Array;
  /** Next state by 2 · state + parity of the level, [16]; every token starts in state 0. */
  readonly next: Uint8Array;
}

/** What chooses the table of each symbol. */
export type RansContexts = PlainContexts | TrellisContexts;

/**
 * Parity of the level that a symbol stands for: symbols are zigzag codes (0, 1, −1, 2, −2, …), 254 and 255 escapes of odd
 * and even levels.
 */
export function parityOf(symbol: number): number {
  return ((symbol + 1) >> 1) & 1;
}

/**
 * Checks contexts for a matrix and `tables` tables.
 *
 * @throws {RangeError} naming what does not fit.
 */
export function requireContexts(contexts: RansContexts, rows: number, tokens: number, tables: number): void {
  if (contexts.variant === "plain") {
    requireList("tableOf", contexts.tableOf, rows, tables);
    return;
  }
  const { classes, kinds, next } = contexts;
  requireList("classes", classes, rows * TOKEN_KINDS, Math.min(ROW_CLASSES, tables >> 1));
  requireList("kinds", kinds, tokens, TOKEN_KINDS);
  requireList("next", next, 2 * TRELLIS_STATES, TRELLIS_STATES);
}

function requireList(name: string, list: Uint8Array | Uint16Array, length: number, below: number): void {
  if (list.length !== length) {
    throw new RangeError(`Cannot use contexts: ${name} has ${list.length} entries, expected ${length}`);
  }
  for (let i = 0; i < length; i++) {
    if (list[i] >= below) {
      throw new RangeError(`Cannot use contexts: ${name}[${i}] is ${list[i]}, expected less than ${below}`);
    }
  }
}

/** The tables of a matrix's symbols in stream order: row after row, token after token. */
export class TableWalk {
  readonly #contexts: RansContexts;
  readonly #states: Uint8Array;

  constructor(contexts: RansContexts, tokens: number) {
    this.#contexts = contexts;
    this.#states = new Uint8Array(contexts.variant === "trellis" ? tokens : 0);
  }

  /** The table of (row, token), where all rows before were passed to {@linkcode advance}. */
  table(row: number, token: number): number {
    const c = this.#contexts;
    if (c.variant === "plain") return c.tableOf[row];
    return 2 * c.classes[row * TOKEN_KINDS + c.kinds[token]] + (this.#states[token] >> 2);
  }

  /** Tells the symbol of the token's present row. */
  advance(token: number, symbol: number): void {
    const c = this.#contexts;
    if (c.variant === "trellis") this.#states[token] = c.next[2 * this.#states[token] + parityOf(symbol)];
  }
}

/** Table of every symbol, [rows][tokens]. */
export function tablesOf(symbols: Uint8Array, rows: number, tokens: number, contexts: RansContexts): Uint16Array {
  const tables = new Uint16Array(rows * tokens);
  const walk = new TableWalk(contexts, tokens);
  for (let row = 0, i = 0; row < rows; row++) {
    for (let t = 0; t < tokens; t++, i++) {
      tables[i] = walk.table(row, t);
      walk.advance(t, symbols[i]);
    }
  }
  return tables;
}
