/**
 * The kernels of Huffman-coded blocks (asm/huffman.ts): loading, and tensors in their memory. They are apart from the
 * codec's module, so that recipes without them do not carry them.
 *
 * @module
 */
import { decodeTable } from "../../stages/entropy/huffman.ts";
import {
  blocksOfHead,
  type CodedShape,
  type HuffmanBlocks,
  vectorsOfHead,
} from "../../stages/entropy/huffman_blocks.ts";
import { badVector, checkDots, type CodedTensor, type DotCall, partShape } from "../../stages/entropy/huffman_dots.ts";
import type { WasmBuild } from "./exports.ts";
import { instantiate, KernelModule, type ModuleExports } from "./kernel_module.ts";

/** Exports of the module. Pointers are byte addresses; see asm/huffman/. */
export interface HuffmanExports extends ModuleExports {
  decode(...args: number[]): number;
  dots(...args: number[]): number;
}

/** A damaged vector's symbols, at most 15 bits each, may read so far behind the codes. */
const SLACK = 256;

/** The module's kernels. */
export class HuffmanKernels extends KernelModule<HuffmanExports> {
  /**
   * Instantiates a build, by default the best one that this engine runs.
   *
   * @throws {KvzBackendError} when the engine cannot run it.
   */
  static async open(build: WasmBuild | "auto" = "auto"): Promise<HuffmanKernels> {
    const { build: chosen, exports } = await instantiate<HuffmanExports>(
      async () => (await import("./bytes/huffman.ts")).huffman,
      build,
      "decode Huffman codes",
    );
    return new HuffmanKernels(chosen, exports);
  }
}

/** A tensor's codes in the module's memory. */
export class WasmCodedTensor implements CodedTensor {
  readonly shape: CodedShape;
  readonly #kernels: HuffmanKernels;
  readonly #alphabets: readonly number[];
  readonly #codes: number;
  readonly #blocks: number;
  readonly #vectors: number;
  /** Decoding table of each layer. */
  readonly #tables: readonly number[];

  /** Takes blocks that `checkBlocks` has seen. */
  constructor(kernels: HuffmanKernels, blocks: HuffmanBlocks, shape: CodedShape, lengths: readonly Uint8Array[]) {
    this.shape = shape;
    this.#kernels = kernels;
    this.#alphabets = lengths.map((of) => of.length);
    const place = (bytes: Uint8Array, slack = 0) => {
      const address = kernels.alloc(bytes.length + slack);
      kernels.write(address, bytes);
      return address;
    };
    this.#codes = place(blocks.codes, SLACK);
    this.#blocks = place(blocks.table);
    this.#vectors = place(blocks.vectors);
    this.#tables = lengths.map((of) => place(new Uint8Array(decodeTable(of).buffer)));
  }

  dots(call: DotCall): Float32Array {
    const { layer, part, lanes, sets } = call;
    const { tokenBlocks, vectors, length } = checkDots(call, this.shape);
    const { heads } = this.shape;
    const products = tokenBlocks * vectors * lanes;
    const set = 4 * length * lanes;
    return this.#kernels.scoped((alloc) => {
      const [weights, out] = [alloc(call.weights.byteLength), alloc(4 * heads * products)];
      this.#kernels.write(weights, call.weights);
      for (let head = 0; head < heads; head++) {
        const bad = this.#kernels.exports.dots(
          ...this.#part(layer, head, part),
          weights + head * sets * set,
          sets === 1 ? 0 : set,
          lanes,
          out + 4 * head * products,
        );
        if (bad) throw badVector();
      }
      return this.#kernels.read(out, new Float32Array(heads * products));
    });
  }

  /**
   * Symbols of layers [layerBegin, layerEnd), [layers][heads][tokens][dim].
   *
   * @throws {KvzFormatError} A vector is damaged.
   */
  symbols(layerBegin = 0, layerEnd = this.shape.layers): Uint8Array {
    const { heads, tokens, dim, layout } = this.shape;
    const along = layout.along === "channels";
    const rows = (layerEnd - layerBegin) * heads;
    return this.#kernels.scoped((alloc) => {
      const out = alloc(rows * tokens * dim);
      for (let row = 0; row < rows; row++) {
        const layer = layerBegin + Math.floor(row / heads);
        for (let part = 0; part * layout.channels < dim; part++) {
          const to = out + row * tokens * dim + part * layout.channels;
          const strides = [layout.tokens * dim, along ? dim : 1, along ? 1 : dim];
          const bad = this.#kernels.exports.decode(...this.#part(layer, row % heads, part), to, ...strides);
          if (bad) throw badVector();
        }
      }
      return this.#kernels.bytes(out, rows * tokens * dim).slice();
    });
  }

  /** Arguments of both kernels up to the length. */
  #part(layer: number, head: number, part: number): number[] {
    const { tokenBlocks, blockStride, vectorStride, vectorBegin, vectors, length } = partShape(this.shape, part);
    const row = layer * this.shape.heads + head;
    return [
      this.#codes,
      this.#blocks + 8 * (row * blocksOfHead(this.shape) + part),
      this.#vectors + 2 * (row * vectorsOfHead(this.shape) + vectorBegin),
      this.#tables[layer],
      this.#alphabets[layer],
      tokenBlocks,
      blockStride,
      vectorStride,
      vectors,
      length,
    ];
  }

  [Symbol.dispose](): void {
    for (const address of [this.#codes, this.#blocks, this.#vectors, ...this.#tables]) this.#kernels.free(address);
  }
}
