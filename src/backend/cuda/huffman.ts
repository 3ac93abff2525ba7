/**
 * Products of Huffman-coded vectors on a CUDA device (cuda/huffman.cu).
 *
 * @module
 */
import type { DeviceBuffer } from "../backend.ts";
import { type DeviceCodes, type DotShape, type GpuHuffman, TABLE_STRIDE } from "../gpu/huffman.ts";
import { requireDots } from "../gpu/huffman_check.ts";
import type { CudaDevice } from "./device.ts";

/** The kernel on one device. */
export class CudaHuffman implements GpuHuffman {
  readonly #device: CudaDevice;

  constructor(device: CudaDevice) {
    this.#device = device;
  }

  dots(codes: DeviceCodes, shape: DotShape, weights: DeviceBuffer, out: DeviceBuffer, status: DeviceBuffer): void {
    requireDots(codes, shape, weights, out, status);
    const { block, vector, headBlocks, headVectors, blockStride, vectorStride, vectors, length, alphabet, sets } =
      shape;
    const counts = [block, vector, headBlocks, headVectors, blockStride, vectorStride, vectors, length, alphabet, sets];
    this.#device.launch("huffman", `dots${shape.lanes}`, {
      grid: [shape.tokenBlocks, shape.heads, 1],
      block: [64, 1, 1],
    }, [
      codes.codes,
      codes.blocks,
      codes.vectors,
      { u64: this.#device.address(codes.tables) + shape.layer * TABLE_STRIDE },
      ...counts.map((u32) => ({ u32 })),
      weights,
      out,
      status,
    ]);
  }
}
