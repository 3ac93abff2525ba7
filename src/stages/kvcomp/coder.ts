/**
 * KVComp's coder of one kind: chunks to streams and back. One Huffman code a layer, made of the first tokens that a
 * chunk codes and kept for all that are appended to it.
 *
 * @module
 */
import { fromFloat32, toFloat32 } from "../../cache/elements.ts";
import { KvzFormatError } from "../../errors.ts";
import { codeLengths, packedLengthsBytes, packLengths, unpackLengths } from "../entropy/huffman.ts";
import { checkBlocks, decodeBlocks, encodeBlocks, type HuffmanBlocks, sideBytes } from "../entropy/huffman_blocks.ts";
import { joinBlocks } from "../entropy/huffman_join.ts";
import { dequantizeRelative, groupsOfBlock, quantizeRelative } from "../quantize/relative.ts";
import { MOST_GROUP_BYTES, packGroups, type RelativeGroups, unpackGroups } from "../quantize/relative_side.ts";
import { joinRows } from "../tokens/join.ts";
import { blockTokens, codedShape, groupShape, groupsOf, type KvCompShape, rawTokenBytes } from "./shape.ts";

/** A chunk of one kind, parsed. */
export interface KvCompChunk {
  /** Tokens that are coded; those behind them are in `tail`. */
  readonly coded: number;
  /** Code lengths of each layer; none where no token is coded. */
  readonly lengths: readonly Uint8Array[];
  readonly groups: RelativeGroups;
  readonly blocks: HuffmanBlocks;
  /** Elements of the raw tokens as they were, [layers][heads][tokens][dim]. */
  readonly tail: Uint8Array;
}

/** Names of a chunk's streams in their order. */
export const STREAMS = ["codes of layers", "scales", "blocks", "vectors", "symbols", "raw tokens"] as const;

/** A chunk without tokens. */
function emptyChunk(): KvCompChunk {
  const none = () => new Uint8Array(0);
  const groups = { scales: new Uint16Array(0), firsts: new Int32Array(0) };
  return { coded: 0, lengths: [], groups, blocks: { table: none(), vectors: none(), codes: none() }, tail: none() };
}

/**
 * Codes a chunk's tokens, or more of a chunk.
 *
 * @param data finite elements of the new tokens, [layers][heads][tokens][dim]
 * @param coded tokens of the chunk that are to be coded, whole blocks; at least those that are
 * @param begin index of the chunk's first token, for messages
 * @throws {KvzUnsupportedError} A range or offset has no scale in binary16.
 */
export function encodeChunk(
  data: Uint8Array,
  shape: KvCompShape,
  rel: number,
  coded: number,
  begin: number,
  before: KvCompChunk = emptyChunk(),
): KvCompChunk {
  const { layers, heads, dim, dtype, alphabet } = shape;
  const raw = joinRows(before.tail, data, layers * heads);
  const more = coded - before.coded;
  if (more === 0) return { ...before, tail: raw };
  const [first, tail] = splitRows(raw, layers * heads, more * rawTokenBytes(shape) / (layers * heads));
  const groups = groupShape(shape, more);
  const { symbols, ...quantized } = quantizeRelative(toFloat32(first, dtype), groups, rel, (group) => {
    const each = groupsOfBlock(groups);
    const block = Math.floor(group / each);
    const perLayer = more / groups.block;
    const token = begin + before.coded + block % perLayer * groups.block;
    return `${shape.kind} of layer ${Math.floor(block / perLayer)}, tokens from ${token} on, group ${group % each}`;
  });
  const perLayer = heads * more * dim;
  const lengths = before.coded > 0 ? before.lengths : Array.from({ length: layers }, (_, layer) => {
    const counts = new Float64Array(alphabet);
    for (let i = layer * perLayer; i < (layer + 1) * perLayer; i++) counts[symbols[i]]++;
    return codeLengths(counts);
  });
  const blocks = encodeBlocks(symbols, codedShape(shape, more), lengths);
  return {
    coded,
    lengths,
    groups: joinGroups(before.groups, quantized, layers),
    blocks: joinBlocks(before.blocks, codedShape(shape, before.coded), blocks, more),
    tail,
  };
}

/** The first `bytes` bytes of each row, and the others. */
function splitRows(data: Uint8Array, rows: number, bytes: number): [Uint8Array, Uint8Array] {
  const length = data.length / rows;
  const [first, rest] = [new Uint8Array(rows * bytes), new Uint8Array(data.length - rows * bytes)];
  for (let row = 0; row < rows; row++) {
    first.set(data.subarray(row * length, row * length + bytes), row * bytes);
    rest.set(data.subarray(row * length + bytes, (row + 1) * length), row * (length - bytes));
  }
  return [first, rest];
}

function joinGroups(a: RelativeGroups, b: RelativeGroups, layers: number): RelativeGroups {
  const [m, n] = [a.scales.length / layers, b.scales.length / layers];
  const scales = new Uint16Array(layers * (m + n));
  const firsts = new Int32Array(layers * (m + n));
  for (let layer = 0; layer < layers; layer++) {
    for (const name of ["scales", "firsts"] as const) {
      const to = name === "scales" ? scales : firsts;
      to.set(a[name].subarray(layer * m, (layer + 1) * m), layer * (m + n));
      to.set(b[name].subarray(layer * n, (layer + 1) * n), layer * (m + n) + m);
    }
  }
  return { scales, firsts };
}

/** A chunk as its streams. */
export function packChunk({ lengths, groups, blocks, tail }: KvCompChunk): Uint8Array[] {
  const each = lengths.length === 0 ? 0 : packedLengthsBytes(lengths[0].length);
  const codes = new Uint8Array(each * lengths.length);
  lengths.forEach((of, layer) => codes.set(packLengths(of), layer * each));
  return [codes, packGroups(groups), blocks.table, blocks.vectors, blocks.codes, tail];
}

/** Most bytes of each stream of a chunk of so many tokens. */
export function chunkLimits(shape: KvCompShape, tokens: number): number[] {
  const coded = tokens - tokens % blockTokens(shape.kind);
  const { table, vectors } = sideBytes(codedShape(shape, coded));
  const symbols = shape.layers * shape.heads * shape.dim * coded;
  const codes = shape.layers * packedLengthsBytes(shape.alphabet);
  return [codes, MOST_GROUP_BYTES * groupsOf(shape, coded), table, vectors, symbols, tokens * rawTokenBytes(shape)];
}

/**
 * Inverse of {@linkcode packChunk}; what it gives can be decoded without further checks of lengths.
 *
 * @throws {KvzFormatError} The streams are none of so many tokens.
 */
export function parseChunk(streams: readonly Uint8Array[], shape: KvCompShape, tokens: number): KvCompChunk {
  const [codes, groupBytes, table, vectors, symbols, tail] = streams;
  const raw = tail.length / rawTokenBytes(shape);
  const coded = tokens - raw;
  if (!Number.isInteger(raw) || coded < 0 || coded % blockTokens(shape.kind) !== 0) {
    throw new KvzFormatError(
      `Cannot read chunk: ${tail.length} bytes of raw ${shape.kind}s leave no whole blocks of ${tokens} tokens`,
    );
  }
  const each = packedLengthsBytes(shape.alphabet);
  const layers = coded === 0 ? 0 : shape.layers;
  if (codes.length !== layers * each) {
    throw new KvzFormatError(
      `Cannot read chunk: its Huffman codes have ${codes.length} bytes, expected ${layers * each}`,
    );
  }
  const lengths = Array.from(
    { length: layers },
    (_, layer) => unpackLengths(codes.subarray(layer * each, (layer + 1) * each), shape.alphabet),
  );
  const blocks = { table, vectors, codes: symbols };
  checkBlocks(blocks, codedShape(shape, coded));
  return { coded, lengths, groups: unpackGroups(groupBytes, groupsOf(shape, coded)), blocks, tail };
}

/** `decodeBlocks`, or a kernel that does the same. */
export type DecodeSymbols = typeof decodeBlocks;

/**
 * Elements of layers [layerBegin, layerEnd), [layers][heads][tokens][dim]; the raw ones bit for bit.
 *
 * @throws {KvzFormatError} The symbols are damaged.
 */
export function decodeChunk(
  { coded, lengths, groups, blocks, tail }: KvCompChunk,
  shape: KvCompShape,
  layerBegin = 0,
  layerEnd = shape.layers,
  decode: DecodeSymbols = decodeBlocks,
): Uint8Array {
  const { heads, layers } = shape;
  const raw = tail.subarray(layerBegin * tail.length / layers, layerEnd * tail.length / layers);
  if (coded === 0) return raw.slice();
  const symbols = decode(blocks, codedShape(shape, coded), lengths, layerBegin, layerEnd);
  const each = groups.scales.length / layers;
  const scales = groups.scales.subarray(layerBegin * each, layerEnd * each);
  const firsts = groups.firsts.subarray(layerBegin * each, layerEnd * each);
  const part = { ...groupShape(shape, coded), layers: layerEnd - layerBegin };
  const x = dequantizeRelative({ symbols, scales, firsts }, part);
  return joinRows(fromFloat32(x, shape.dtype), raw, part.layers * heads);
}
