/**
 * Symbols that the entropy coder is measured on: streams of 256 tokens, of 16 rows and of 1024.
 *
 * @module
 */
import { type RansContexts, TOKEN_KINDS } from "../../src/stages/entropy/rans_contexts.ts";
import { countSymbols } from "../../src/stages/entropy/rans_counts.ts";
import { normalizeTables, type RansTables } from "../../src/stages/entropy/rans_tables.ts";

/** Streams of one geometry, as many as are asked for from a tile that repeats. */
export interface SymbolSet {
  readonly name: string;
  readonly rows: number;
  readonly tokens: number;
  /** Symbols of a whole number of streams. */
  readonly tile: Uint8Array;
  /** Contexts of every stream. */
  readonly contexts: RansContexts;
  readonly tables: RansTables;
}

const TOKENS = 256;
const ROWS = [16, 1024];
/** Symbols of a tile. */
const TILE = 1 << 20;
/** Tables of the trellis set: two for each class. */
const TABLES = 128;
/** 8-state trellis: next states by 2 · state + parity. */
const NEXT = Uint8Array.of(0, 4, 5, 1, 6, 2, 3, 7, 1, 5, 4, 0, 7, 3, 2, 6);

/** Uniform numbers in (0, 1) from a seed (mulberry32). */
function uniform(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
}

const random = uniform(7);
const clamp = (x: number, most: number) => Math.max(0, Math.min(most, Math.round(x)));

function laplacian(scale: number): number {
  const u = random() - 0.5;
  return -scale * Math.sign(u) * Math.log(1 - 2 * Math.abs(u));
}

function gaussian(): number {
  return Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());
}

/** 4-bit Laplacian (3.1 bits a symbol), 8-bit Gaussian (6.2 bits), and levels of 64 classes under trellis contexts. */
export function symbolSets(): SymbolSet[] {
  const q4 = Uint8Array.from({ length: TILE }, () => clamp(7.5 + laplacian(1.59), 15));
  const q8 = Uint8Array.from({ length: TILE }, () => clamp(128 + 18 * gaussian(), 255));
  return ROWS.flatMap((rows) => {
    const plain = { variant: "plain" as const, tableOf: new Uint16Array(rows) };
    const classes = Uint8Array.from(
      { length: rows * TOKEN_KINDS },
      (_, i) => clamp(40 - 30 * (i >> 4) / rows + 2 * (i % 3 - 1), TABLES / 2 - 1),
    );
    const kinds = Uint8Array.from({ length: TOKENS }, () => random() * TOKEN_KINDS);
    const levels = Uint8Array.from({ length: TILE }, (_, i) => {
      const row = Math.floor(i / TOKENS) % rows;
      const level = Math.round(laplacian(2 ** ((classes[row * TOKEN_KINDS + kinds[i % TOKENS]] - 24) / 5)));
      return Math.min(253, level > 0 ? 2 * level - 1 : -2 * level);
    });
    return [
      trained("q4", q4, rows, plain, 1),
      trained("q8", q8, rows, plain, 1),
      trained("levels", levels, rows, { variant: "trellis", classes, kinds, next: NEXT }, TABLES),
    ];
  });
}

function trained(name: string, tile: Uint8Array, rows: number, contexts: RansContexts, tables: number): SymbolSet {
  const weights = Array.from({ length: tables }, () => new Float64Array(256));
  const perStream = rows * TOKENS;
  for (let at = 0; at < TILE; at += perStream) {
    const counts = countSymbols(tile.subarray(at, at + perStream), rows, TOKENS, contexts, tables);
    counts.forEach((count, i) => weights[i >> 8][i & 255] += count);
  }
  for (const list of weights) if (list.every((weight) => weight === 0)) list[0] = 1;
  return { name, rows, tokens: TOKENS, tile, contexts, tables: normalizeTables(weights, 11) };
}
