/**
 * A GPU with its own clock, and how fast it copies: events around a call on CUDA, timestamps of its kernels on WebGPU.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import { CudaBackend } from "../../src/backend/cuda/cuda_backend.ts";
import { createWebGpuBackend } from "../../src/backend/webgpu/create.ts";
import { dispatchCopy } from "../../cli/bench/copy_shader.ts";
import { type DeviceFacts, deviceFacts } from "./device_facts.ts";

/** Least bytes of an array of a copy on hardware: more than the caches hold (50 MB on an H100), twice. */
export const COPY_BYTES = 128 << 20;
/** On a processor. */
const FEW_BYTES = 4 << 20;
/** A backend with its clock. */
export interface TimedDevice extends DeviceFacts {
  readonly backend: Backend;
  /** Milliseconds of enqueued work on the device. */
  readonly time: (enqueue: () => void) => Promise<number>;
  /** Bytes of the largest array that a kernel can have. */
  readonly mostBound: number;
  /** What copies: "driver" on CUDA, "shader" on WebGPU. */
  readonly copyBy: string;
  /** Enqueues a copy of whole buffers. */
  readonly copy: (from: ReturnType<Backend["alloc"]>, to: ReturnType<Backend["alloc"]>) => void;
}

/** Opens one. */
export async function openTimed(name: string): Promise<TimedDevice> {
  if (name === "cuda") {
    const backend = await CudaBackend.open();
    return {
      ...deviceFacts(backend),
      backend,
      time: (enqueue) => backend.device.time(enqueue),
      mostBound: Infinity,
      copyBy: "driver",
      copy: (from, to) => backend.copy(from, 0, to, 0, from.byteLength),
    };
  }
  if (name !== "webgpu") throw new Error(`Cannot measure backend ${name}: expected cuda or webgpu`);
  const backend = await createWebGpuBackend({ timeKernels: true });
  return {
    ...deviceFacts(backend),
    backend,
    time: async (enqueue) => {
      await backend.profile();
      enqueue();
      const kernels = await backend.profile();
      return kernels.reduce((sum, { nanoseconds }) => sum + nanoseconds, 0) / 1e6;
    },
    mostBound: backend.device.mostBytes,
    copyBy: "shader",
    copy: (from, to) => dispatchCopy(backend, from, to),
  };
}

/** Least of some times, after one that compiles. */
export async function bestTime({ time }: TimedDevice, enqueue: () => void, rounds: number): Promise<number> {
  let least = Infinity;
  for (let round = 0; round <= rounds; round++) {
    const took = await time(enqueue);
    if (round > 0) least = Math.min(least, took);
  }
  return least;
}

/** How fast it copies. */
export interface CopyRate {
  /** GB/s of bytes read and written. */
  readonly copyGigabytesPerSecond: number;
  readonly copyMebibytes: number;
  readonly copyBy: string;
}

/** Measures it; `bytes` of an array, or more where that fits its caches. */
export async function copyRate(device: TimedDevice, bytes: number, rounds: number): Promise<CopyRate> {
  const { backend, copyBy } = device;
  const length = Math.min(Math.max(bytes, device.software ? FEW_BYTES : COPY_BYTES), device.mostBound);
  const [from, to] = [backend.alloc(length), backend.alloc(length)];
  backend.write(from, new Uint32Array(1 << 16).fill(0x5eed));
  const took = await bestTime(device, () => device.copy(from, to), rounds);
  const [last] = new Uint32Array((await backend.read(to, 0, 4)).buffer);
  if (last !== 0x5eed) throw new Error("What was copied is not what was there");
  for (const buffer of [from, to]) buffer.free();
  return { copyGigabytesPerSecond: round4(2 * length / took / 1e6), copyMebibytes: length / 2 ** 20, copyBy };
}

/** Four significant digits. */
export function round4(x: number): number {
  return Number(x.toPrecision(4));
}
