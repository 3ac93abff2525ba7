/**
 * ggml's blocks on a GPU.
 *
 * @module
 */
import type { Backend } from "../../backend/backend.ts";
import { blockBytes, type GpuBlocks } from "../../backend/gpu/blocks.ts";
import { withScratch } from "../scratch.ts";
import { BLOCK, BLOCK_BYTES, type BlockType } from "./ggml_blocks.ts";
import type { BlockKernels } from "./group_kernels.ts";

/** Default of the blocks on the device at once: 64 MiB of float32, which every WebGPU device binds. */
const SLICE = (1 << 24) / BLOCK;

/** The quantizer on one device. */
export class GpuBlockKernels implements BlockKernels {
  readonly #backend: Backend;
  readonly #kernels: GpuBlocks;

  readonly #slice: number;

  /** `slice`: blocks on the device at once. */
  constructor(backend: Backend, kernels: GpuBlocks, slice: number = SLICE) {
    this.#backend = backend;
    this.#kernels = kernels;
    this.#slice = slice;
  }

  async quantize(values: Float32Array, type: BlockType): Promise<Uint8Array> {
    const bytes = new Uint8Array(values.length / BLOCK * BLOCK_BYTES[type]);
    await this.#eachSlice(values, bytes, type, async (floats, coded, blocks) => {
      await withScratch(this.#backend, async (scratch) => {
        const from = scratch.upload(floats);
        const to = scratch.alloc(blockBytes(blocks, type));
        this.#kernels.quantize(from, blocks, type, to);
        const words = await this.#backend.read(to, 0, blockBytes(blocks, type));
        coded.set(words.subarray(0, coded.length));
      });
    });
    return bytes;
  }

  async dequantize(bytes: Uint8Array, type: BlockType): Promise<Float32Array> {
    const values = new Float32Array(bytes.length / BLOCK_BYTES[type] * BLOCK);
    await this.#eachSlice(values, bytes, type, async (floats, coded, blocks) => {
      await withScratch(this.#backend, async (scratch) => {
        const words = new Uint8Array(blockBytes(blocks, type));
        words.set(coded);
        const from = scratch.upload(words);
        const to = scratch.alloc(floats.byteLength);
        this.#kernels.dequantize(from, blocks, type, to);
        floats.set(new Float32Array((await this.#backend.read(to, 0, floats.byteLength)).buffer));
      });
    });
    return values;
  }

  /** Some blocks at a time. */
  async #eachSlice(
    values: Float32Array,
    bytes: Uint8Array,
    type: BlockType,
    body: (values: Float32Array, bytes: Uint8Array, blocks: number) => Promise<void>,
  ): Promise<void> {
    const size = BLOCK_BYTES[type];
    const blocks = values.length / BLOCK;
    for (let b = 0; b < blocks; b += this.#slice) {
      const end = Math.min(blocks, b + this.#slice);
      await body(values.subarray(b * BLOCK, end * BLOCK), bytes.subarray(b * size, end * size), end - b);
    }
  }
}
