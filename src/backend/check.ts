/**
 * Checks of kernel arguments that every backend makes alike.
 *
 * @module
 */
import { BYTES_PER_ELEMENT } from "../cache/types.ts";
import {
  type BlockShape,
  type DeviceBasis,
  type DeviceBuffer,
  type DevicePlan,
  packedLength,
  paddedLength,
  type QuantGroup,
} from "./backend.ts";

/** @throws {RangeError} unless every value is a whole number ≥ 0. */
export function requireCounts(what: string, counts: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(counts)) {
    if (!(Number.isSafeInteger(value) && value >= 0)) {
      throw new RangeError(`Cannot ${what}: "${name}" is ${value}, expected a whole number ≥ 0`);
    }
  }
}

/** @throws {RangeError} when a buffer is shorter than `wanted` bytes. */
export function requireBytes(what: string, name: string, found: number, wanted: number): void {
  if (found < wanted) throw new RangeError(`Cannot ${what}: "${name}" has ${found} bytes, expected ${wanted}`);
}

/**
 * How many components of a basis a projection is on.
 *
 * @throws {RangeError} unless they are all of them, or fewer and a multiple of 8.
 */
export function requireLeading(basis: DeviceBasis, components: number | undefined): number {
  if (components === undefined || components === basis.components) return basis.components;
  if (!(Number.isInteger(components) && components >= 0 && components < basis.components && components % 8 === 0)) {
    throw new RangeError(
      `Cannot project: "components" is ${components}, expected ${basis.components} or a smaller multiple of 8`,
    );
  }
  return components;
}

/** @throws {RangeError} unless offsets and length of a copy are multiples of 4 within both buffers. */
export function requireCopy(
  src: DeviceBuffer,
  srcByteOffset: number,
  dst: DeviceBuffer,
  dstByteOffset: number,
  byteLength: number,
): void {
  requireCounts("copy", { srcByteOffset, dstByteOffset, byteLength });
  if ((srcByteOffset | dstByteOffset | byteLength) % 4 !== 0) {
    throw new RangeError(
      `Cannot copy: offsets ${srcByteOffset} and ${dstByteOffset} and length ${byteLength} are not multiples of 4`,
    );
  }
  requireBytes("copy", "src", src.byteLength, srcByteOffset + byteLength);
  requireBytes("copy", "dst", dst.byteLength, dstByteOffset + byteLength);
}

/** @throws {RangeError} unless a view begins at a multiple of 256 and lies within its buffer. */
export function requireView(buffer: DeviceBuffer, byteOffset: number, byteLength: number): void {
  requireCounts("view", { byteOffset, byteLength });
  if (byteOffset % 256 !== 0) {
    throw new RangeError(`Cannot view: "byteOffset" is ${byteOffset}, expected a multiple of 256`);
  }
  requireBytes("view", "buffer", buffer.byteLength, byteOffset + byteLength);
}

/** @throws {RangeError} when the sizes of a chunk do not fit together. */
export function requireShape(what: string, shape: BlockShape): void {
  const { dtype, blocks, tokens, dim, rotaryDim } = shape;
  requireCounts(what, { blocks, tokens, dim, rotaryDim });
  if (rotaryDim > dim || rotaryDim % 2 !== 0) {
    throw new RangeError(`Cannot ${what}: "rotaryDim" is ${rotaryDim}, expected an even number up to ${dim}`);
  }
  if (!Object.hasOwn(BYTES_PER_ELEMENT, dtype)) {
    throw new RangeError(`Cannot ${what}: "dtype" is ${dtype}, expected f32, f16 or bf16`);
  }
}

/**
 * Checks a plan and returns one past its last component.
 *
 * @throws {RangeError} when groups overlap, are not in order, are empty or have an unknown type.
 */
export function requirePlan(groups: readonly QuantGroup[]): number {
  let end = 0;
  for (const { first, size, type } of groups) {
    requireCounts("use plan", { first, size });
    if (size === 0) throw new RangeError(`Cannot use plan: the group at ${first} is empty`);
    if (type !== 1 && type !== 2 && type !== 3) {
      throw new RangeError(`Cannot use plan: the group at ${first} has type ${type}, expected 1, 2 or 3`);
    }
    if (first < end) {
      throw new RangeError(`Cannot use plan: a group begins at ${first}, expected ${end} or more`);
    }
    end = first + size;
  }
  return end;
}

/** Binary16 bits of 4, the least magnitude that no entry of a basis may have. */
const FOUR = 0x4400;

/**
 * Checks basis rows: they are orthonormal, so entries are at most 1 (with rounding; 4 leaves room).
 *
 * @throws {RangeError} when there are too few or an entry's magnitude is 4 or more, infinite or NaN.
 */
export function requireBasis(rows: Uint16Array, components: number, features: number): void {
  requireCounts("upload basis", { components, features });
  if (rows.length < components * features) {
    throw new RangeError(
      `Cannot upload basis: it has ${rows.length} elements, expected ${components} × ${features}`,
    );
  }
  for (let i = 0; i < components * features; i++) {
    if ((rows[i] & 0x7fff) >= FOUR) {
      throw new RangeError(
        `Cannot upload basis: element ${i % features} of row ${Math.floor(i / features)} is not in (-4, 4)`,
      );
    }
  }
}

/** @throws {RangeError} when [begin, end) does not lie in [0, features]. */
export function requireFeatureRange(begin: number, end: number, features: number): void {
  requireCounts("reconstruct", { featureBegin: begin, featureEnd: end });
  if (begin > end || end > features) {
    throw new RangeError(`Cannot reconstruct features [${begin}, ${end}): the basis has ${features}`);
  }
}

/**
 * Checks the arguments of gather and scatter; returns the row stride.
 *
 * @throws {RangeError} when a buffer is too short.
 */
export function requireBlocks(
  what: string,
  shape: BlockShape,
  source: DeviceBuffer,
  rows: DeviceBuffer,
  rotation: DeviceBuffer | null,
  mean: DeviceBuffer | null,
): number {
  requireShape(what, shape);
  const { dtype, blocks, tokens, dim, rotaryDim } = shape;
  const stride = paddedLength(blocks * dim);
  requireBytes(what, "source elements", source.byteLength, blocks * tokens * dim * BYTES_PER_ELEMENT[dtype]);
  requireBytes(what, "feature rows", rows.byteLength, tokens * stride * 4);
  if (rotation !== null) requireBytes(what, "rotation", rotation.byteLength, tokens * rotaryDim * 4);
  if (mean !== null) requireBytes(what, "mean", mean.byteLength, blocks * dim * 4);
  return stride;
}

/** @throws {RangeError} when an argument of quantize or dequantize does not fit. */
export function requireQuantizer(
  what: string,
  coefficients: DeviceBuffer,
  stride: number,
  tokens: number,
  plan: DevicePlan,
  symbols: DeviceBuffer,
  params: DeviceBuffer,
): void {
  requireCounts(what, { stride, tokens });
  if (stride < plan.components) {
    throw new RangeError(`Cannot ${what}: "stride" is ${stride}, expected ${plan.components} or more`);
  }
  requireBytes(what, "coefficients", coefficients.byteLength, tokens * stride * 4);
  requireBytes(what, "symbols", symbols.byteLength, tokens * plan.components);
  requireBytes(what, "params", params.byteLength, tokens * plan.groups.length * 4);
}

/** @throws {RangeError} when an argument of pack or unpack does not fit. */
export function requirePacking(
  what: string,
  symbols: DeviceBuffer,
  plan: DevicePlan,
  tokens: number,
  packed: DeviceBuffer,
): void {
  requireCounts(what, { tokens });
  requireBytes(what, "symbols", symbols.byteLength, tokens * plan.components);
  requireBytes(what, "packed", packed.byteLength, packedLength(plan.groups, tokens));
}

/** @throws {RangeError} when an argument of the fp8 blocks does not fit. */
export function requireFp8(
  what: string,
  values: DeviceBuffer,
  rows: number,
  length: number,
  codes: DeviceBuffer,
  scales: DeviceBuffer,
): void {
  requireCounts(what, { rows, length });
  requireBytes(what, "values", values.byteLength, rows * length * 4);
  requireBytes(what, "codes", codes.byteLength, rows * length);
  requireBytes(what, "scales", scales.byteLength, rows * 2);
}
