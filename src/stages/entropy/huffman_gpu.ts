/**
 * Huffman-coded tensors in a GPU's memory.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../../backend/backend.ts";
import { type DeviceCodes, type GpuHuffman, TABLE_STRIDE } from "../../backend/gpu/huffman.ts";
import { withScratch } from "../scratch.ts";
import { decodeTable } from "./huffman.ts";
import { blocksOfHead, type CodedShape, type HuffmanBlocks, vectorsOfHead } from "./huffman_blocks.ts";
import { badVector, checkDots, type CodedTensor, type DotCall } from "./huffman_dots.ts";

/** A tensor's codes on the device; what comes and goes is weights and products. */
export class GpuCodedTensor implements CodedTensor {
  readonly shape: CodedShape;
  readonly #backend: Backend;
  readonly #kernels: GpuHuffman;
  readonly #codes: DeviceCodes;
  readonly #alphabet: number;

  /** Takes blocks that `checkBlocks` has seen. */
  constructor(
    backend: Backend,
    kernels: GpuHuffman,
    blocks: HuffmanBlocks,
    shape: CodedShape,
    lengths: readonly Uint8Array[],
  ) {
    this.shape = shape;
    this.#backend = backend;
    this.#kernels = kernels;
    this.#alphabet = lengths[0]?.length ?? 0;
    const place = (bytes: Uint8Array): DeviceBuffer => {
      const buffer = backend.alloc(Math.max(16, Math.ceil(bytes.length / 4) * 4));
      backend.write(buffer, bytes);
      return buffer;
    };
    const tables = new Uint8Array(lengths.length * TABLE_STRIDE);
    lengths.forEach((of, layer) => tables.set(new Uint8Array(decodeTable(of).buffer), layer * TABLE_STRIDE));
    this.#codes = {
      codes: place(blocks.codes),
      blocks: place(blocks.table),
      vectors: place(blocks.vectors),
      tables: place(tables),
    };
  }

  async dots(call: DotCall): Promise<Float32Array> {
    const { layer, part, lanes, sets, weights } = call;
    const { tokenBlocks, blockStride, vectorStride, vectorBegin, vectors, length } = checkDots(call, this.shape);
    const { heads } = this.shape;
    const products = heads * tokenBlocks * vectors * lanes;
    if (products === 0) return new Float32Array(0);
    const [headBlocks, headVectors] = [blocksOfHead(this.shape), vectorsOfHead(this.shape)];
    return await withScratch(this.#backend, async (scratch) => {
      const [out, status] = [scratch.alloc(4 * products), scratch.upload(new Uint32Array(4))];
      this.#kernels.dots(
        this.#codes,
        {
          layer,
          heads,
          tokenBlocks,
          block: layer * heads * headBlocks + part,
          vector: layer * heads * headVectors + vectorBegin,
          headBlocks,
          headVectors,
          blockStride,
          vectorStride,
          vectors,
          length,
          alphabet: this.#alphabet,
          sets,
          lanes,
        },
        scratch.upload(weights),
        out,
        status,
      );
      const [found, bad] = await Promise.all([
        this.#backend.read(out, 0, 4 * products),
        this.#backend.read(status, 0, 4),
      ]);
      if (bad[0] !== 0) throw badVector();
      return new Float32Array(found.buffer);
    });
  }

  [Symbol.dispose](): void {
    for (const buffer of Object.values(this.#codes)) buffer.free();
  }
}
