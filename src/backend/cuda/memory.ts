/**
 * Memory that the caller and the CUDA backend share.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { BYTES_PER_ELEMENT, type DType } from "../../cache/types.ts";
import type { DeviceBuffer } from "../backend.ts";
import { requireBytes, requireCounts } from "../check.ts";
import type { CudaMemory, DeviceMemory, GpuMemory } from "../gpu/memory.ts";
import type { CudaBuffer, CudaDevice } from "./device.ts";

const THREADS = 256;
/** Blocks a multiprocessor of the search. */
const BLOCKS = 8;
/** Exponent fields, for 16-bit elements in both halves of a word. */
const EXPONENTS: Readonly<Record<DType, number>> = { f32: 0x7f800000, f16: 0x7c007c00, bf16: 0x7f807f80 };

/** {@linkcode GpuMemory} of CUDA. */
export class CudaMemoryKernels implements GpuMemory {
  readonly #device: CudaDevice;

  constructor(device: CudaDevice) {
    this.#device = device;
  }

  wrap(memory: DeviceMemory, byteOffset: number = 0, byteLength?: number): CudaBuffer {
    if (!("pointer" in memory)) throw new KvzBackendError("Cannot wrap memory: it is a GPUBuffer, the backend is cuda");
    const length = byteLength ?? memory.byteLength - byteOffset;
    requireCounts("wrap", { byteOffset, byteLength: length });
    requireBytes("wrap", "memory", memory.byteLength, byteOffset + length);
    return this.#device.wrap(memory.pointer + BigInt(byteOffset), length);
  }

  memoryOf(buffer: DeviceBuffer): CudaMemory {
    return { pointer: BigInt(this.#device.address(buffer)), byteLength: buffer.byteLength };
  }

  findNonFinite(src: DeviceBuffer, dtype: DType, elements: number, found: DeviceBuffer): void {
    requireCounts("find numbers that are not finite", { elements });
    if (elements >= 0xffffffff) throw new RangeError(`Cannot search ${elements} elements: more than 4294967294`);
    const bytes = BYTES_PER_ELEMENT[dtype];
    requireBytes("find numbers that are not finite", "src", src.byteLength, elements * bytes);
    requireBytes("find numbers that are not finite", "found", found.byteLength, 4);
    this.#device.fill(found, 0xff, 0, 4);
    const blocks = Math.min(Math.ceil(elements * bytes / 16 / THREADS), this.#device.multiprocessors * BLOCKS);
    this.#device.launch("elementwise", "findNonFinite", { grid: [blocks, 1, 1], block: [THREADS, 1, 1] }, [
      src,
      { u64: elements },
      { u32: EXPONENTS[dtype] },
      { u32: 4 / bytes },
      found,
    ]);
  }
}
