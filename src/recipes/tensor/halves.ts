/**
 * Binary16: elements of caches in bulk, and the scales, zeros and norms of quantizers.
 *
 * @module
 */
import { asUint16, f16ToNumber, fromFloat32, numberToF16, toFloat32 } from "../../cache/elements.ts";
import type { DType } from "../../cache/types.ts";
import { KvzFormatError, KvzUnsupportedError } from "../../errors.ts";
import type { BlockShape } from "./coder.ts";

let values: Float32Array | null = null;

/** The values of all 65536 patterns of binary16. */
export function halfValues(): Float32Array {
  return values ??= Float32Array.from({ length: 65536 }, (_, bits) => f16ToNumber(bits));
}

/** Elements as float32, binary16 by the table. The result is always a copy. */
export function floatsOf(bytes: Uint8Array, dtype: DType): Float32Array {
  if (dtype !== "f16") return toFloat32(bytes, dtype);
  const bits = asUint16(bytes);
  const halves = halfValues();
  const out = new Float32Array(bits.length);
  for (let i = 0; i < out.length; i++) out[i] = halves[bits[i]];
  return out;
}

/**
 * Float32 as elements, to nearest even. Binary16 ends at ±65504: a quantizer may restore a little more than the largest
 * element that there was, which is no infinity.
 */
export function elementsOf(values: Float32Array, dtype: DType): Uint8Array {
  if (dtype !== "f16") return fromFloat32(values, dtype);
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < out.length; i++) {
    const bits = words[i];
    const magnitude = bits & 0x7fffffff;
    const sign = (bits >>> 16) & 0x8000;
    if (magnitude >= 0x477fe000) out[i] = sign | 0x7bff;
    // As numberToF16, which has the subnormal results.
    else if (magnitude < 0x38800000) out[i] = magnitude === 0 ? sign : numberToF16(values[i]);
    else out[i] = sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  }
  return new Uint8Array(out.buffer);
}

/**
 * Checks scales, zeros and norms in binary16.
 *
 * @param rowOf Row [layers][heads][tokens] of the block that number i belongs to, for the message.
 * @throws {KvzUnsupportedError} One is beyond binary16.
 */
export function requireHalves(numbers: Uint16Array, block: BlockShape, rowOf: (i: number) => number): void {
  let i = 0;
  while (i < numbers.length && (numbers[i] & 0x7c00) !== 0x7c00) i++;
  if (i === numbers.length) return;
  const { kind, heads, tokens, begin, layerNumbers } = block;
  const row = rowOf(i);
  const head = Math.floor(row / tokens);
  const layer = Math.floor(head / heads);
  throw new KvzUnsupportedError(
    `Cannot compress cache: ${kind} of layer ${layerNumbers?.[layer] ?? layer}, head ${head % heads}, token ${
      begin + row % tokens
    } or near it needs a scale or offset beyond 65504, where binary16 ends`,
  );
}

/**
 * Binary16 bits from the little-endian bytes of a stream.
 *
 * @throws {KvzFormatError} One is not finite; `what` names the stream.
 */
export function finiteHalves(bytes: Uint8Array, what: string): Uint16Array {
  const out = new Uint16Array(bytes.length >> 1);
  for (let i = 0; i < out.length; i++) {
    out[i] = bytes[2 * i] | bytes[2 * i + 1] << 8;
    if ((out[i] & 0x7c00) === 0x7c00) throw new KvzFormatError(`Cannot decode ${what}: number ${i} is not finite`);
  }
  return out;
}

/** Binary16 bits as little-endian bytes. */
export function halfBytes(halves: Uint16Array): Uint8Array {
  const out = new Uint8Array(2 * halves.length);
  halves.forEach((bits, i) => {
    out[2 * i] = bits & 255;
    out[2 * i + 1] = bits >> 8;
  });
  return out;
}
