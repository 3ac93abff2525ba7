/**
 * Coder of recipe kivi, after the authors' code (quant/new_pack.py, models/llama_kivi.py): scale = range ÷ (2^bits − 1)
 * and zero = minimum in binary16. They compute codes in binary16, this in float32 through the same scale and zero: codes
 * that lie next to a rounding border may differ.
 *
 * Streams, every layer with as many bytes as the others:
 *     COD  codes [heads][coded tokens][dim], packed
 *     PAR  scale, zero (binary16): keys [heads][groups of tokens][dim], values [heads][coded tokens][groups of channels]
 *     RES  raw elements [heads][tokens − coded tokens][dim], in region "window"
 *
 * @module
 */
import { fromFloat32, toFloat32 } from "../../cache/elements.ts";
import { BYTES_PER_ELEMENT, type DType } from "../../cache/types.ts";
import { packBits, packedBytes, unpackBits } from "../../stages/quantize/bit_packing.ts";
import { type GroupKernels, openGroups } from "../../stages/quantize/group_kernels.ts";
import type { GroupShape } from "../../stages/quantize/uniform.ts";
import type { CoderContext, TensorBlock, TensorCoder, TensorRange, TensorShape } from "../tensor/coder.ts";
import { finiteHalves, halfBytes, requireHalves } from "../tensor/halves.ts";
import { layerBytes } from "../tensor/rows.ts";
import type { KiviOptions } from "./kivi.ts";

/** Makes the coder of one kind and region. */
export async function open(options: KiviOptions, context: CoderContext): Promise<TensorCoder> {
  const { shapes: [shape], region, storedDType, backend } = context;
  return new KiviCoder(options, shape, region === "window", storedDType, await openGroups(backend));
}

class KiviCoder implements TensorCoder {
  readonly #options: KiviOptions;
  readonly #shape: TensorShape;
  readonly #window: boolean;
  readonly #storedDType: DType;
  readonly #kernels: GroupKernels;

  constructor(
    options: KiviOptions,
    shape: TensorShape,
    window: boolean,
    storedDType: DType,
    kernels: GroupKernels,
  ) {
    this.#options = options;
    this.#shape = shape;
    this.#window = window;
    this.#storedDType = storedDType;
    this.#kernels = kernels;
  }

  async encode([block]: readonly TensorBlock[]): Promise<Uint8Array[]> {
    const { layers, heads, dim } = this.#shape;
    const { tokens } = block;
    const coded = this.#coded(tokens);
    const [x, raw] = cut(block.x, layers * heads, tokens, coded, dim);
    const { bits } = this.#options;
    const { codes, params } = await this.#kernels.quantize(x, this.#groupShape(layers * heads, coded));
    requireHalves(params, block, (p) => this.#rowOfGroup(p >> 1, coded, tokens));
    const perLayer = codes.length / layers;
    const packed = new Uint8Array(layers * packedBytes(perLayer, bits));
    for (let layer = 0; layer < layers; layer++) {
      const to = packed.subarray(layer * packedBytes(perLayer, bits));
      packBits(codes.subarray(layer * perLayer, (layer + 1) * perLayer), bits, to);
    }
    return [packed, halfBytes(params), fromFloat32(raw, this.#storedDType)];
  }

  async decode(
    [packed, paramBytes, rawBytes]: readonly Uint8Array[],
    range: TensorRange,
  ): Promise<Float32Array[]> {
    const { heads, dim, kind } = this.#shape;
    const { tokens, layerBegin, layerEnd } = range;
    const coded = this.#coded(tokens);
    const [ofCodes, ofParams, ofRaw] = this.#layerBytes(tokens);
    const layers = layerEnd - layerBegin;
    const bytes = layerBytes(packed, ofCodes, this.#shape, range);
    const params = finiteHalves(layerBytes(paramBytes, ofParams, this.#shape, range), `scales of ${kind}s`);
    const raw = toFloat32(layerBytes(rawBytes, ofRaw, this.#shape, range), this.#storedDType);
    const perLayer = heads * coded * dim;
    const codes = new Uint8Array(layers * perLayer);
    for (let l = 0; l < layers; l++) {
      codes.set(unpackBits(bytes.subarray(l * ofCodes, (l + 1) * ofCodes), perLayer, this.#options.bits), l * perLayer);
    }
    const x = await this.#kernels.dequantize({ codes, params }, this.#groupShape(layers * heads, coded));
    return [raw.length === 0 ? x : paste(x, raw, layers * heads, coded, tokens, dim)];
  }

  limits(tokens: number): number[] {
    return this.#layerBytes(tokens).map((bytes) => bytes * this.#shape.layers);
  }

  /** Tokens that are quantized: the others are the newest. */
  #coded(tokens: number): number {
    const { residual } = this.#options;
    if (!this.#window || residual === 0) return tokens;
    return this.#shape.kind === "key" ? tokens - tokens % residual : Math.max(0, tokens - residual);
  }

  /** Groups of a head. */
  #groups(coded: number): number {
    const { kind, dim } = this.#shape;
    const { group } = this.#options;
    return kind === "key" ? Math.ceil(coded / group) * dim : coded * Math.ceil(dim / group);
  }

  /** Bytes of a layer in each stream. */
  #layerBytes(tokens: number): [codes: number, params: number, raw: number] {
    const { heads, dim } = this.#shape;
    const coded = this.#coded(tokens);
    return [
      packedBytes(heads * coded * dim, this.#options.bits),
      4 * heads * this.#groups(coded),
      heads * (tokens - coded) * dim * BYTES_PER_ELEMENT[this.#storedDType],
    ];
  }

  /** Groups of [blocks][coded][dim]: of keys along tokens, of values along channels. */
  #groupShape(blocks: number, coded: number): GroupShape {
    const { kind, dim } = this.#shape;
    const { group, bits } = this.#options;
    const quantizer = { group, bits, leastRange: 0, rotated: false };
    return kind === "key"
      ? { outer: blocks, length: coded, inner: dim, ...quantizer }
      : { outer: blocks * coded, length: dim, inner: 1, ...quantizer };
  }

  /** Row [layers][heads][tokens] that a group begins in, for messages. */
  #rowOfGroup(group: number, coded: number, tokens: number): number {
    const { kind, dim } = this.#shape;
    const { group: size } = this.#options;
    const perHead = this.#groups(coded);
    const rest = group % perHead;
    const token = kind === "key" ? Math.floor(rest / dim) * size : Math.floor(rest / Math.ceil(dim / size));
    return Math.floor(group / perHead) * tokens + token;
  }
}

/** [blocks][tokens][dim] → the first `coded` tokens and the others of each block. */
function cut(
  x: Float32Array,
  blocks: number,
  tokens: number,
  coded: number,
  dim: number,
): [Float32Array, Float32Array] {
  if (coded === tokens) return [x, new Float32Array(0)];
  const [first, rest] = [new Float32Array(blocks * coded * dim), new Float32Array(blocks * (tokens - coded) * dim)];
  for (let block = 0; block < blocks; block++) {
    const rows = x.subarray(block * tokens * dim, (block + 1) * tokens * dim);
    first.set(rows.subarray(0, coded * dim), block * coded * dim);
    rest.set(rows.subarray(coded * dim), block * (tokens - coded) * dim);
  }
  return [first, rest];
}

/** Inverse of {@linkcode cut}. */
function paste(
  first: Float32Array,
  rest: Float32Array,
  blocks: number,
  coded: number,
  tokens: number,
  dim: number,
): Float32Array {
  const x = new Float32Array(blocks * tokens * dim);
  for (let block = 0; block < blocks; block++) {
    const left = (tokens - coded) * dim;
    x.set(first.subarray(block * coded * dim, (block + 1) * coded * dim), block * tokens * dim);
    x.set(rest.subarray(block * left, (block + 1) * left), (block * tokens + coded) * dim);
  }
  return x;
}
