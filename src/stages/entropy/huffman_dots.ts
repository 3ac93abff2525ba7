/**
 * Products of vectors of coded symbols with weights, straight from the coded blocks: no symbol is written anywhere. What
 * KVComp calls fused decompression and matrix–vector multiplication.
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import { decodeTable } from "./huffman.ts";
import { type BlockPlace, blockPlaces, type CodedShape, decodeVector, type HuffmanBlocks } from "./huffman_blocks.ts";

/** Weights for one part (number of a channel block) of all heads of a layer. */
export interface DotCall {
  readonly layer: number;
  readonly part: number;
  /** [heads][sets][symbols of a vector][lanes] */
  readonly weights: Float32Array;
  /** 1: the same weights for all blocks of tokens of a head; else one set a block. */
  readonly sets: number;
  /** Products of each vector: 1 or 4, decoded once. */
  readonly lanes: 1 | 4;
}

/** Coded symbols of a tensor where products are computed. */
export interface CodedTensor extends Disposable {
  readonly shape: CodedShape;
  /**
   * Σ symbol · weight of every vector, [heads][blocks of tokens][vectors of a block][lanes], summed in float32 or finer.
   *
   * @throws {KvzFormatError} A vector's symbols do not use up its bits.
   */
  dots(call: DotCall): Float32Array | Promise<Float32Array>;
}

/** Makes one of blocks that `checkBlocks` has seen and the code lengths of each layer. */
export type OpenTensor = (blocks: HuffmanBlocks, shape: CodedShape, lengths: readonly Uint8Array[]) => CodedTensor;

/** Sizes of one part. */
export interface PartShape {
  /** Blocks of tokens. */
  readonly tokenBlocks: number;
  /** Blocks from one block of tokens to the next, and vectors. */
  readonly blockStride: number;
  readonly vectorStride: number;
  /** First vector of the part in a block of tokens. */
  readonly vectorBegin: number;
  /** Vectors of a block, and symbols of a vector. */
  readonly vectors: number;
  readonly length: number;
}

/** Sizes of a part of a tensor; the same for all layers and heads. */
export function partShape({ tokens, dim, layout }: CodedShape, part: number): PartShape {
  const parts = Math.ceil(dim / layout.channels);
  const channels = Math.min(layout.channels, dim - part * layout.channels);
  const along = layout.along === "channels";
  return {
    tokenBlocks: tokens / layout.tokens,
    blockStride: parts,
    vectorStride: along ? parts * layout.tokens : dim,
    vectorBegin: part * (along ? layout.tokens : layout.channels),
    vectors: along ? layout.tokens : channels,
    length: along ? channels : layout.tokens,
  };
}

/** @throws {RangeError} when a call does not fit the tensor */
export function checkDots({ layer, part, weights, sets, lanes }: DotCall, shape: CodedShape): PartShape {
  const parts = Math.ceil(shape.dim / shape.layout.channels);
  if (!(Number.isInteger(layer) && layer >= 0 && layer < shape.layers)) {
    throw new RangeError(`Cannot multiply: layer ${layer} is outside ${shape.layers} layers`);
  }
  if (!(Number.isInteger(part) && part >= 0 && part < parts)) {
    throw new RangeError(`Cannot multiply: part ${part} is outside ${parts} parts`);
  }
  const sizes = partShape(shape, part);
  if (sets !== 1 && sets !== sizes.tokenBlocks) {
    throw new RangeError(`Cannot multiply: there are ${sets} sets of weights, expected 1 or ${sizes.tokenBlocks}`);
  }
  const wanted = shape.heads * sets * sizes.length * lanes;
  if (weights.length !== wanted) {
    throw new RangeError(`Cannot multiply: there are ${weights.length} weights, expected ${wanted}`);
  }
  return sizes;
}

/** Refuses a damaged vector as decoding does. */
export function badVector(): KvzFormatError {
  return new KvzFormatError("Cannot multiply: a coded vector is damaged, its symbols do not use up its bits");
}

/** The definition, in plain TypeScript; sums in float64. */
export class ReferenceCodedTensor implements CodedTensor {
  readonly shape: CodedShape;
  readonly #blocks: HuffmanBlocks;
  readonly #tables: readonly Uint16Array[];
  readonly #alphabets: readonly number[];
  readonly #symbols = new Uint8Array(128);

  constructor(blocks: HuffmanBlocks, shape: CodedShape, lengths: readonly Uint8Array[]) {
    this.shape = shape;
    this.#blocks = blocks;
    this.#tables = lengths.map(decodeTable);
    this.#alphabets = lengths.map((of) => of.length);
  }

  dots(call: DotCall): Float32Array {
    const { layer, part, lanes, sets } = call;
    const { tokenBlocks, vectors, length } = checkDots(call, this.shape);
    const out = new Float32Array(this.shape.heads * tokenBlocks * vectors * lanes);
    for (const place of blockPlaces(this.shape, layer, layer + 1)) {
      if (place.part !== part) continue;
      const set = place.head * sets + (sets === 1 ? 0 : place.tokenBlock);
      const weights = call.weights.subarray(set * length * lanes, (set + 1) * length * lanes);
      const row = (place.head * tokenBlocks + place.tokenBlock) * vectors;
      for (let v = 0; v < vectors; v++) this.#dot(place, v, weights, lanes, out, (row + v) * lanes);
    }
    return out;
  }

  #dot(place: BlockPlace, v: number, weights: Float32Array, lanes: number, out: Float32Array, at: number): void {
    const { layer, length } = place;
    decodeVector(this.#blocks, place, v, this.#tables[layer], this.#alphabets[layer], this.#symbols);
    for (let lane = 0; lane < lanes; lane++) {
      let sum = 0;
      for (let n = 0; n < length; n++) sum += this.#symbols[n] * weights[n * lanes + lane];
      out[at + lane] = sum;
    }
  }

  [Symbol.dispose](): void {}
}
