/**
 * Rotation and uniform quantization of groups on a GPU; `quantizeGroups` (src/stages/quantize/uniform.ts) defines them.
 *
 * @module
 */
import { KvzLimitError } from "../../errors.ts";
import type { GroupShape } from "../../stages/quantize/uniform.ts";
import type { DeviceBuffer } from "../backend.ts";
import { requireBytes } from "../check.ts";

/** The kernels. Calls enqueue, but for `exact`. */
export interface GpuGroups {
  /** x f32 → codes u8 at the same places, params u16 [outer][groups][inner][2]. `x` is overwritten where it is rotated. */
  quantize(x: DeviceBuffer, shape: GroupShape, codes: DeviceBuffer, params: DeviceBuffer): void;
  /** The inverse; scales and zeros are finite. */
  dequantize(codes: DeviceBuffer, params: DeviceBuffer, shape: GroupShape, x: DeviceBuffer): void;
  /** Whether this device gives the reference's bits, as `GpuDense.exact`. */
  exact(): Promise<boolean>;
}

/** Longest row that is rotated. */
export const MOST_ROTATED = 2048;

/** Most values of a call: kernels count them in 32 bits, and the last block counts beyond the end. */
const MOST_VALUES = 2 ** 32 - 2 ** 12;

/** Whether the kernels take a shape: codes by four, rows of heads. Others are the host's. */
export function takesGroups({ length, inner, group, rotated }: GroupShape): boolean {
  if (rotated && (inner !== 1 || length > MOST_ROTATED)) return false;
  return inner === 1 ? group % 4 === 0 && length % 4 === 0 : inner % 4 === 0;
}

/**
 * @throws {RangeError} when the kernels do not take a shape, or a buffer is too short.
 * @throws {KvzLimitError} when there are more values than a call takes.
 */
export function requireGroups(shape: GroupShape, x: DeviceBuffer, codes: DeviceBuffer, params: DeviceBuffer): void {
  const what = "quantize groups";
  const { outer, length, inner, group } = shape;
  if (!takesGroups(shape)) {
    throw new RangeError(
      `Cannot ${what}: they are ${group} of ${length} × ${inner}, expected multiples of 4, rotated at most ${MOST_ROTATED}`,
    );
  }
  const count = outer * length * inner;
  if (count > MOST_VALUES) {
    throw new KvzLimitError(`Cannot ${what}: there are ${count} values, at most ${MOST_VALUES} go in a call`);
  }
  requireBytes(what, "x", x.byteLength, 4 * count);
  requireBytes(what, "codes", codes.byteLength, count);
  requireBytes(what, "params", params.byteLength, 4 * outer * Math.ceil(length / group) * inner);
}
