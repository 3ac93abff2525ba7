/**
 * The Backend contract: device buffers and kernels, nothing else. Calls enqueue work; only `read` waits for it.
 * The pipeline (src/stages) is written once over this interface. `reference` defines every kernel: products
 * in float64, the quantizer, gather and scatter operation by operation in float32, so that these give the same bits everywhere.
 *
 * Conventions: all matrices are row-major and little-endian. "stride" is a row length in elements. Feature rows have
 * stride `paddedLength(features)`, coefficient rows `paddedLength(components)`; padding is written as zero by every
 * kernel that writes such rows. Kernels check sizes (RangeError) but trust contents.
 *
 * @module
 */
import type { DType } from "../cache/types.ts";
import type { GpuKernels } from "./gpu/kernels.ts";

/** A block of device memory. */
export interface DeviceBuffer {
  readonly byteLength: number;
  /** Gives the memory back; any later use is an error. */
  free(): void;
}

/** An orthonormal basis on the device, packed as the backend likes it. */
export interface DeviceBasis {
  /** Rows: principal components in use. */
  readonly components: number;
  /** Columns: features p. */
  readonly features: number;
  readonly byteLength: number;
  free(): void;
}

/** Row stride of device matrices: the length rounded up to a multiple of 8 elements. */
export function paddedLength(n: number): number {
  return (n + 7) & ~7;
}

/** Shape of a chunk of one kind in source layout: [blocks][tokens][dim], blocks = layers · heads. */
export interface BlockShape {
  readonly dtype: DType;
  readonly blocks: number;
  readonly tokens: number;
  readonly dim: number;
  /** Leading dimensions of each head that are rotated; 0 for none. */
  readonly rotaryDim: number;
}

/** One group of the KVTC quantizer. */
export interface QuantGroup {
  /** First component. */
  readonly first: number;
  /** Components in the group: 1, 16, 64, 256 or 1024. */
  readonly size: number;
  /** 1 = int2, 2 = int4, 3 = fp8 (E4M3). Components in no group are dropped (type none). */
  readonly type: 1 | 2 | 3;
}

/** A quantization plan on the device: groups in ascending order of `first`, without overlap. */
export interface DevicePlan {
  readonly groups: readonly QuantGroup[];
  /** One past the last component in any group. */
  readonly components: number;
  free(): void;
}

/** Kernels and memory of one device. */
export interface Backend {
  /** "wasm", "reference", … */
  readonly name: string;
  /** Variant in use: "relaxed", "simd", "base"; "float64" for the reference. */
  readonly build: string;

  /** Allocates at least 16-byte aligned memory, contents undefined. */
  alloc(byteLength: number): DeviceBuffer;
  /** Copies host bytes to the device. */
  write(dst: DeviceBuffer, src: ArrayBufferView, dstByteOffset?: number): void;
  /** Waits for the work enqueued so far and copies device bytes to the host. The result belongs to the caller. */
  read(src: DeviceBuffer, byteOffset?: number, byteLength?: number): Promise<Uint8Array>;
  /** Copies between buffers. Offsets and length are multiples of 4; within one buffer the ranges do not overlap. */
  copy(src: DeviceBuffer, srcByteOffset: number, dst: DeviceBuffer, dstByteOffset: number, byteLength: number): void;
  /** A part of a buffer, from a multiple of 256 on. It ends with the buffer; freeing it frees nothing. */
  view(buffer: DeviceBuffer, byteOffset: number, byteLength: number): DeviceBuffer;
  /** Uploads a basis given as binary16 bits [components][features] (one component a row). */
  uploadBasis(rows: Uint16Array, components: number, features: number): DeviceBasis;
  /** Uploads a plan. */
  uploadPlan(groups: readonly QuantGroup[]): DevicePlan;

  /**
   * dst[t][block·dim + i] = rotate(convert(src[block][t][i])) − mean[block·dim + i], f32, row stride
   * paddedLength(blocks·dim).
   *
   * `rotation` is f32 [tokens][2][rotaryDim/2]: cosines, then sines, of the rotation to apply (to undo RoPE the caller
   * passes negated sines, divided by the attention factor): with half = rotaryDim/2, for i < half
   * y[i] = x[i]·c[i] − x[i+half]·s[i], y[i+half] = x[i+half]·c[i] + x[i]·s[i]. Ignored when rotaryDim is 0.
   * `mean` is f32 [blocks·dim] or null. Every product, sum and difference is rounded to f32, none is fused.
   */
  gather(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void;

  /**
   * The inverse layout: dst[block][t][i] = convert(rotate(src[t][block·dim + i] + mean[block·dim + i])), where src has
   * row stride paddedLength(blocks·dim) and conversion to f16 and bf16 rounds to nearest even (f16 overflow gives
   * infinity as IEEE does).
   */
  scatter(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void;

  /**
   * coefficients[t][c] = Σ_f x[t][f] · basis[c][f], f32; x stride paddedLength(features). With `components` on the leading
   * ones alone, a multiple of 8 unless it is all.
   */
  project(
    x: DeviceBuffer,
    tokens: number,
    basis: DeviceBasis,
    coefficients: DeviceBuffer,
    components?: number,
  ): void;

  /**
   * x[t][f − featureBegin] = Σ_c coefficients[t][c] · basis[c][f] for featureBegin ≤ f < featureEnd, f32; x has row
   * stride paddedLength(featureEnd − featureBegin); coefficients have row stride paddedLength(basis.components).
   */
  reconstruct(
    coefficients: DeviceBuffer,
    tokens: number,
    basis: DeviceBasis,
    featureBegin: number,
    featureEnd: number,
    x: DeviceBuffer,
  ): void;

  /**
   * {@linkcode gather}, then {@linkcode project}: coefficients of elements in source layout. A GPU may hold the rows
   * between as binary16 (docs/backends.md, "Bounds").
   */
  gatherProject(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    basis: DeviceBasis,
    coefficients: DeviceBuffer,
    components?: number,
  ): void;

  /**
   * {@linkcode reconstruct}, then {@linkcode scatter}: elements in source layout of the features from `featureBegin` on,
   * as many as the shape has; `mean` is of these features.
   */
  reconstructScatter(
    coefficients: DeviceBuffer,
    basis: DeviceBasis,
    featureBegin: number,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void;

  /**
   * KVTC's per-token group quantizer. For every token t and group g with components C = [first, first + size):
   *
   * int2, int4 (b bits): shift = f16(min C + 0), scale = f16(f32(max C − min C) / (2^b − 1)),
   * q = scale = 0 ? 0 : clamp(roundTiesEven(f32(f32(x − shift) / scale)), 0, 2^b − 1).
   * fp8: shift = 0, scale = f16(f32(max |C|) / 448), q = scale = 0 ? 0 : E4M3(f32(x / scale)), saturating at ±448.
   *
   * All of it in f32 with one rounding an operation (no fused multiply-add), so that equal coefficients give equal
   * codes on every backend. f16() rounds to nearest even.
   *
   * coefficients: f32 [tokens][stride], stride = `stride` elements.
   * symbols: u8 [tokens][plan.components], components outside any group are 0.
   * params: u16 [tokens][groups][2] = binary16 bits of shift, scale.
   */
  quantize(
    coefficients: DeviceBuffer,
    stride: number,
    tokens: number,
    plan: DevicePlan,
    symbols: DeviceBuffer,
    params: DeviceBuffer,
  ): void;

  /**
   * Inverse: coefficient = f32(f32(q · scale) + shift) for int2 and int4, f32(E4M3(q) · scale) for fp8, 0 outside
   * any group and in the row padding. A fp8 code that is E4M3's NaN (0x7f, 0xff) gives NaN; callers check first.
   */
  dequantize(
    symbols: DeviceBuffer,
    params: DeviceBuffer,
    plan: DevicePlan,
    tokens: number,
    coefficients: DeviceBuffer,
    stride: number,
  ): void;

  /**
   * Packs symbols component by component (component-major): for each group in order, for each of its components,
   * the `tokens` codes of b = 2, 4 or 8 bits, first token in the lowest bits, each component padded with zero bits to
   * a whole byte. Returns nothing; the packed length is {@linkcode packedLength}.
   */
  pack(symbols: DeviceBuffer, plan: DevicePlan, tokens: number, packed: DeviceBuffer): void;

  /** Inverse of `pack`; components outside any group become 0. */
  unpack(packed: DeviceBuffer, plan: DevicePlan, tokens: number, symbols: DeviceBuffer): void;

  /**
   * FP8 blocks (sinks): for every row r of f32 src [rows][length]: scale = f16(f32(max |row|) / 448),
   * codes[r][i] = E4M3(f32(x / scale)) as in `quantize`; scales u16 [rows].
   */
  encodeFp8(src: DeviceBuffer, rows: number, length: number, codes: DeviceBuffer, scales: DeviceBuffer): void;
  /** Inverse of `encodeFp8`, f32. */
  decodeFp8(codes: DeviceBuffer, scales: DeviceBuffer, rows: number, length: number, dst: DeviceBuffer): void;

  /** Further kernels of a GPU; null on the host's backends. */
  readonly gpu: GpuKernels | null;

  /** Frees everything. */
  [Symbol.dispose](): void;
}

/** Code bits of a group type. */
export const TYPE_BITS: readonly number[] = [0, 2, 4, 8];

/** Bytes that `pack` writes for a plan and a number of tokens. */
export function packedLength(groups: readonly QuantGroup[], tokens: number): number {
  let bytes = 0;
  for (const { size, type } of groups) bytes += size * Math.ceil(tokens * TYPE_BITS[type] / 8);
  return bytes;
}
