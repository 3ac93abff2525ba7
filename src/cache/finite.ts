/**
 * Looking for NaN and infinities, by exponent bits alone.
 *
 * @module
 */
import { KvzUnsupportedError } from "../errors.ts";
import { asUint16, asUint32, bf16ToNumber, f16ToNumber } from "./elements.ts";
import type { DType, Kind } from "./types.ts";

/** Where a block of cache bytes lies: little-endian [layers][heads][tokens][dim]. */
export interface BlockPlace {
  /** Keys or values. */
  readonly kind: Kind;
  /** KV heads. */
  readonly heads: number;
  /** Tokens of each head. */
  readonly tokens: number;
  /** Elements of a token of a head. */
  readonly dim: number;
  /** Layer, KV head and token of the first element, added to the indices in the message. Default 0. */
  readonly firstLayer?: number;
  /** See `firstLayer`. */
  readonly firstHead?: number;
  /** See `firstLayer`. */
  readonly firstToken?: number;
}

/** Index of the first element whose exponent bits are all ones, or −1. */
export function findNonFinite(bytes: Uint8Array, dtype: DType): number {
  // A loop of its own for each width, so that engines compile both well.
  if (dtype === "f32") {
    const bits = asUint32(bytes);
    for (let i = 0; i < bits.length; i++) if ((bits[i] & 0x7f800000) === 0x7f800000) return i;
  } else {
    const mask = dtype === "f16" ? 0x7c00 : 0x7f80;
    // Two at a time: where all bits of an exponent are ones, one more at their end carries into the sign's place.
    const [masks, ones] = [mask * 0x10001, (0x8000 - mask) * 0x10001];
    const pairs = asUint32(bytes.subarray(0, bytes.length & ~3));
    for (let i = 0; i < pairs.length; i++) {
      if ((((pairs[i] & masks) + ones) & 0x80008000) !== 0) return 2 * i + ((pairs[i] & mask) === mask ? 0 : 1);
    }
    const bits = asUint16(bytes.subarray(bytes.length & ~3));
    for (let i = 0; i < bits.length; i++) if ((bits[i] & mask) === mask) return 2 * pairs.length + i;
  }
  return -1;
}

/**
 * Refuses NaN and infinities: transforms would spread them over a whole token.
 *
 * @throws {KvzUnsupportedError} There is one; the message names kind, layer, head and token of the first.
 */
export function requireFinite(bytes: Uint8Array, dtype: DType, place: BlockPlace): void {
  const index = findNonFinite(bytes, dtype);
  if (index < 0) return;
  const bits = dtype === "f32" ? asUint32(bytes)[index] : asUint16(bytes)[index];
  const value = dtype === "f16"
    ? f16ToNumber(bits)
    : bf16ToNumber(dtype === "bf16" ? bits : bits >>> 16 | Number((bits & 0xffff) !== 0));
  const { kind, heads, tokens, dim, firstLayer = 0, firstHead = 0, firstToken = 0 } = place;
  const row = Math.floor(index / dim);
  const block = Math.floor(row / tokens);
  throw new KvzUnsupportedError(
    `Cannot compress cache: ${kind} of layer ${firstLayer + Math.floor(block / heads)}, head ${
      firstHead + block % heads
    }, token ${firstToken + row % tokens}, dimension ${index % dim} is ${value}, expected a finite number`,
  );
}
