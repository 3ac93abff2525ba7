/**
 * Elements of a cache ↔ float32, in plain TypeScript. One routine for all runtimes (not every one has Float16Array),
 * so that all agree; bulk conversion in the pipeline is done by the backends' kernels, which are tested against these.
 *
 * Cache bytes are little-endian, and so is every host that runs WebAssembly engines in practice.
 *
 * @module
 */
import { powerOfTwo } from "./power.ts";
import { BYTES_PER_ELEMENT, type DType } from "./types.ts";

/** The largest finite number of binary16. */
export const MOST_F16 = 65504;

/** What the last bit of a binary16 fraction weighs, by exponent field. */
const UNITS = Float64Array.from({ length: 31 }, (_, exponent) => powerOfTwo(Math.max(exponent, 1) - 25));

const scratch = new DataView(new ArrayBuffer(4));

function bitsOfFloat(value: number): number {
  scratch.setFloat32(0, value);
  return scratch.getUint32(0);
}

function floatOfBits(bits: number): number {
  scratch.setUint32(0, bits);
  return scratch.getFloat32(0);
}

/** The value of binary16 bits. NaN payloads are not kept. */
export function f16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * UNITS[0];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1024 + fraction) * UNITS[exponent];
}

/**
 * Binary16 bits of the float32 nearest to a number, rounded to nearest even from there; too large values become
 * infinity, NaN the quiet NaN with the sign kept.
 */
export function numberToF16(value: number): number {
  const bits = bitsOfFloat(value);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  // 65520 and above round to infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal result: the value in units of 2^-24, exact in float64, rounded to nearest even.
    const units = floatOfBits(magnitude) * 2 ** 24;
    const low = Math.floor(units);
    const rest = units - low;
    return sign | (rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? low + 1 : low);
  }
  const odd = (magnitude >>> 13) & 1;
  return sign | ((magnitude - 0x38000000 + 0xfff + odd) >>> 13);
}

/** The value of bfloat16 bits. */
export function bf16ToNumber(bits: number): number {
  return floatOfBits(bits << 16);
}

/** Bfloat16 bits of the float32 nearest to a number, rounded to nearest even from there; NaN stays NaN. */
export function numberToBf16(value: number): number {
  const bits = bitsOfFloat(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16 & 0xffff;
}

function alignedBuffer(bytes: Uint8Array, align: number): { buffer: ArrayBufferLike; byteOffset: number } {
  return bytes.byteOffset % align === 0 ? bytes : new Uint8Array(bytes);
}

function checkWhole(bytes: Uint8Array, dtype: DType): number {
  const size = BYTES_PER_ELEMENT[dtype];
  if (bytes.length % size !== 0) {
    throw new RangeError(`Cannot convert elements: ${bytes.length} bytes are not a multiple of ${size} (${dtype})`);
  }
  return bytes.length / size;
}

/**
 * The bit patterns of two-byte elements: a view where the bytes are aligned, a copy elsewhere.
 *
 * @throws {RangeError} The number of bytes is odd.
 */
export function asUint16(bytes: Uint8Array): Uint16Array {
  const length = checkWhole(bytes, "f16");
  const { buffer, byteOffset } = alignedBuffer(bytes, 2);
  return new Uint16Array(buffer, byteOffset, length);
}

/**
 * The bit patterns of four-byte elements: a view where the bytes are aligned, a copy elsewhere.
 *
 * @throws {RangeError} The number of bytes is not a multiple of 4.
 */
export function asUint32(bytes: Uint8Array): Uint32Array {
  const length = checkWhole(bytes, "f32");
  const { buffer, byteOffset } = alignedBuffer(bytes, 4);
  return new Uint32Array(buffer, byteOffset, length);
}

/**
 * Little-endian elements as float32 (exact for all three types). The result is always a copy.
 *
 * @throws {RangeError} The bytes are no whole number of elements.
 */
export function toFloat32(bytes: Uint8Array, dtype: DType): Float32Array {
  const length = checkWhole(bytes, dtype);
  const out = new Float32Array(length);
  if (dtype === "f32") {
    new Uint8Array(out.buffer).set(bytes);
    return out;
  }
  const bits = asUint16(bytes);
  if (dtype === "bf16") {
    const words = new Uint32Array(out.buffer);
    for (let i = 0; i < length; i++) words[i] = bits[i] << 16;
  } else {
    const words = new Int32Array(out.buffer);
    for (let i = 0; i < length; i++) {
      const magnitude = bits[i] & 0x7fff;
      // Of normal numbers exponent and fraction move up, and the bias grows.
      if (magnitude - 0x400 >>> 0 < 0x7800) words[i] = (bits[i] & 0x8000) << 16 | (magnitude << 13) + 0x38000000;
      else out[i] = f16ToNumber(bits[i]);
    }
  }
  return out;
}

/** Float32 (or float64) values as little-endian elements, rounded to nearest even; too large f16 becomes infinity. */
export function fromFloat32(values: Float32Array | Float64Array, dtype: DType): Uint8Array {
  if (dtype === "f32") {
    const copy = values instanceof Float32Array ? values.slice() : Float32Array.from(values);
    return new Uint8Array(copy.buffer);
  }
  if (dtype === "f16") {
    return new Uint8Array(toHalves(values instanceof Float32Array ? values : Float32Array.from(values)).buffer);
  }
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) bits[i] = numberToBf16(values[i]);
  return new Uint8Array(bits.buffer);
}

/**
 * Float32 as bits of binary16, to nearest even. What is finite and beyond ±65504 becomes infinite from 65520 on, or ±65504
 * with `saturate`.
 */
export function toHalves(values: Float32Array, saturate: boolean = false): Uint16Array<ArrayBuffer> {
  const words = new Int32Array(values.buffer, values.byteOffset, values.length);
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) {
    const magnitude = words[i] & 0x7fffffff;
    const sign = words[i] >>> 16 & 0x8000;
    if (magnitude - 0x38800000 >>> 0 < 0x477fe000 - 0x38800000) {
      bits[i] = sign | (magnitude - 0x38000000 + 0xfff + (magnitude >>> 13 & 1)) >>> 13;
    } else if (saturate && magnitude >= 0x477fe000 && magnitude < 0x7f800000) bits[i] = sign | 0x7bff;
    else bits[i] = numberToF16(values[i]);
  }
  return bits;
}
