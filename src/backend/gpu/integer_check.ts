/**
 * Checks of arguments that the integer kernels of every GPU make alike.
 *
 * @module
 */
import { type BlockShape, type DeviceBuffer, paddedLength } from "../backend.ts";
import { requireBlocks, requireBytes, requireCounts, requireFeatureRange } from "../check.ts";
import type { DeviceIntegerBasis } from "./integer.ts";

/** @throws {RangeError} when a basis is too short or an entry lies outside of −63 … 63. */
export function requireIntegerBasis(basis: Int8Array, components: number, features: number): void {
  requireCounts("upload basis", { components, features });
  if (basis.length < components * features) {
    throw new RangeError(`Cannot upload basis: it has ${basis.length} elements, expected ${components} × ${features}`);
  }
  for (let i = 0; i < components * features; i++) {
    if (basis[i] < -63 || basis[i] > 63) {
      throw new RangeError(
        `Cannot upload basis: element ${i % features} of row ${Math.floor(i / features)} is ${
          basis[i]
        }, expected −63 … 63`,
      );
    }
  }
}

/** @throws {RangeError} when an argument of `multiply` does not fit. */
export function requireLevels(
  basis: DeviceIntegerBasis,
  levels: DeviceBuffer,
  stride: number,
  tokens: number,
  featureBegin: number,
  featureEnd: number,
  sums: DeviceBuffer,
): void {
  requireCounts("multiply levels", { stride, tokens });
  if (stride % 16 !== 0) {
    throw new RangeError(`Cannot multiply levels: "stride" is ${stride}, expected a multiple of 16`);
  }
  requireFeatureRange(featureBegin, featureEnd, basis.features);
  requireBytes("multiply levels", "levels", levels.byteLength, tokens * stride * 2);
  requireBytes("multiply levels", "sums", sums.byteLength, tokens * paddedLength(featureEnd - featureBegin) * 4);
}

/**
 * Checks the arguments of `scatterSums`; returns the row stride of the sums.
 *
 * @throws {RangeError} when a buffer is too short.
 */
export function requireSums(
  sums: DeviceBuffer,
  shape: BlockShape,
  scales: DeviceBuffer,
  tokenScales: DeviceBuffer,
  rotation: DeviceBuffer | null,
  mean: DeviceBuffer,
  dst: DeviceBuffer,
): number {
  const stride = requireBlocks("scatter", shape, dst, sums, rotation, mean);
  requireBytes("scatter", "scales", scales.byteLength, shape.blocks * shape.dim * 4);
  requireBytes("scatter", "tokenScales", tokenScales.byteLength, shape.tokens * 4);
  return stride;
}
