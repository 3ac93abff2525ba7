/**
 * Synthetic data in device memory, and times of steps there.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../../src/backend/backend.ts";
import { numberToF16 } from "../../src/cache/elements.ts";

/** Elements that are drawn; longer arrays repeat them. */
const DRAWN = 1 << 20;

function gaussian(length: number): Float32Array {
  return Float32Array.from(
    { length },
    () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random()),
  );
}

/** Fills an array with its first `length` elements. */
function repeat<T extends Uint16Array | Int8Array>(to: T, length: number): T {
  for (let filled = length; filled < to.length; filled *= 2) to.copyWithin(filled, 0, filled);
  return to;
}

/** Gaussian noise as bfloat16 bits. */
export function bf16Noise(length: number): Uint16Array {
  const out = new Uint16Array(length);
  const bits = new Uint32Array(gaussian(Math.min(length, DRAWN)).buffer);
  out.set(bits.map((value) => value >>> 16));
  return repeat(out, bits.length);
}

/** Entries like those of an orthonormal basis of `features` columns, as binary16 bits. */
export function halfNoise(length: number, features: number): Uint16Array {
  const out = new Uint16Array(length);
  const drawn = gaussian(Math.min(length, DRAWN));
  out.set(Uint16Array.from(drawn, (x) => numberToF16(x / Math.sqrt(features))));
  return repeat(out, drawn.length);
}

/** Integers up to ±63. */
export function int7Noise(length: number): Int8Array {
  const out = new Int8Array(length);
  const drawn = gaussian(Math.min(length, DRAWN));
  out.set(Int8Array.from(drawn, (x) => Math.max(-63, Math.min(63, Math.round(20 * x)))));
  return repeat(out, drawn.length);
}

/** Fills a buffer with another's bytes, again and again; gives it back. */
export function fillWith(backend: Backend, from: DeviceBuffer, to: DeviceBuffer): DeviceBuffer {
  for (let at = 0; at < to.byteLength; at += from.byteLength) {
    backend.copy(from, 0, to, at, Math.min(from.byteLength, to.byteLength - at));
  }
  return to;
}

/** Wall time of work on a device: of all of it, or of each step, for which it waits. */
export class StepClock {
  readonly steps: Record<string, number> = {};
  readonly #backend: Backend;
  readonly #waits: boolean;
  readonly #word: DeviceBuffer;
  readonly #begin: number;
  #last: number;

  constructor(backend: Backend, waits: boolean) {
    this.#backend = backend;
    this.#waits = waits;
    this.#word = backend.alloc(16);
    this.#begin = this.#last = performance.now();
  }

  /** Ends a step. */
  async step(name: string): Promise<void> {
    if (!this.#waits) return;
    await this.#backend.read(this.#word, 0, 4);
    const now = performance.now();
    this.steps[name] = (this.steps[name] ?? 0) + now - this.#last;
    this.#last = now;
  }

  /** Milliseconds since it was made, when all work is done. */
  async total(): Promise<number> {
    await this.#backend.read(this.#word, 0, 4);
    this.#word.free();
    return performance.now() - this.#begin;
  }
}
