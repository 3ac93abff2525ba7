/**
 * ggml's blocks on a CUDA device (cuda/blocks.cu).
 *
 * @module
 */
import type { BlockType } from "../../stages/quantize/ggml_blocks.ts";
import type { DeviceBuffer } from "../backend.ts";
import { type GpuBlocks, requireBlocks } from "../gpu/blocks.ts";
import type { CudaDevice } from "./device.ts";

/** The kernels on one device. */
export class CudaBlocks implements GpuBlocks {
  readonly #device: CudaDevice;

  constructor(device: CudaDevice) {
    this.#device = device;
  }

  quantize(x: DeviceBuffer, blocks: number, type: BlockType, bytes: DeviceBuffer): void {
    requireBlocks(x, blocks, type, bytes);
    this.#launch(type === "q8_0" ? "quantizeQ8" : "quantizeQ4", x, blocks, bytes);
  }

  dequantize(bytes: DeviceBuffer, blocks: number, type: BlockType, x: DeviceBuffer): void {
    requireBlocks(x, blocks, type, bytes);
    this.#launch(type === "q8_0" ? "dequantizeQ8" : "dequantizeQ4", bytes, blocks, x);
  }

  /** As CUDA's arithmetic is IEEE's. */
  exact(): Promise<boolean> {
    return Promise.resolve(true);
  }

  /** A warp a block. */
  #launch(kernel: string, from: DeviceBuffer, blocks: number, to: DeviceBuffer): void {
    const size = { grid: [Math.ceil(blocks / 8), 1, 1], block: [256, 1, 1] } as const;
    this.#device.launch("blocks", kernel, size, [from, { u32: blocks }, to]);
  }
}
