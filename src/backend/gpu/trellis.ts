/**
 * Kernels of prediction and trellis-coded quantization on a GPU, many chunks of one geometry a call.
 * decodeTrellisReference, encodeTrellisReference, escapeLevels and toSubsteps define every integer.
 *
 * Inside, matrices are token-major: [chunks][tokens][stride], stride a multiple of 16, what lies beyond the components zero.
 *
 * @module
 */
import type { TrellisModel } from "../../stages/quantize/trellis/model.ts";
import type { DeviceBuffer } from "../backend.ts";

/** Chunks that are coded side by side. */
export interface TrellisBatch {
  readonly chunks: number;
  /** 1 to 4096. */
  readonly components: number;
  /** Tokens of each, 1 to 4096. */
  readonly tokens: number;
}

/** Models on the device: one a step, all with the same tables. */
export interface DeviceModels {
  readonly count: number;
  readonly components: number;
  free(): void;
}

/** Side information of a batch on the device (side.ts). */
export interface SideBuffers {
  /** Model of each chunk, u32 [chunks]. */
  readonly models: DeviceBuffer;
  /** u32 [chunks][tokens], see {@linkcode sideWord}. */
  readonly words: DeviceBuffer;
  /** i8 [chunks][components], and up to the next multiple of 4 bytes. */
  readonly offsets: DeviceBuffer;
}

/** Values of the escapes of a batch (escape_values.ts). */
export interface EscapeBuffers {
  /** u32, chunk after chunk. */
  readonly values: DeviceBuffer;
  /** Where each chunk's begin, and the end of the last: u32 [chunks + 1]. */
  readonly begins: DeviceBuffer;
}

/** What an encoder works on. `levels` holds 2 · level + quantizer of every coefficient. */
export interface CodedBuffers {
  /** i16 [chunks][tokens][stride]. */
  readonly levels: DeviceBuffer;
  /** Quarters of the step, i16 [chunks][tokens][stride]. */
  readonly reconstruction: DeviceBuffer;
}

/** First of a chunk's two status words after decoding: where it failed. */
export const TRELLIS_STATUS = {
  /** Nothing is wrong. */
  ok: 0xffffffff,
  /** A reconstruction leaves 16 bits. */
  tooLarge: 0xf0000001,
  /** Escapes after the last symbol. */
  surplus: 0xf0000000,
  /** Below `surplus` 4 · place + one of these. */
  badEscape: 0,
  aboveLimit: 1,
} as const;

/** Reference (−1: none), mode and energy of a token in a word. */
export function sideWord(ref: number, mode: number, energy: number): number {
  return (ref & 0xffff) | mode << 16 | energy << 24;
}

/** Row length of token-major matrices of 16-bit integers: what GpuInteger.multiply takes. */
export function levelStride(components: number): number {
  return (components + 15) & ~15;
}

/** The kernels. Calls enqueue. */
export interface GpuTrellis {
  /**
   * Models for the calls below.
   *
   * @throws {RangeError} when there are none, or their components or tables differ.
   */
  uploadModels(models: readonly TrellisModel[]): DeviceModels;

  /**
   * Symbols u8 [chunks][components][tokens] → quarters of the step, i16 [chunks][tokens][stride]. `status` is u32
   * [chunks][2]: {@linkcode TRELLIS_STATUS}, and the largest magnitude of a quarter. Nothing outside the buffers is touched,
   * whatever they hold.
   */
  decode(
    models: DeviceModels,
    batch: TrellisBatch,
    side: SideBuffers,
    symbols: DeviceBuffer,
    escapes: EscapeBuffers,
    quarters: DeviceBuffer,
    status: DeviceBuffer,
  ): void;

  /**
   * The contexts of the entropy coder: classes u8 [chunks][components][16] and kinds u8 [chunks][tokens], as
   * trellisContexts makes them.
   */
  contexts(
    models: DeviceModels,
    batch: TrellisBatch,
    side: SideBuffers,
    classes: DeviceBuffer,
    kinds: DeviceBuffer,
  ): void;

  /** The way there. */
  readonly encoder: GpuTrellisEncoder;
}

/** λ on the device, with what predictions are going to cost. */
export interface DeviceWeight {
  /** λ in 1/256. */
  readonly weight: number;
  free(): void;
}

/** Coefficients on the device as gain · (first + second), f32 [chunks][tokens][stride]. */
export interface CoefficientBuffers {
  readonly first: DeviceBuffer;
  readonly second: DeviceBuffer;
  readonly stride: number;
  /** A power of two. */
  readonly gain: number;
}

/** The kernels of the encoder. Calls enqueue. */
export interface GpuTrellisEncoder {
  /** Most bytes that rows or coefficients of a batch may have. */
  readonly mostBytes: number;

  /** @param weight λ in 1/256 */
  uploadWeight(model: TrellisModel, weight: number): DeviceWeight;

  /**
   * largest f64 [chunks][2]: the largest magnitude of a chunk's coefficients (not finite where one is not), and the largest
   * sum of a token's magnitudes, added in the order of its components.
   */
  magnitudes(coefficients: CoefficientBuffers, batch: TrellisBatch, largest: DeviceBuffer): void;

  /**
   * rows i32 [chunks][first + tokens][stride] = coefficient · factor, rounded to nearest even, from token `first` of each
   * chunk on; factors f64 [chunks].
   */
  substeps(
    coefficients: CoefficientBuffers,
    batch: TrellisBatch,
    first: number,
    factors: DeviceBuffer,
    rows: DeviceBuffer,
  ): void;

  /**
   * Codes rows i32 [chunks][tokens][stride], of which |row| ≤ 100,000. The `first` tokens of each chunk are coded already:
   * their levels, reconstruction and words are read, with the offsets, and stay as they are; their rows are not read.
   * Otherwise words and offsets are written.
   */
  encode(
    models: DeviceModels,
    weight: DeviceWeight,
    batch: TrellisBatch,
    first: number,
    rows: DeviceBuffer,
    coded: CodedBuffers,
    side: SideBuffers,
  ): void;

  /**
   * Levels → symbols u8 [chunks][components][tokens], with the bytes of escapes that each row's 32 tokens take before it,
   * u32 [chunks][components][⌈tokens / 32⌉], and that each chunk takes, u32 [chunks].
   */
  symbols(
    models: DeviceModels,
    batch: TrellisBatch,
    side: SideBuffers,
    levels: DeviceBuffer,
    symbols: DeviceBuffer,
    places: DeviceBuffer,
    lengths: DeviceBuffer,
  ): void;

  /** Writes the escapes of every chunk from begins[chunk] on, u32 [chunks]; `places` and `lengths` are those of `symbols`. */
  escapes(
    models: DeviceModels,
    batch: TrellisBatch,
    side: SideBuffers,
    levels: DeviceBuffer,
    places: DeviceBuffer,
    lengths: DeviceBuffer,
    begins: DeviceBuffer,
    bytes: DeviceBuffer,
  ): void;
}
