/**
 * Memory that the caller and a GPU backend share, and a check of its elements where they lie.
 *
 * @module
 */
import type { DType } from "../../cache/types.ts";
import type { DeviceBuffer } from "../backend.ts";

/** Memory of CUDA: an address on the device of the backend. */
export interface CudaMemory {
  /** `CUdeviceptr`, a multiple of 16. */
  readonly pointer: bigint;
  /** Bytes. */
  readonly byteLength: number;
}

/** What is needed of a `GPUBuffer`: usage STORAGE, COPY_SRC and COPY_DST, made by the backend's device, not mapped. */
export interface WebGpuMemory {
  /** Bytes. */
  readonly size: number;
  /** Flags of GPUBufferUsage. */
  readonly usage: number;
}

/** A `GPUBuffer` or CUDA memory. */
export type DeviceMemory = CudaMemory | WebGpuMemory;

/** Memory of a device as buffers of a backend. */
export interface GpuMemory {
  /**
   * The caller's memory as a buffer; freeing it frees nothing.
   *
   * @throws {KvzBackendError} when it is of another kind, or lacks a usage.
   * @throws {RangeError} when the range does not lie in it.
   */
  wrap(memory: DeviceMemory, byteOffset?: number, byteLength?: number): DeviceBuffer;

  /** The memory behind a buffer that the backend allocated: the caller may use it as long as the buffer is not freed. */
  memoryOf(buffer: DeviceBuffer): DeviceMemory;

  /**
   * found = index of the first element of `src` that is NaN or infinite, 0xffffffff when all `elements` are finite: one
   * u32. Enqueues.
   */
  findNonFinite(src: DeviceBuffer, dtype: DType, elements: number, found: DeviceBuffer): void;
}
