/**
 * The ggml element types that llama.cpp keeps caches in, and their conversion from and to float32 rows.
 *
 * Block formats after ggml-quants: `q8_0` is 32 values as a binary16 scale d and 32 int8, x = d · q; `q4_0` is 32
 * values as d and 16 bytes, value i in the low half of byte i, value i + 16 in the high half, x = d · (q − 8).
 *
 * @module
 */
import { f16ToNumber, fromFloat32, numberToF16, toFloat32 } from "../cache/elements.ts";
import { KvzUnsupportedError } from "../errors.ts";

/** Types that can be read and written. */
export type GgmlType = "f32" | "f16" | "bf16" | "q8_0" | "q4_0";

/** Values of a quantized block. */
const BLOCK = 32;

/** Names of ggml type ids that a cache may have. */
const NAMES: Readonly<Record<number, string>> = {
  0: "f32",
  1: "f16",
  2: "q4_0",
  3: "q4_1",
  6: "q5_0",
  7: "q5_1",
  8: "q8_0",
  20: "iq4_nl",
  30: "bf16",
};

/** Block length in values, block size in bytes. */
const BLOCKS: Readonly<Record<GgmlType, readonly [values: number, bytes: number]>> = {
  f32: [1, 4],
  f16: [1, 2],
  bf16: [1, 2],
  q8_0: [BLOCK, 2 + BLOCK],
  q4_0: [BLOCK, 2 + BLOCK / 2],
};

/** Whether a name is that of a supported type. */
export function isGgmlType(name: unknown): name is GgmlType {
  return typeof name === "string" && Object.hasOwn(BLOCKS, name);
}

/**
 * The type of an id.
 *
 * @throws {KvzUnsupportedError} It is another type; the message names it.
 */
export function ggmlType(id: number): GgmlType {
  const name = NAMES[id];
  if (!isGgmlType(name)) {
    throw new KvzUnsupportedError(
      `Cannot read llama.cpp state: element type ${name ?? id} is not supported, expected ${
        Object.keys(BLOCKS).join(", ")
      }`,
    );
  }
  return name;
}

/** The id of a type. */
export function ggmlTypeId(type: GgmlType): number {
  return Number(Object.keys(NAMES).find((id) => NAMES[Number(id)] === type));
}

/** Whether a type holds blocks of integers with a scale. */
export function isQuantized(type: GgmlType): boolean {
  return BLOCKS[type][0] > 1;
}

/** Bytes of a row of `n` values; NaN when the row does not consist of whole blocks. */
export function rowBytes(type: GgmlType, n: number): number {
  const [values, bytes] = BLOCKS[type];
  return n % values === 0 ? n / values * bytes : NaN;
}

/**
 * Rows as float32 (exact: a product of an int8 and a binary16 fits).
 *
 * @param bytes Whole blocks.
 */
export function dequantize(bytes: Uint8Array, type: GgmlType): Float32Array {
  if (type !== "q8_0" && type !== "q4_0") return toFloat32(bytes, type);
  const size = BLOCKS[type][1];
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

/**
 * Float32 rows in a type, rounded as ggml's reference quantizers do.
 *
 * @param values Whole blocks.
 */
export function quantize(values: Float32Array, type: GgmlType): Uint8Array {
  if (type !== "q8_0" && type !== "q4_0") return fromFloat32(values, type);
  const size = BLOCKS[type][1];
  const out = new Uint8Array(values.length / BLOCK * size);
  for (let from = 0, at = 0; from < values.length; from += BLOCK, at += size) {
    const block = values.subarray(from, from + BLOCK);
    if (type === "q8_0") quantizeQ8(block, out, at);
    else quantizeQ4(block, out, at);
  }
  return out;
}

/**
 * Walsh–Hadamard block that llama.cpp rotates the heads of a quantized cache with: values 64; keys the largest 64 · 2^k
 * that divides the dimension. 0: heads of this dimension are not rotated.
 */
export function hadamardBlock(kind: "key" | "value", dim: number): number {
  if (dim % 64 !== 0) return 0;
  let block = 64;
  if (kind === "key") { while (dim % (2 * block) === 0) block *= 2; }
  return block;
}

/** Multiplies every block of a row by the orthonormal Walsh–Hadamard matrix, in place; it is its own inverse. */
export function hadamard(values: Float32Array, block: number): void {
  const scale = 1 / Math.sqrt(block);
  for (let begin = 0; begin < values.length; begin += block) {
    for (let half = 1; half < block; half *= 2) {
      for (let i = begin; i < begin + block; i += 2 * half) {
        for (let j = i; j < i + half; j++) {
          const a = values[j];
          const b = values[j + half];
          values[j] = a + b;
          values[j + half] = a - b;
        }
      }
    }
    for (let i = begin; i < begin + block; i++) values[i] *= scale;
  }
}
