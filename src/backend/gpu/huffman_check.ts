/**
 * Checks of arguments that the Huffman kernels of every GPU make alike.
 *
 * @module
 */
import type { DeviceBuffer } from "../backend.ts";
import { requireBytes, requireCounts } from "../check.ts";
import { type DeviceCodes, type DotShape, TABLE_STRIDE } from "./huffman.ts";

/** @throws {RangeError} when a count or a buffer does not fit */
export function requireDots(
  { blocks, vectors, tables }: DeviceCodes,
  { layer, lanes, ...shape }: DotShape,
  weights: DeviceBuffer,
  out: DeviceBuffer,
  status: DeviceBuffer,
): void {
  const what = "multiply codes";
  requireCounts(what, { layer, lanes, ...shape });
  const { heads, tokenBlocks, headBlocks, headVectors, blockStride, vectorStride, length, sets } = shape;
  if (shape.vectors > 64 || length > 128) {
    throw new RangeError(`Cannot ${what}: blocks have ${shape.vectors} vectors of ${length}, at most 64 of 128`);
  }
  const last = (each: number, stride: number) => Math.max(0, heads - 1) * each + Math.max(0, tokenBlocks - 1) * stride;
  requireBytes(what, "blocks", blocks.byteLength, 8 * (shape.block + last(headBlocks, blockStride) + 1));
  requireBytes(
    what,
    "vectors",
    vectors.byteLength,
    2 * (shape.vector + last(headVectors, vectorStride) + shape.vectors),
  );
  requireBytes(what, "tables", tables.byteLength, (layer + 1) * TABLE_STRIDE);
  requireBytes(what, "weights", weights.byteLength, 4 * heads * sets * length * lanes);
  requireBytes(what, "out", out.byteLength, 4 * heads * tokenBlocks * shape.vectors * lanes);
  requireBytes(what, "status", status.byteLength, 4);
}
