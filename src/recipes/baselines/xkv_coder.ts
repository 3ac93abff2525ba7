/**
 * Coder of recipe xkv, after the authors' code (xKV/customized_cache/fake_layer_merge_dynamic_cache.py): the features of
 * a group of layers side by side, X [tokens][layers · heads · dim], no mean taken out; its truncated SVD; U·S and Vᵀ kept.
 * The authors keep tokens that are decoded after the prompt as they are: option window.
 *
 * Streams, binary16, group after group: TOK U·S [rank][tokens], BAS Vᵀ [rank][layers][heads][dim].
 *
 * @module
 */
import { CalibrateKernels } from "../../backend/wasm/calibrate_kernels.ts";
import { numberToF16 } from "../../cache/elements.ts";
import { KvzFormatError } from "../../errors.ts";
import { type NetFactory, openNets, productLayer } from "../../stages/transform/dense.ts";
import { lowRank } from "../../stages/transform/low_rank.ts";
import type { CoderContext, TensorBlock, TensorCoder, TensorRange, TensorShape } from "../tensor/coder.ts";
import { finiteHalves, halfBytes, halfValues, requireHalves } from "../tensor/halves.ts";
import type { XkvOptions } from "./xkv.ts";

/** Makes the coder of one kind. */
export async function open(options: XkvOptions, { shapes: [shape], backend }: CoderContext): Promise<TensorCoder> {
  return new XkvCoder(options, shape, await openNets(backend));
}

/** Layers with one basis. */
interface LayerGroup {
  readonly begin: number;
  readonly end: number;
  readonly features: number;
  readonly rank: number;
}

class XkvCoder implements TensorCoder {
  readonly #options: XkvOptions;
  readonly #shape: TensorShape;
  readonly #nets: NetFactory;
  /** Loaded at the first encoding. */
  #kernels: Promise<CalibrateKernels> | null = null;

  constructor(options: XkvOptions, shape: TensorShape, nets: NetFactory) {
    this.#options = options;
    this.#shape = shape;
    this.#nets = nets;
  }

  async encode([block]: readonly TensorBlock[]): Promise<Uint8Array[]> {
    const { heads, dim } = this.#shape;
    const { x, tokens } = block;
    const kernels = await (this.#kernels ??= CalibrateKernels.open());
    const [ofTokens, ofBasis]: [Uint16Array[], Uint16Array[]] = [[], []];
    for (const { begin, end, features, rank } of this.#groups(tokens)) {
      const rows = new Float32Array(tokens * features);
      for (let slot = 0; slot < (end - begin) * heads; slot++) {
        for (let t = 0; t < tokens; t++) {
          const from = ((begin * heads + slot) * tokens + t) * dim;
          rows.set(x.subarray(from, from + dim), t * features + slot * dim);
        }
      }
      const { left, right } = lowRank(kernels, rows, tokens, features, rank);
      const scores = Uint16Array.from(left, numberToF16);
      requireHalves(scores, block, (i) => begin * heads * tokens + i % tokens);
      ofTokens.push(scores);
      ofBasis.push(Uint16Array.from(right, numberToF16));
    }
    return [joined(ofTokens), joined(ofBasis)];
  }

  async decode([tokenStream, basisStream]: readonly Uint8Array[], range: TensorRange): Promise<Float32Array[]> {
    const { heads, dim, kind } = this.#shape;
    const { tokens, layerBegin, layerEnd } = range;
    const [wantedTokens, wantedBasis] = this.limits(tokens);
    if (tokenStream.length !== wantedTokens || basisStream.length !== wantedBasis) {
      throw new KvzFormatError(
        `Cannot decode ${kind}s: the factors have ${tokenStream.length} and ${basisStream.length} bytes, expected ` +
          `${wantedTokens} and ${wantedBasis}`,
      );
    }
    const halves = halfValues();
    const x = new Float32Array((layerEnd - layerBegin) * heads * tokens * dim);
    let [atTokens, atBasis] = [0, 0];
    for (const { begin, end, features, rank } of this.#groups(tokens)) {
      const ofTokens = tokenStream.subarray(atTokens, atTokens += 2 * rank * tokens);
      const ofBasis = basisStream.subarray(atBasis, atBasis += 2 * rank * features);
      const [from, to] = [Math.max(begin, layerBegin), Math.min(end, layerEnd)];
      if (from >= to) continue;
      const left = finiteHalves(ofTokens, `scores of ${kind}s`);
      const right = finiteHalves(ofBasis, `basis of ${kind}s`);
      const scores = new Float32Array(tokens * rank);
      for (let k = 0; k < rank; k++) {
        for (let t = 0; t < tokens; t++) scores[t * rank + k] = halves[left[k * tokens + t]];
      }
      // Only the layers that are asked for.
      const width = (to - from) * heads * dim;
      const basis = new Float32Array(rank * width);
      for (let k = 0; k < rank; k++) {
        const row = k * features + (from - begin) * heads * dim;
        for (let i = 0; i < width; i++) basis[k * width + i] = halves[right[row + i]];
      }
      const rows = await this.#multiply(scores, basis, rank, width);
      for (let slot = 0; slot < (to - from) * heads; slot++) {
        for (let t = 0; t < tokens; t++) {
          const at = t * width + slot * dim;
          x.set(rows.subarray(at, at + dim), (((from - layerBegin) * heads + slot) * tokens + t) * dim);
        }
      }
    }
    return [x];
  }

  /** Scores [tokens][rank] times a basis [rank][width]. */
  async #multiply(scores: Float32Array, basis: Float32Array, rank: number, width: number): Promise<Float32Array> {
    const net = this.#nets([productLayer(basis, rank, width)]);
    try {
      return await net.run(scores);
    } finally {
      net[Symbol.dispose]();
    }
  }

  limits(tokens: number): number[] {
    let [ofTokens, ofBasis] = [0, 0];
    for (const { features, rank } of this.#groups(tokens)) {
      ofTokens += 2 * rank * tokens;
      ofBasis += 2 * rank * features;
    }
    return [ofTokens, ofBasis];
  }

  #groups(tokens: number): LayerGroup[] {
    const { layers, heads, dim, kind } = this.#shape;
    const { group, keyShare, valueShare } = this.#options;
    const groups: LayerGroup[] = [];
    for (let begin = 0; begin < layers; begin += group) {
      const end = Math.min(begin + group, layers);
      const features = (end - begin) * heads * dim;
      const wanted = Math.max(1, Math.round((kind === "key" ? keyShare : valueShare) * features));
      groups.push({ begin, end, features, rank: Math.min(wanted, features, tokens) });
    }
    return groups;
  }
}

function joined(parts: readonly Uint16Array[]): Uint8Array {
  const out = new Uint16Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return halfBytes(out);
}
