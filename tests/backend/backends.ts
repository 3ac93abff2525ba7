/**
 * The backends under test, and buffers filled and read in one call. Every build of wasm is in the list: one that the
 * engine does not validate fails its tests (Deno runs them all), it is not skipped. A GPU's backend is left out where it
 * is absent, with a line on stderr, unless KVZ_REQUIRE names it ("cuda,webgpu"): then its tests fail.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../../src/backend/backend.ts";
import { type BackendOptions, createBackend } from "../../src/backend/select.ts";
import { useCudaLibrary } from "./cuda_library.ts";

type Named = readonly [string, BackendOptions];

const HOST: readonly Named[] = [
  ["reference", { backend: "reference" }],
  ["wasm base", { backend: "wasm", build: "base" }],
  ["wasm simd", { backend: "wasm", build: "simd" }],
  ["wasm relaxed", { backend: "wasm", build: "relaxed" }],
];

const REQUIRED = (Deno.env.get("KVZ_REQUIRE") ?? "").split(",");

/** Whether a GPU's backend opens here, or has to. */
async function present([name, options]: Named): Promise<boolean> {
  if (REQUIRED.includes(name)) return true;
  try {
    (await createBackend(options))[Symbol.dispose]();
    return true;
  } catch (error) {
    console.error(`Tests of ${name} are left out: ${(error as Error).message}`);
    return false;
  }
}

try {
  await useCudaLibrary();
} catch (error) {
  console.error(`The emulator of CUDA is not built: ${(error as Error).message}`);
}
const GPU: Named[] = [];
for (const name of ["cuda", "webgpu"] as const) {
  const named: Named = [name, { backend: name }];
  if (await present(named)) GPU.push(named);
}

/** Name and options of every backend. */
export const BACKENDS: readonly Named[] = [...HOST, ...GPU];

/** Runs with every backend open, the reference first. */
export async function withBackends(
  run: (backends: readonly (readonly [name: string, backend: Backend])[]) => Promise<void>,
): Promise<void> {
  const opened: [string, Backend][] = [];
  try {
    for (const [name, options] of BACKENDS) opened.push([name, await createBackend(options)]);
    await run(opened);
  } finally {
    for (const [, backend] of opened) backend[Symbol.dispose]();
  }
}

/** Registers a test for every backend. */
export function testBackends(name: string, test: (backend: Backend) => void | Promise<void>): void {
  for (const [label, options] of BACKENDS) {
    Deno.test(`${label}: ${name}`, async () => {
      using backend = await createBackend(options);
      await test(backend);
    });
  }
}

/** A device buffer with the given contents. */
export function upload(backend: Backend, data: ArrayBufferView): DeviceBuffer {
  const buffer = backend.alloc(data.byteLength);
  backend.write(buffer, data);
  return buffer;
}

/** A device buffer whose every byte is 0xff: float NaN, so that what a kernel leaves out shows. */
export function dirty(backend: Backend, byteLength: number): DeviceBuffer {
  return upload(backend, new Uint8Array(byteLength).fill(0xff));
}

/** Contents of a buffer as float32. */
export async function readFloats(backend: Backend, buffer: DeviceBuffer, length?: number): Promise<Float32Array> {
  return new Float32Array((await backend.read(buffer, 0, length && length * 4)).buffer);
}

/** Contents of a buffer as 16-bit words. */
export async function readHalves(backend: Backend, buffer: DeviceBuffer, length?: number): Promise<Uint16Array> {
  return new Uint16Array((await backend.read(buffer, 0, length && length * 2)).buffer);
}

/** Uniform numbers in [0, 1) from a seed (mulberry32). */
export function generator(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Values in (-scale, scale). */
export function uniform(length: number, seed: number, scale: number = 1): Float32Array {
  const next = generator(seed);
  return Float32Array.from({ length }, () => (next() * 2 - 1) * scale);
}

/** The float32 with the given bits. */
export function floatsOfBits(bits: readonly number[]): Float32Array {
  return new Float32Array(Uint32Array.from(bits).buffer);
}

/** Bits of float32 values. */
export function bitsOfFloats(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

/** Index of the first element that differs by `Object.is`, or -1. */
export function firstDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  for (let i = 0; i < Math.max(a.length, b.length); i++) if (!Object.is(a[i], b[i])) return i;
  return -1;
}
