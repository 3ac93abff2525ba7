/**
 * Kernels of Huffman-coded blocks on a GPU: products of coded vectors with weights. ReferenceCodedTensor
 * (src/stages/entropy/huffman_dots.ts) defines them.
 *
 * @module
 */
import type { DeviceBuffer } from "../backend.ts";

/** A tensor's codes on the device, little-endian, buffers padded to whole words. */
export interface DeviceCodes {
  readonly codes: DeviceBuffer;
  /** 8 bytes a block. */
  readonly blocks: DeviceBuffer;
  /** 2 bytes a vector. */
  readonly vectors: DeviceBuffer;
  /** Decoding tables, {@linkcode TABLE_STRIDE} bytes from layer to layer. */
  readonly tables: DeviceBuffer;
}

/** Bytes from the table of a layer to the next. */
export const TABLE_STRIDE = 2624;

/** Which part of a layer's blocks is multiplied. Counts in blocks or vectors. */
export interface DotShape {
  readonly layer: number;
  readonly heads: number;
  readonly tokenBlocks: number;
  /** First block and vector of the part in the layer's first head. */
  readonly block: number;
  readonly vector: number;
  /** From head to head, and from one block of tokens to the next. */
  readonly headBlocks: number;
  readonly headVectors: number;
  readonly blockStride: number;
  readonly vectorStride: number;
  /** Vectors of a block, at most 64, and symbols of a vector, at most 128. */
  readonly vectors: number;
  readonly length: number;
  readonly alphabet: number;
  readonly sets: number;
  readonly lanes: 1 | 4;
}

/** The kernel. Calls enqueue. */
export interface GpuHuffman {
  /**
   * out[head][block of tokens][vector][lane] = Σ symbol · weights[head][set][symbol][lane], f32. `status`, a word that is
   * 0, becomes 1 where a vector is damaged.
   */
  dots(codes: DeviceCodes, shape: DotShape, weights: DeviceBuffer, out: DeviceBuffer, status: DeviceBuffer): void;
}
