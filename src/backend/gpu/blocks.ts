/**
 * ggml's blocks on a GPU; `quantizeBlocks` (src/stages/quantize/ggml_blocks.ts) defines them.
 *
 * @module
 */
import { BLOCK, BLOCK_BYTES, type BlockType } from "../../stages/quantize/ggml_blocks.ts";
import type { DeviceBuffer } from "../backend.ts";
import { requireBytes, requireCounts } from "../check.ts";

/** The kernels. Calls enqueue, but for `exact`. */
export interface GpuBlocks {
  /** x f32 [blocks][32], finite → the bytes of the blocks. What fills up the last word is anything. */
  quantize(x: DeviceBuffer, blocks: number, type: BlockType, bytes: DeviceBuffer): void;
  /** The inverse; scales are finite. */
  dequantize(bytes: DeviceBuffer, blocks: number, type: BlockType, x: DeviceBuffer): void;
  /** Whether this device gives the reference's bits, as `GpuDense.exact`. */
  exact(): Promise<boolean>;
}

/** Bytes of so many blocks in whole words. */
export function blockBytes(blocks: number, type: BlockType): number {
  return Math.ceil(blocks * BLOCK_BYTES[type] / 4) * 4;
}

/** @throws {RangeError} when a buffer is too short, or the number of blocks is none. */
export function requireBlocks(x: DeviceBuffer, blocks: number, type: BlockType, bytes: DeviceBuffer): void {
  const what = `code ${type} blocks`;
  requireCounts(what, { blocks });
  requireBytes(what, "x", x.byteLength, 4 * BLOCK * blocks);
  requireBytes(what, "bytes", bytes.byteLength, blockBytes(blocks, type));
}
