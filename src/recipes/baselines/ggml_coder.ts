/**
 * Coder of recipes q8_0 and q4_0. Stream BLK: ggml's blocks, [layers][heads][tokens][dim / 32], the bytes that llama.cpp
 * has in memory for each head of a token.
 *
 * @module
 */
import { KvzFormatError, KvzUnsupportedError } from "../../errors.ts";
import { joinRows } from "../../stages/tokens/join.ts";
import { BLOCK, BLOCK_BYTES, type BlockType } from "../../stages/quantize/ggml_blocks.ts";
import { type BlockKernels, openBlocks } from "../../stages/quantize/group_kernels.ts";
import type { TensorBlock, TensorCoder, TensorModule, TensorRange, TensorShape } from "../tensor/coder.ts";
import { requireHalves } from "../tensor/halves.ts";
import { layerBytes } from "../tensor/rows.ts";

/** The module of one type. */
export function ggmlModule(type: BlockType): TensorModule<object> {
  return {
    open: async (_, { shapes: [shape], backend }) => new GgmlCoder(type, shape, await openBlocks(backend)),
  };
}

class GgmlCoder implements TensorCoder {
  readonly #type: BlockType;
  readonly #shape: TensorShape;
  /** Bytes of a head of a token. */
  readonly #row: number;

  readonly #kernels: BlockKernels;

  constructor(type: BlockType, shape: TensorShape, kernels: BlockKernels) {
    this.#type = type;
    this.#kernels = kernels;
    this.#shape = shape;
    if (shape.dim % BLOCK !== 0) {
      throw new KvzUnsupportedError(
        `Cannot use recipe ${type}: a ${shape.kind} has ${shape.dim} elements a head, expected a multiple of ${BLOCK}`,
      );
    }
    this.#row = shape.dim / BLOCK * BLOCK_BYTES[type];
  }

  async encode([block]: readonly TensorBlock[]): Promise<Uint8Array[]> {
    const out = await this.#kernels.quantize(block.x, this.#type);
    const scales = Uint16Array.from({ length: block.x.length / BLOCK }, (_, i) => scaleBits(out, i, this.#type));
    requireHalves(scales, block, (i) => Math.floor(i * BLOCK / block.dim));
    return [out];
  }

  async decode([blocks]: readonly Uint8Array[], range: TensorRange): Promise<Float32Array[]> {
    const bytes = layerBytes(blocks, this.#shape.heads * range.tokens * this.#row, this.#shape, range);
    for (let i = 0; i < bytes.length / BLOCK_BYTES[this.#type]; i++) {
      if ((scaleBits(bytes, i, this.#type) & 0x7c00) === 0x7c00) {
        throw new KvzFormatError(
          `Cannot decode ${this.#shape.kind}s: the scale of a ${this.#type} block is not finite`,
        );
      }
    }
    return [await this.#kernels.dequantize(bytes, this.#type)];
  }

  limits(tokens: number): number[] {
    const { layers, heads } = this.#shape;
    return [layers * heads * tokens * this.#row];
  }

  join([before]: readonly Uint8Array[], _: number, [after]: readonly Uint8Array[]): Uint8Array[] {
    const { layers, heads } = this.#shape;
    return [joinRows(before, after, layers * heads)];
  }
}

function scaleBits(blocks: Uint8Array, i: number, type: BlockType): number {
  const at = i * BLOCK_BYTES[type];
  return blocks[at] | blocks[at + 1] << 8;
}
