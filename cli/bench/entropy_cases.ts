/**
 * The entropy coders' kernels on a GPU, ready to run. Rates are of symbols.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../../src/backend/backend.ts";
import { mostBytes, type StreamBatch } from "../../src/backend/gpu/entropy.ts";
import { TABLE_STRIDE } from "../../src/backend/gpu/huffman.ts";
import { codeLengths, decodeTable } from "../../src/stages/entropy/huffman.ts";
import {
  blocksOfHead,
  type CodedShape,
  encodeBlocks,
  KEY_BLOCKS,
  vectorsOfHead,
} from "../../src/stages/entropy/huffman_blocks.ts";
import { partShape } from "../../src/stages/entropy/huffman_dots.ts";
import { frequenciesOf } from "../../src/stages/entropy/packed_tables.ts";
import type { RansContexts } from "../../src/stages/entropy/rans_contexts.ts";
import { RANS_SYMBOLS, type RansTables } from "../../src/stages/entropy/rans_tables.ts";
import { TABLES } from "../../src/stages/quantize/trellis/model.ts";
import { NEXT_STATE } from "../../src/stages/quantize/trellis/states.ts";
import { DIM, filled, HEADS, type Kernel, random, requireSame } from "./operands.ts";

/** Rows of a stream, and its tokens. */
const [ROWS, TOKENS] = [64, 256];
/** Symbols that are drawn; what is longer repeats them. */
const DRAWN = 1 << 20;
/** Most tokens that are coded in Huffman's blocks, which the host makes. */
const MOST_CODED = 2048;

/** Symbols as int4 codes have them, a Laplacian over 16. */
export function drawnSymbols(count: number): Uint8Array {
  return Uint8Array.from({ length: Math.min(count, DRAWN) }, () => {
    const x = Math.log(1 - Math.random()) * (Math.random() < 0.5 ? -1.6 : 1.6);
    return Math.max(0, Math.min(15, Math.round(7.5 + x)));
  });
}

/** So many tables, all of them made of the same symbols. */
export function tablesFor(symbols: Uint8Array, count: number): RansTables {
  const counts = new Uint32Array(RANS_SYMBOLS);
  for (const symbol of symbols) counts[symbol]++;
  const frequencies = new Uint16Array(count * RANS_SYMBOLS);
  const one = frequenciesOf(counts, 11);
  for (let i = 0; i < count; i++) frequencies.set(one, i * RANS_SYMBOLS);
  return { bits: 11, frequencies };
}

/** Contexts of the trellis that take all tables in turn. */
export function turningContexts(rows: number, tokens: number): RansContexts {
  return {
    variant: "trellis",
    classes: Uint8Array.from({ length: rows * 16 }, (_, i) => i * 7 % (TABLES / 2)),
    kinds: Uint8Array.from({ length: tokens }, (_, t) => t * 5 % 15),
    next: NEXT_STATE,
  };
}

/** rANS, counts and transposition of 64 symbols a token, as many tokens as 256 times the streams. */
export async function entropyKernels(backend: Backend, streams: number): Promise<Kernel[]> {
  const entropy = backend.gpu?.entropy;
  if (!entropy) return [];
  const count = streams * ROWS * TOKENS;
  const drawn = drawnSymbols(count);
  const room = Math.max(count, 2 * ROWS * TOKENS);
  const [symbols, restored] = [filled(backend, drawn, room), backend.alloc(room)];
  const counts = backend.alloc(streams * ROWS * 16 * 4);
  const plain = (table: (row: number) => number): RansContexts => (
    { variant: "plain", tableOf: Uint16Array.from({ length: ROWS }, (_, row) => table(row)) }
  );
  const batchOf = (tokens: number) => (
    { streams: Math.max(1, Math.floor(streams * TOKENS / tokens)), rows: ROWS, tokens }
  );
  const cases: readonly (readonly [what: string, batch: StreamBatch, tables: number, contexts: RansContexts])[] = [
    ["", batchOf(TOKENS), 1, plain(() => 0)],
    [", 128 tables", batchOf(TOKENS), 128, plain((row) => 2 * row)],
    [", trellis contexts", batchOf(TOKENS), TABLES, turningContexts(ROWS, TOKENS)],
    [", trellis contexts, 512 tokens", batchOf(2 * TOKENS), TABLES, turningContexts(ROWS, 2 * TOKENS)],
    [", 255 tokens", batchOf(TOKENS - 1), 1, plain(() => 0)],
  ];
  const bytes = backend.alloc(Math.max(...cases.map(([, batch]) => mostBytes(batch))));
  const coders: Kernel[] = [];
  for (const [what, batch, tables, contexts] of cases) {
    coders.push(...await ransKernels(what, batch, tablesFor(drawn, tables), contexts));
  }
  const long = Math.min(1 << 16, count);
  const transposed = (rows: number, chunk: number) => {
    const tokens = Math.floor(count / rows);
    const sizes = [rows, tokens, rows, chunk] as const;
    const name = rows === ROWS ? "" : ", odd sizes";
    return [
      {
        name: `transpose${name}`,
        bytes: 2 * tokens * rows,
        run: () => entropy.transpose(symbols, ...sizes, restored),
      },
      {
        name: `untranspose${name}`,
        bytes: 2 * tokens * rows,
        run: () => entropy.untranspose(symbols, ...sizes, restored),
      },
    ];
  };
  return [
    ...coders,
    { name: "histogram", bytes: count, run: () => entropy.histogram(symbols, count / TOKENS, TOKENS, 16, counts) },
    {
      name: "histogram, long rows",
      bytes: count,
      run: () => entropy.histogram(symbols, count / long, long, 16, counts),
    },
    ...transposed(ROWS, TOKENS),
    ...transposed(ROWS - 3, TOKENS - 1),
  ];

  async function ransKernels(
    what: string,
    batch: StreamBatch,
    tables: RansTables,
    contexts: RansContexts,
  ): Promise<Kernel[]> {
    const [own, chosen] = [entropy!.uploadTables(tables), entropy!.uploadContexts([contexts], batch, TABLES)];
    const [begins, lengths, status] = [1, 0, 0].map((more) => backend.alloc((batch.streams + more) * 4));
    const encode = () => entropy!.encode(symbols, batch, own, chosen, bytes, begins, lengths);
    encode();
    // The others encode into the same memory.
    const end = new Uint32Array((await backend.read(begins, batch.streams * 4, 4)).buffer)[0];
    const coded = backend.alloc(end + 3 & ~3);
    backend.copy(bytes, 0, coded, 0, end + 3 & ~3);
    const decode = () => entropy!.decode(coded, begins, batch, own, chosen, restored, status, lengths);
    decode();
    const coding = batch.streams * batch.rows * batch.tokens;
    await requireSame("The entropy coder", backend, symbols, restored, Math.min(coding, DRAWN));
    return [
      { name: `rANS encode${what}`, bytes: coding, run: encode },
      { name: `rANS decode${what}`, bytes: coding, run: decode },
    ];
  }
}

/** Keys of a layer in Huffman's blocks, 22 symbols as KVComp's have. */
export function codedKeys(heads: number, tokens: number) {
  const blockTokens = KEY_BLOCKS.tokens;
  const shape: CodedShape = {
    layers: 1,
    heads,
    tokens: Math.max(blockTokens, Math.floor(Math.min(tokens, MOST_CODED) / blockTokens) * blockTokens),
    dim: DIM,
    layout: KEY_BLOCKS,
  };
  const symbols = new Uint8Array(heads * shape.tokens * DIM);
  for (let i = 0; i < symbols.length; i++) symbols[i] = Math.floor(22 * Math.random() * Math.random());
  const counts = new Array(22).fill(0);
  for (const symbol of symbols) counts[symbol]++;
  const lengths = [codeLengths(counts)];
  return { shape, lengths, symbols, blocks: encodeBlocks(symbols, shape, lengths) };
}

/** Products of Huffman-coded keys with one query a head, and with four. */
export function huffmanKernels(backend: Backend, tokens: number): Kernel[] {
  const huffman = backend.gpu?.huffman;
  if (!huffman) return [];
  const { shape, lengths, symbols, blocks } = codedKeys(HEADS, tokens);
  const { tokenBlocks, blockStride, vectorStride, vectors, length } = partShape(shape, 0);
  const whole = (bytes: Uint8Array): DeviceBuffer => filled(backend, bytes, Math.ceil(bytes.length / 4) * 4);
  const table = new Uint8Array(TABLE_STRIDE);
  table.set(new Uint8Array(decodeTable(lengths[0]).buffer));
  const codes = {
    codes: whole(blocks.codes),
    blocks: whole(blocks.table),
    vectors: whole(blocks.vectors),
    tables: whole(table),
  };
  const status = filled(backend, new Uint32Array(4));
  return ([1, 4] as const).map((lanes): Kernel => {
    const weights = filled(backend, random(HEADS * length * lanes));
    const out = backend.alloc(4 * HEADS * tokenBlocks * vectors * lanes);
    const sizes = {
      layer: 0,
      heads: HEADS,
      tokenBlocks,
      block: 0,
      vector: 0,
      headBlocks: blocksOfHead(shape),
      headVectors: vectorsOfHead(shape),
      blockStride,
      vectorStride,
      vectors,
      length,
      alphabet: lengths[0].length,
      sets: 1,
      lanes,
    };
    const name = lanes === 1 ? "Huffman dots" : "Huffman dots, 4 queries";
    return { name, bytes: symbols.length, run: () => huffman.dots(codes, sizes, weights, out, status) };
  });
}
