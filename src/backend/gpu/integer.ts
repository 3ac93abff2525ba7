/**
 * Kernels of the integer transform on a GPU: sums are exact, so that they are the same on every device.
 * reconstructReference defines them.
 *
 * @module
 */
import type { BlockShape, DeviceBuffer } from "../backend.ts";

/** A basis of integers on the device, packed as it likes it. */
export interface DeviceIntegerBasis {
  readonly components: number;
  readonly features: number;
  free(): void;
}

/** The kernels. Calls enqueue. */
export interface GpuInteger {
  /** Uploads −63 … 63, [components][features]. */
  uploadBasis(basis: Int8Array, components: number, features: number): DeviceIntegerBasis;

  /**
   * sums[t][f − featureBegin] = Σ_c basis[c][f] · levels[t][c], i32, for featureBegin ≤ f < featureEnd. `levels` is i16
   * [tokens][stride], |level| ≤ 32,639 = 127 · 256 + 127, 0 from `components` to `stride`; stride is a multiple of 16, and
   * where it is below `components` the leading ones alone are summed. `sums` has row stride
   * paddedLength(featureEnd − featureBegin), padding zero.
   */
  multiply(
    basis: DeviceIntegerBasis,
    levels: DeviceBuffer,
    stride: number,
    tokens: number,
    featureBegin: number,
    featureEnd: number,
    sums: DeviceBuffer,
  ): void;

  /**
   * dst[block][t][i] = convert(rotate(f32(sum) · f32(scales[f] · tokenScales[t]) + mean[f])), f = block · dim + i: as
   * `Backend.scatter`, from sums. `scales` and `mean` are f32 [blocks · dim], `tokenScales` f32 [tokens].
   */
  scatterSums(
    sums: DeviceBuffer,
    shape: BlockShape,
    scales: DeviceBuffer,
    tokenScales: DeviceBuffer,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer,
    dst: DeviceBuffer,
  ): void;
}
