/**
 * The ggml element types that llama.cpp keeps caches in, and their conversion from and to float32 rows.
 *
 * @module
 */
import { fromFloat32, toFloat32 } from "../cache/elements.ts";
import { KvzUnsupportedError } from "../errors.ts";
import { BLOCK, BLOCK_BYTES, dequantizeBlocks, quantizeBlocks } from "../stages/quantize/ggml_blocks.ts";

/** Types that can be read and written. */
export type GgmlType = "f32" | "f16" | "bf16" | "q8_0" | "q4_0";

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
  q8_0: [BLOCK, BLOCK_BYTES.q8_0],
  q4_0: [BLOCK, BLOCK_BYTES.q4_0],
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
  return dequantizeBlocks(bytes, type);
}

/**
 * Float32 rows in a type, rounded as ggml's reference quantizers do.
 *
 * @param values Whole blocks.
 */
export function quantize(values: Float32Array, type: GgmlType): Uint8Array {
  if (type !== "q8_0" && type !== "q4_0") return fromFloat32(values, type);
  return quantizeBlocks(values, type);
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
