/**
 * Times of kernels by timestamp queries: two around each run.
 *
 * @module
 */
import type { KernelTime } from "../gpu/kernel_time.ts";
import { MAP_READ, USAGE } from "./flags.ts";

/** Kernels that one batch can time. */
export const PROFILED_KERNELS = 64;

const QUERIES = 2 * PROFILED_KERNELS;

/** The queries of one device. */
export class Profiler {
  readonly #device: GPUDevice;
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  #batch: string[] = [];
  #batches: { readonly kernels: readonly string[]; readonly staging: GPUBuffer }[] = [];

  constructor(device: GPUDevice) {
    this.#device = device;
    this.#queries = device.createQuerySet({ type: "timestamp", count: QUERIES });
    this.#resolved = device.createBuffer({ size: QUERIES * 8, usage: USAGE.queryResolve | USAGE.copySrc });
  }

  /** Where a kernel's pass writes its two times. */
  begin(kernel: string): GPUComputePassTimestampWrites {
    const at = 2 * this.#batch.length;
    this.#batch.push(kernel);
    return { querySet: this.#queries, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 };
  }

  /** Ends a batch. */
  resolve(encoder: GPUCommandEncoder): void {
    const kernels = this.#batch;
    if (kernels.length === 0) return;
    this.#batch = [];
    const size = 16 * kernels.length;
    const staging = this.#device.createBuffer({ size, usage: USAGE.mapRead | USAGE.copyDst });
    encoder.resolveQuerySet(this.#queries, 0, 2 * kernels.length, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, staging, 0, size);
    this.#batches.push({ kernels, staging });
  }

  /** Times since the last call, longest first. */
  async take(): Promise<KernelTime[]> {
    const batches = this.#batches;
    this.#batches = [];
    const sums = new Map<string, { calls: number; nanoseconds: number }>();
    for (const { kernels, staging } of batches) {
      await staging.mapAsync(MAP_READ);
      const times = new BigUint64Array(staging.getMappedRange());
      kernels.forEach((kernel, i) => {
        const sum = sums.get(kernel) ?? { calls: 0, nanoseconds: 0 };
        sum.calls++;
        sum.nanoseconds += Number(times[2 * i + 1] - times[2 * i]);
        sums.set(kernel, sum);
      });
      staging.destroy();
    }
    return [...sums].map(([kernel, sum]) => ({ kernel, ...sum })).sort((a, b) => b.nanoseconds - a.nanoseconds);
  }

  destroy(): void {
    for (const { staging } of this.#batches) staging.destroy();
    this.#batches = [];
    this.#queries.destroy();
    this.#resolved.destroy();
  }
}
