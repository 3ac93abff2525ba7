/**
 * The block quantizers that llama.cpp keeps caches in, after ggml-quants' reference code: `q8_0` is 32 values as a
 * binary16 scale d and 32 int8, x = d · q; `q4_0` is 32 values as d and 16 bytes, value i in the low half of byte i,
 * value i + 16 in the high half, x = d · (q − 8).
 *
 * @module
 */
import { f16ToNumber, numberToF16 } from "../../cache/elements.ts";

/** Types of quantized blocks. */
export type BlockType = "q8_0" | "q4_0";

/** Values of a block. */
export const BLOCK = 32;

/** Bytes of a block. */
export const BLOCK_BYTES: Readonly<Record<BlockType, number>> = { q8_0: 2 + BLOCK, q4_0: 2 + BLOCK / 2 };

/** Rounds half away from zero, as C's roundf. */
function roundAway(x: number): number {
  return Math.sign(x) * Math.floor(Math.abs(x) + 0.5);
}

function quantizeQ8(x: Float32Array, out: Uint8Array, at: number): void {
  let max = 0;
  for (const value of x) max = Math.max(max, Math.abs(value));
  const scale = Math.fround(max / 127);
  const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
  const bits = numberToF16(scale);
  out[at] = bits & 255;
  out[at + 1] = bits >> 8;
  for (let i = 0; i < BLOCK; i++) out[at + 2 + i] = roundAway(Math.fround(x[i] * inverse));
}

function quantizeQ4(x: Float32Array, out: Uint8Array, at: number): void {
  let extreme = 0; // the value of largest magnitude, with its sign, becomes code 0 (−8)
  for (const value of x) if (Math.abs(value) > Math.abs(extreme)) extreme = value;
  const scale = Math.fround(extreme / -8);
  const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
  const bits = numberToF16(scale);
  out[at] = bits & 255;
  out[at + 1] = bits >> 8;
  const code = (value: number) => Math.min(15, Math.trunc(Math.fround(Math.fround(value * inverse) + 8.5)));
  for (let i = 0; i < BLOCK / 2; i++) out[at + 2 + i] = code(x[i]) | code(x[i + BLOCK / 2]) << 4;
}

/** Whole blocks of values, rounded as ggml's reference quantizers do. */
export function quantizeBlocks(values: Float32Array, type: BlockType): Uint8Array {
  const size = BLOCK_BYTES[type];
  const out = new Uint8Array(values.length / BLOCK * size);
  for (let from = 0, at = 0; from < values.length; from += BLOCK, at += size) {
    const block = values.subarray(from, from + BLOCK);
    if (type === "q8_0") quantizeQ8(block, out, at);
    else quantizeQ4(block, out, at);
  }
  return out;
}

/** Whole blocks as float32 (exact: a product of an int8 and a binary16 fits). */
export function dequantizeBlocks(bytes: Uint8Array, type: BlockType): Float32Array {
  const size = BLOCK_BYTES[type];
  const out = new Float32Array(bytes.length / size * BLOCK);
  for (let at = 0, to = 0; at < bytes.length; at += size, to += BLOCK) {
    const scale = f16ToNumber(bytes[at] | bytes[at + 1] << 8);
    if (type === "q8_0") {
      for (let i = 0; i < BLOCK; i++) out[to + i] = scale * (bytes[at + 2 + i] << 24 >> 24);
    } else {
      for (let i = 0; i < BLOCK / 2; i++) {
        const pair = bytes[at + 2 + i];
        out[to + i] = scale * ((pair & 15) - 8);
        out[to + i + BLOCK / 2] = scale * ((pair >> 4) - 8);
      }
    }
  }
  return out;
}
