/**
 * What KVComp's coder knows of a kind before it sees a chunk, and which of a cache's tokens it codes.
 *
 * @module
 */
import { BYTES_PER_ELEMENT, type DType, type Kind } from "../../cache/types.ts";
import { type CodedShape, KEY_BLOCKS, VALUE_BLOCKS } from "../entropy/huffman_blocks.ts";
import { groupCount, type Grouping, type RelativeShape } from "../quantize/relative.ts";

/** Shape of one kind of a model's cache, and how it is quantized. */
export interface KvCompShape {
  readonly kind: Kind;
  readonly layers: number;
  readonly heads: number;
  readonly dim: number;
  /** Element type of the raw tokens. */
  readonly dtype: DType;
  readonly grouping: Grouping;
  /** Symbols of the codes, 2 to 242. */
  readonly alphabet: number;
}

/** Tokens of a block: 64 of keys, 128 of values. */
export function blockTokens(kind: Kind): number {
  return (kind === "key" ? KEY_BLOCKS : VALUE_BLOCKS).tokens;
}

/** Shape of the symbols of `tokens` tokens. */
export function codedShape({ kind, layers, heads, dim }: KvCompShape, tokens: number): CodedShape {
  return { layers, heads, tokens, dim, layout: kind === "key" ? KEY_BLOCKS : VALUE_BLOCKS };
}

/** Shape of their groups. */
export function groupShape({ kind, layers, heads, dim, grouping }: KvCompShape, tokens: number): RelativeShape {
  return { layers, heads, tokens, dim, block: blockTokens(kind), grouping };
}

/** Number of their groups. */
export function groupsOf(shape: KvCompShape, tokens: number): number {
  return groupCount(groupShape(shape, tokens));
}

/** Bytes of a raw token over all layers and heads. */
export function rawTokenBytes({ layers, heads, dim, dtype }: KvCompShape): number {
  return layers * heads * dim * BYTES_PER_ELEMENT[dtype];
}

/**
 * Tokens of a cache of `tokens` tokens that are coded, whole blocks from the first on; the last recent − block …
 * recent − 1 stay raw (`cut_tensor` of the authors).
 */
export function codedTokens(tokens: number, block: number, recent: number): number {
  const blocks = Math.floor((tokens + block - tokens % block - recent) / block);
  return Math.max(0, blocks) * block;
}
