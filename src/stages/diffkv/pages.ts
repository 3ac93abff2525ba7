/**
 * DiffKV's pages: the tokens of one precision of a head, up to 32 a page, as six parts that begin at multiples of 32 bytes,
 * the values at one of 128: keys, their scales and offsets, values, theirs, scores, positions. A head's pages of high
 * precision come first, those of low precision behind them, as they stand in its page table from the left and from the
 * right; the last page of each has room for its tokens only, which is what compaction leaves.
 *
 * Codes of a token follow each other from the lowest bits of a byte on, each token at a whole byte. Scales and offsets are
 * binary16; quantization is asymmetric, with the smallest element at code 0.
 *
 * @module
 */
import { f16ToNumber, numberToF16 } from "../../cache/elements.ts";
import { KvzFormatError } from "../../errors.ts";
import type { Precision } from "./presets.ts";

/** Tokens of a full page. */
export const PAGE_TOKENS = 32;

/** Elements of a token of a head, and in which precision it is kept. */
export interface PageShape {
  readonly keyDim: number;
  readonly valueDim: number;
  readonly precision: Precision;
}

/** A token of a head. */
export interface PageToken {
  /** Elements. */
  readonly key: Float32Array;
  readonly value: Float32Array;
  /** Attention it received. */
  readonly score: number;
  readonly position: number;
}

/** Byte offsets of the parts of a page of so many tokens, and its length. */
export interface PageParts {
  readonly key: number;
  readonly keyMeta: number;
  readonly value: number;
  readonly valueMeta: number;
  readonly score: number;
  readonly position: number;
  readonly length: number;
}

const align = (at: number, to: number) => Math.ceil(at / to) * to;
const codeBytes = (dim: number, bits: number) => Math.ceil(dim * bits / 8);

/** Where the parts of a page begin. */
export function pageParts({ keyDim, valueDim, precision }: PageShape, tokens: number): PageParts {
  const { keyBits, valueBits, keyGroups, valueGroups } = precision;
  const keyMeta = align(tokens * codeBytes(keyDim, keyBits), 32);
  const value = align(keyMeta + 4 * keyGroups * tokens, 128);
  const valueMeta = align(value + tokens * codeBytes(valueDim, valueBits), 32);
  const score = align(valueMeta + 4 * valueGroups * tokens, 32);
  const position = align(score + 4 * tokens, 32);
  return { key: 0, keyMeta, value, valueMeta, score, position, length: align(position + 4 * tokens, 32) };
}

/** Bytes of so many tokens of one precision. */
export function pagesLength(shape: PageShape, tokens: number): number {
  const rest = tokens % PAGE_TOKENS;
  const full = (tokens - rest) / PAGE_TOKENS;
  return full * pageParts(shape, PAGE_TOKENS).length + (rest === 0 ? 0 : pageParts(shape, rest).length);
}

/**
 * Writes the pages of tokens of one precision.
 *
 * @param refuse called with a token's index and what it would need where binary16 has no such scale or offset
 */
export function writePages(
  shape: PageShape,
  tokens: readonly PageToken[],
  out: Uint8Array,
  refuse: (index: number, what: number) => never,
): void {
  const view = new DataView(out.buffer, out.byteOffset, out.length);
  const { keyBits, valueBits, keyGroups, valueGroups } = shape.precision;
  for (let first = 0, page = 0; first < tokens.length; first += PAGE_TOKENS) {
    const count = Math.min(PAGE_TOKENS, tokens.length - first);
    const parts = pageParts(shape, count);
    for (let t = 0; t < count; t++) {
      const { key, value, score, position } = tokens[first + t];
      const side = (x: Float32Array, bits: number, groups: number, codes: number, meta: number) =>
        quantizeToken(
          x,
          bits,
          groups,
          view,
          page + codes + t * codeBytes(x.length, bits),
          page + meta + 4 * groups * t,
          (what) => refuse(first + t, what),
        );
      side(key, keyBits, keyGroups, parts.key, parts.keyMeta);
      side(value, valueBits, valueGroups, parts.value, parts.valueMeta);
      view.setFloat32(page + parts.score + 4 * t, score, true);
      view.setInt32(page + parts.position + 4 * t, position, true);
    }
    page += parts.length;
  }
}

/** Groups of neighbouring elements, each with scale = (max − min) ÷ (2^bits − 1) and offset min, rounded to binary16. */
function quantizeToken(
  x: Float32Array,
  bits: number,
  groups: number,
  view: DataView,
  codes: number,
  meta: number,
  refuse: (what: number) => never,
): void {
  const size = x.length / groups;
  const top = (1 << bits) - 1;
  for (let group = 0; group < groups; group++) {
    let [low, high] = [Infinity, -Infinity];
    for (let i = group * size; i < (group + 1) * size; i++) {
      low = Math.min(low, x[i]);
      high = Math.max(high, x[i]);
    }
    const [scaleBits, offsetBits] = [numberToF16((high - low) / top), numberToF16(low)];
    if ((scaleBits & 0x7c00) === 0x7c00) refuse((high - low) / top);
    if ((offsetBits & 0x7c00) === 0x7c00) refuse(low);
    view.setUint16(meta + 4 * group, scaleBits, true);
    view.setUint16(meta + 4 * group + 2, offsetBits, true);
    const [scale, offset] = [f16ToNumber(scaleBits), f16ToNumber(offsetBits)];
    for (let i = group * size; i < (group + 1) * size; i++) {
      const code = scale === 0 ? 0 : Math.min(top, Math.max(0, roundTiesEven((x[i] - offset) / scale)));
      const bit = i * bits;
      const at = codes + (bit >> 3);
      view.setUint8(at, view.getUint8(at) | code << (bit & 7));
    }
  }
}

/** 1.5 · 2^52: adding and taking it away rounds to a whole number, ties to even. */
const ROUNDER = 6755399441055744;
const roundTiesEven = (x: number) => x + ROUNDER - ROUNDER;

/**
 * Reads them back: `put` gets each token's index, elements, score and position; the arrays are used again.
 *
 * @throws {KvzFormatError} A scale or offset is not finite, or padding is not zero.
 */
export function readPages(
  shape: PageShape,
  bytes: Uint8Array,
  tokens: number,
  put: (index: number, token: PageToken) => void,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const { keyBits, valueBits, keyGroups, valueGroups } = shape.precision;
  const [key, value] = [new Float32Array(shape.keyDim), new Float32Array(shape.valueDim)];
  for (let first = 0, page = 0; first < tokens; first += PAGE_TOKENS) {
    const count = Math.min(PAGE_TOKENS, tokens - first);
    const parts = pageParts(shape, count);
    for (let t = 0; t < count; t++) {
      const side = (x: Float32Array, bits: number, groups: number, codes: number, meta: number) =>
        restoreToken(x, bits, groups, view, page + codes + t * codeBytes(x.length, bits), page + meta + 4 * groups * t);
      side(key, keyBits, keyGroups, parts.key, parts.keyMeta);
      side(value, valueBits, valueGroups, parts.value, parts.valueMeta);
      put(first + t, {
        key,
        value,
        score: view.getFloat32(page + parts.score + 4 * t, true),
        position: view.getInt32(page + parts.position + 4 * t, true),
      });
    }
    page += parts.length;
  }
}

/** A token as a page of this precision gives it back, with the score it came with. */
export function throughPage(shape: PageShape, token: PageToken, refuse: (what: number) => never): PageToken {
  const page = new Uint8Array(pagesLength(shape, 1));
  writePages(shape, [token], page, (_, what) => refuse(what));
  let back = token;
  readPages(shape, page, 1, (_, { key, value }) => back = { ...token, key: key.slice(), value: value.slice() });
  return back;
}

function restoreToken(
  x: Float32Array,
  bits: number,
  groups: number,
  view: DataView,
  codes: number,
  meta: number,
): void {
  const size = x.length / groups;
  const mask = (1 << bits) - 1;
  for (let group = 0; group < groups; group++) {
    const scale = f16ToNumber(view.getUint16(meta + 4 * group, true));
    const offset = f16ToNumber(view.getUint16(meta + 4 * group + 2, true));
    if (!(Number.isFinite(scale) && Number.isFinite(offset))) {
      throw new KvzFormatError(`Cannot read page: a scale is ${scale}, an offset ${offset}`);
    }
    for (let i = group * size; i < (group + 1) * size; i++) {
      const bit = i * bits;
      x[i] = (view.getUint8(codes + (bit >> 3)) >> (bit & 7) & mask) * scale + offset;
    }
  }
}
