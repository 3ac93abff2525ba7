/**
 * Huffman-coded blocks that decode apart, as KVComp's kernels store them (arXiv 2509.00579; kernels.cu of its authors):
 * a block has up to 64 vectors of up to 128 symbols. A vector of keys is a token over channels, a vector of values a
 * channel over tokens, so that a product with a query, or with attention weights, goes along vectors and every vector can
 * be decoded by a thread of its own. Vectors begin at whole bytes.
 *
 * Side information as published: u16 a vector, (index of its last byte within the block) · 8 + bits of padding; 8 bytes a
 * block, u32 where it begins, u16 its bytes, and u16 of flags, unused by the authors. Flag 1 says that the block's symbols
 * stand as bytes: where a code made of other data would be longer than that, and the index of a byte need more than 13
 * bits.
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import { canonicalCodes, decodeTable, LOOKUP_BITS, MAX_CODE_BITS, TABLE_LAYOUT } from "./huffman.ts";

/** How blocks lie in a tensor. */
export interface BlockLayout {
  /** Tokens of a block: all of a block's tokens are there, tensors have whole blocks. */
  readonly tokens: number;
  /** Most channels of a block; the last block of a head may have fewer. */
  readonly channels: number;
  /** What a vector goes along. */
  readonly along: "channels" | "tokens";
}

/** Keys: 64 tokens × 128 channels, a vector a token. */
export const KEY_BLOCKS: BlockLayout = { tokens: 64, channels: 128, along: "channels" };
/** Values: 128 tokens × 64 channels, a vector a channel. */
export const VALUE_BLOCKS: BlockLayout = { tokens: 128, channels: 64, along: "tokens" };

/** Shape of the symbols [layers][heads][tokens][dim]; tokens are whole blocks. */
export interface CodedShape {
  readonly layers: number;
  readonly heads: number;
  readonly tokens: number;
  readonly dim: number;
  readonly layout: BlockLayout;
}

/** Coded symbols. Blocks stand in the order [layers][heads][tokens / block][channels / block]. */
export interface HuffmanBlocks {
  /** 8 bytes a block. */
  readonly table: Uint8Array;
  /** u16 a vector, little-endian. */
  readonly vectors: Uint8Array;
  readonly codes: Uint8Array;
}

/** One block of a tensor. */
export interface BlockPlace {
  /** Number of the block, and of its first vector. */
  readonly index: number;
  readonly firstVector: number;
  readonly layer: number;
  readonly head: number;
  /** Number of its tokens' block, and of its channels'. */
  readonly tokenBlock: number;
  readonly part: number;
  readonly vectors: number;
  /** Symbols of a vector. */
  readonly length: number;
  /** Index of the first symbol in the tensor, and steps to the next symbol and the next vector. */
  readonly at: number;
  readonly symbolStride: number;
  readonly vectorStride: number;
}

const BLOCK_BYTES = 8;
const RAW = 1;

/** Blocks of a head. */
export function blocksOfHead({ tokens, dim, layout }: Pick<CodedShape, "tokens" | "dim" | "layout">): number {
  return tokens / layout.tokens * Math.ceil(dim / layout.channels);
}

/** Vectors of a head. */
export function vectorsOfHead({ tokens, dim, layout }: Pick<CodedShape, "tokens" | "dim" | "layout">): number {
  return tokens / layout.tokens *
    (layout.along === "channels" ? layout.tokens * Math.ceil(dim / layout.channels) : dim);
}

/** The blocks of layers [layerBegin, layerEnd) in order. */
export function* blockPlaces(shape: CodedShape, layerBegin = 0, layerEnd = shape.layers): Generator<BlockPlace> {
  const { heads, tokens, dim, layout } = shape;
  const parts = Math.ceil(dim / layout.channels);
  const along = layout.along === "channels";
  let index = layerBegin * heads * blocksOfHead(shape);
  let firstVector = layerBegin * heads * vectorsOfHead(shape);
  for (let row = layerBegin * heads; row < layerEnd * heads; row++) {
    for (let tokenBlock = 0; tokenBlock < tokens / layout.tokens; tokenBlock++) {
      for (let part = 0; part < parts; part++) {
        const channels = Math.min(layout.channels, dim - part * layout.channels);
        const vectors = along ? layout.tokens : channels;
        yield {
          index: index++,
          firstVector,
          layer: Math.floor(row / heads),
          head: row % heads,
          tokenBlock,
          part,
          vectors,
          length: along ? channels : layout.tokens,
          at: (row * tokens + tokenBlock * layout.tokens) * dim + part * layout.channels,
          symbolStride: along ? 1 : dim,
          vectorStride: along ? dim : 1,
        };
        firstVector += vectors;
      }
    }
  }
}

/** Codes symbols with the code of each layer, given by its lengths. */
export function encodeBlocks(symbols: Uint8Array, shape: CodedShape, lengths: readonly Uint8Array[]): HuffmanBlocks {
  const rows = shape.layers * shape.heads;
  const table = new DataView(new ArrayBuffer(BLOCK_BYTES * rows * blocksOfHead(shape)));
  const vectors = new DataView(new ArrayBuffer(2 * rows * vectorsOfHead(shape)));
  // A block is never longer than its symbols as bytes.
  const codes = new Uint8Array(symbols.length);
  const allCodes = lengths.map(canonicalCodes);
  let begin = 0;
  for (const place of blockPlaces(shape)) {
    const { index, firstVector, layer, length } = place;
    const [code, bits] = [allCodes[layer], lengths[layer]];
    const raw = codedBytes(symbols, place, bits) > place.vectors * length;
    let to = begin;
    for (let v = 0; v < place.vectors; v++) {
      const from = place.at + v * place.vectorStride;
      let pad = 0;
      if (raw) {
        for (let n = 0, i = from; n < length; n++, i += place.symbolStride) codes[to++] = symbols[i];
      } else {
        let [buffer, have] = [0, 0];
        for (let n = 0, i = from; n < length; n++, i += place.symbolStride) {
          const symbol = symbols[i];
          buffer = (buffer << bits[symbol] | code[symbol]) & 0x3fffff;
          for (have += bits[symbol]; have >= 8; have -= 8) codes[to++] = buffer >> have - 8;
        }
        pad = -have & 7;
        if (pad > 0) codes[to++] = buffer << pad;
      }
      vectors.setUint16(2 * (firstVector + v), to - begin - 1 << 3 | pad, true);
    }
    table.setUint32(BLOCK_BYTES * index, begin, true);
    table.setUint16(BLOCK_BYTES * index + 4, to - begin, true);
    table.setUint16(BLOCK_BYTES * index + 6, raw ? RAW : 0, true);
    begin = to;
  }
  return {
    table: new Uint8Array(table.buffer),
    vectors: new Uint8Array(vectors.buffer),
    codes: codes.slice(0, begin),
  };
}

function codedBytes(symbols: Uint8Array, place: BlockPlace, bits: Uint8Array): number {
  let bytes = 0;
  for (let v = 0; v < place.vectors; v++) {
    let sum = 0;
    for (let n = 0, i = place.at + v * place.vectorStride; n < place.length; n++, i += place.symbolStride) {
      sum += bits[symbols[i]];
    }
    bytes += sum + 7 >> 3;
  }
  return bytes;
}

/** Symbols of the layers [layerBegin, layerEnd), [layers][heads][tokens][dim]. The blocks must have been checked. */
export function decodeBlocks(
  blocks: HuffmanBlocks,
  shape: CodedShape,
  lengths: readonly Uint8Array[],
  layerBegin = 0,
  layerEnd = shape.layers,
): Uint8Array {
  const { heads, tokens, dim } = shape;
  const first = layerBegin * heads * tokens * dim;
  const out = new Uint8Array((layerEnd - layerBegin) * heads * tokens * dim);
  const one = new Uint8Array(Math.max(shape.layout.channels, shape.layout.tokens));
  let layer = -1;
  let table: Uint16Array = new Uint16Array(0);
  for (const place of blockPlaces(shape, layerBegin, layerEnd)) {
    if (place.layer !== layer) {
      layer = place.layer;
      table = decodeTable(lengths[layer]);
    }
    const alphabet = lengths[layer].length;
    for (let v = 0; v < place.vectors; v++) {
      decodeVector(blocks, place, v, table, alphabet, one);
      const to = place.at - first + v * place.vectorStride;
      for (let n = 0; n < place.length; n++) out[to + n * place.symbolStride] = one[n];
    }
  }
  return out;
}

/**
 * Decodes vector `v` of a block.
 *
 * @throws {KvzFormatError} Its symbols do not use up its bits, or one is not in the alphabet.
 */
export function decodeVector(
  { table: blockTable, vectors, codes }: HuffmanBlocks,
  { index, firstVector, length }: BlockPlace,
  v: number,
  table: Uint16Array,
  alphabet: number,
  out: Uint8Array,
): void {
  const entry = BLOCK_BYTES * index;
  const begin = blockTable[entry] +
    256 * (blockTable[entry + 1] + 256 * (blockTable[entry + 2] + 256 * blockTable[entry + 3]));
  const info = (at: number) => vectors[2 * at] | vectors[2 * at + 1] << 8;
  const end = begin + (info(firstVector + v) >> 3) + 1;
  let at = begin + (v === 0 ? 0 : (info(firstVector + v - 1) >> 3) + 1);
  if (blockTable[entry + 6] === RAW) {
    for (let n = 0; n < length; n++) {
      out[n] = codes[at + n];
      if (out[n] >= alphabet) {
        throw new KvzFormatError(`Cannot decode block ${index}: it has symbol ${out[n]} of ${alphabet}`);
      }
    }
    return;
  }
  const bits = 8 * (end - at) - (info(firstVector + v) & 7);
  let [buffer, have, used] = [0, 0, 0];
  for (let n = 0; n < length; n++) {
    for (; have < MAX_CODE_BITS; have += 8) buffer = (buffer << 8 | (at < end ? codes[at++] : 0)) & 0x3fffff;
    const window = buffer >> have - MAX_CODE_BITS & (1 << MAX_CODE_BITS) - 1;
    let found = table[window >> MAX_CODE_BITS - LOOKUP_BITS];
    if (found === 0) {
      let size = LOOKUP_BITS + 1;
      while (window >= table[TABLE_LAYOUT.limits + size]) size++;
      const place = table[TABLE_LAYOUT.bases + size] + (window >> MAX_CODE_BITS - size) & 0xffff;
      found = size << 8 | table[TABLE_LAYOUT.symbols + place];
    }
    out[n] = found & 255;
    have -= found >> 8;
    used += found >> 8;
  }
  if (used !== bits) {
    throw new KvzFormatError(`Cannot decode block ${index}: vector ${v} has ${bits} bits, its symbols ${used}`);
  }
}

/** Bytes of the tables of blocks and vectors of a tensor. */
export function sideBytes(shape: CodedShape): { table: number; vectors: number } {
  const rows = shape.layers * shape.heads;
  return { table: BLOCK_BYTES * rows * blocksOfHead(shape), vectors: 2 * rows * vectorsOfHead(shape) };
}

/**
 * Checks tables that came from a file: blocks follow each other, vectors fill them.
 *
 * @throws {KvzFormatError} They do not, or their bytes are not those of the codes.
 */
export function checkBlocks({ table, vectors, codes }: HuffmanBlocks, shape: CodedShape): void {
  const wanted = sideBytes(shape);
  if (table.length !== wanted.table || vectors.length !== wanted.vectors) {
    throw new KvzFormatError(
      `Cannot read blocks: their tables have ${table.length} and ${vectors.length} bytes, expected ${wanted.table} and ` +
        `${wanted.vectors}`,
    );
  }
  const blocks = new DataView(table.buffer, table.byteOffset, table.length);
  const infos = new DataView(vectors.buffer, vectors.byteOffset, vectors.length);
  let begin = 0;
  for (const { index, firstVector, ...place } of blockPlaces(shape)) {
    const fail = (why: string) => new KvzFormatError(`Cannot read block ${index}: ${why}`);
    const bytes = blocks.getUint16(BLOCK_BYTES * index + 4, true);
    const flags = blocks.getUint16(BLOCK_BYTES * index + 6, true);
    if (blocks.getUint32(BLOCK_BYTES * index, true) !== begin) throw fail(`it does not begin at byte ${begin}`);
    if (flags > RAW) throw fail(`its flags are ${flags}, expected 0 or ${RAW}`);
    let last = -1;
    for (let v = 0; v < place.vectors; v++) {
      const info = infos.getUint16(2 * (firstVector + v), true);
      const size = (info >> 3) - last;
      if (size < 1 || (flags === RAW && (size !== place.length || (info & 7) !== 0))) {
        throw fail(`vector ${v} has ${size} bytes`);
      }
      last = info >> 3;
    }
    if (last + 1 !== bytes) throw fail(`its vectors have ${last + 1} bytes, it has ${bytes}`);
    begin += bytes;
  }
  if (begin !== codes.length) {
    throw new KvzFormatError(`Cannot read blocks: they have ${begin} bytes, there are ${codes.length}`);
  }
}
