/**
 * Operands of the kernels that are measured.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../../src/backend/backend.ts";
import { numberToBf16, numberToF16 } from "../../src/cache/elements.ts";
import type { DType } from "../../src/cache/types.ts";

/** Layers times heads, elements of a head, and features of a token and kind: SmolLM2's. */
export const [HEADS, DIM] = [90, 64];
export const FEATURES = HEADS * DIM;

/** A kernel with its operands. */
export interface Kernel {
  readonly name: string;
  readonly run: () => void;
  /** Bytes read and written. */
  readonly bytes: number;
  readonly flop?: number;
  /** Of products: what the others are measured against. Without any of these it is the fastest float product. */
  readonly limit?: boolean;
}

/** Random numbers that are made; longer operands repeat them. */
const MOST_RANDOM = 1 << 20;

/** Numbers in ±scale / 2. */
export function random(count: number, scale: number = 1): Float32Array {
  const some = Float32Array.from({ length: Math.min(count, MOST_RANDOM) }, () => (Math.random() - 0.5) * scale);
  if (some.length === count) return some;
  const all = new Float32Array(count);
  for (let at = 0; at < count; at += some.length) all.set(some.subarray(0, count - at), at);
  return all;
}

/** The same as binary16. */
export function randomHalves(count: number, scale: number): Uint16Array {
  const some = Uint16Array.from(random(Math.min(count, MOST_RANDOM), scale), numberToF16);
  const all = new Uint16Array(count);
  for (let at = 0; at < count; at += some.length) all.set(some.subarray(0, count - at), at);
  return all;
}

/** Random elements of a type on a device. */
export function randomElements(backend: Backend, count: number, dtype: DType): DeviceBuffer {
  const some = random(Math.min(count, MOST_RANDOM), 4);
  const convert = dtype === "f16" ? numberToF16 : numberToBf16;
  return filled(backend, dtype === "f32" ? some : Uint16Array.from(some, convert), count * (dtype === "f32" ? 4 : 2));
}

/** A buffer of so many bytes, at least 16, with these contents again and again. */
export function filled(backend: Backend, data: ArrayBufferView, byteLength: number = data.byteLength): DeviceBuffer {
  const buffer = backend.alloc(Math.max(16, byteLength));
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  for (let at = 0; at < byteLength; at += bytes.length) {
    backend.write(buffer, bytes.subarray(0, byteLength - at), at);
  }
  return buffer;
}

/** @throws {Error} unless two buffers begin with the same bytes. */
export async function requireSame(
  what: string,
  backend: Backend,
  a: DeviceBuffer,
  b: DeviceBuffer,
  bytes: number,
): Promise<void> {
  const [x, y] = [await backend.read(a, 0, bytes), await backend.read(b, 0, bytes)];
  if (x.some((value, i) => value !== y[i])) {
    throw new Error(`${what} of ${backend.name} does not give back what it got`);
  }
}
