/**
 * Products of Huffman-coded vectors on WebGPU (wgsl/huffman.wgsl).
 *
 * @module
 */
import type { DeviceBuffer } from "../backend.ts";
import { type DeviceCodes, type DotShape, type GpuHuffman, TABLE_STRIDE } from "../gpu/huffman.ts";
import { requireDots } from "../gpu/huffman_check.ts";
import type { WebGpuDevice } from "./device.ts";
import { huffman } from "./shaders/huffman.ts";

/** The kernel on one device. */
export class WebGpuHuffman implements GpuHuffman {
  readonly #device: WebGpuDevice;

  constructor(device: WebGpuDevice) {
    this.#device = device;
  }

  dots(codes: DeviceCodes, shape: DotShape, weights: DeviceBuffer, out: DeviceBuffer, status: DeviceBuffer): void {
    requireDots(codes, shape, weights, out, status);
    const { heads, tokenBlocks, lanes } = shape;
    const count = heads * tokenBlocks;
    if (count === 0) return;
    this.#device.dispatch({
      shader: huffman,
      entry: "dots",
      constants: { LANES: lanes },
      buffers: [codes.codes, codes.blocks, codes.vectors, codes.tables, weights, out, status],
      uniforms: Uint32Array.of(
        count,
        tokenBlocks,
        shape.block,
        shape.vector,
        shape.headBlocks,
        shape.headVectors,
        shape.blockStride,
        shape.vectorStride,
        shape.vectors,
        shape.length,
        shape.alphabet,
        shape.sets,
        shape.layer * TABLE_STRIDE / 4,
        0,
        0,
        0,
      ),
      workgroups: this.#device.grid(count),
    });
  }
}
