/**
 * Which layers may share keys and values: the search of KVSharer (arXiv 2410.18517, Algorithm 1; test_internlm.ipynb,
 * cells 9 to 20) on a model and some sentences.
 *
 * @module
 */
import { toFloat32 } from "../cache/elements.ts";
import { type Kind, KINDS } from "../cache/types.ts";
import { KvzUnsupportedError } from "../errors.ts";
import { uniformGenerator } from "../profile/random.ts";
import { ownLayers, resolveChains } from "../stages/sharing/layer_map.ts";
import type { CurveText } from "./kl_curve.ts";
import type { LanguageModel } from "./language_model.ts";

/** Which pairs of layers are tried first: the most dissimilar (the paper), the most similar, or any. */
export type SharingOrder = "dissimilar" | "similar" | "random";

/** Two layers and how far their keys and values are apart. */
export interface LayerPair {
  /** The layer that would share. */
  readonly layer: number;
  /** The earlier layer that it would take keys and values from. */
  readonly source: number;
  /** Mean of the Euclidean distances of their mean keys and of their mean values. */
  readonly distance: number;
}

/** A pair that was tried. */
export interface TriedPair extends LayerPair {
  /** Mean cosine of the final hidden states without and with sharing; null where it was given up as too low. */
  readonly similarity: number | null;
  /** Whether the layer shares now. */
  readonly accepted: boolean;
}

/** What was measured on the sentences. */
export interface LayerDistances {
  /** All pairs, the most dissimilar first. */
  readonly pairs: readonly LayerPair[];
  /** Final hidden states of each sentence without sharing, [tokens][hidden]. */
  readonly hidden: readonly Float32Array[];
}

/** Options of {@linkcode searchSharing}. */
export interface SharingSearchOptions {
  /** Layers that shall share, default 4. */
  readonly shared?: number;
  /** Mean cosine that has to be exceeded, default 0.5. */
  readonly threshold?: number;
  /** Default "dissimilar". */
  readonly order?: SharingOrder;
  /** Seed of order "random", default 0. */
  readonly seed?: number;
  /** Called after each pair that was tried. */
  readonly onTried?: (pair: TriedPair, shared: number) => void;
  /** Ends the work between sentences. */
  readonly signal?: AbortSignal;
}

/** What the search found. */
export interface SharingSearch {
  /** The source of each layer; chains are resolved. */
  readonly map: readonly number[];
  /** Pairs in the order in which they were tried. */
  readonly tried: readonly TriedPair[];
}

/**
 * How far the layers' keys (after RoPE, as they are cached) and values are apart: each is averaged over the sentences,
 * position by position, then the distances of heads are averaged over positions and heads. A position counts the sentences
 * that reach it; the authors' code leaves out sentences that are not as long as the first, and divides by all.
 *
 * @throws {RangeError} there are no sentences
 * @throws {KvzUnsupportedError} the model gives no hidden states, or has layers of other kinds
 */
export async function measureLayers(
  model: LanguageModel,
  sentences: readonly CurveText[],
  { onSentence, signal }: { readonly onSentence?: () => void; readonly signal?: AbortSignal } = {},
): Promise<LayerDistances> {
  if (sentences.length === 0) throw new RangeError("Cannot search layers to share: there are no sentences");
  const { layers, kvHeads, keyDim, valueDim } = model.spec;
  const length = Math.max(...sentences.map(({ ids }) => ids.length));
  const dims = { key: keyDim, value: valueDim };
  const sums = (kind: Kind) => ownLayers(layers).map(() => new Float64Array(kvHeads * length * dims[kind]));
  const means = { key: sums("key"), value: sums("value") };
  const reached = new Int32Array(length);
  const hidden: Float32Array[] = [];
  for (const { ids } of sentences) {
    signal?.throwIfAborted();
    const result = await model.forward(ids, { hidden: true });
    hidden.push(requireHidden(result.hidden));
    const cache = await model.unload(result.present, ids);
    for (let t = 0; t < ids.length; t++) reached[t]++;
    for (const kind of KINDS) {
      const dim = dims[kind];
      for (let layer = 0; layer < layers; layer++) {
        for (let head = 0; head < kvHeads; head++) {
          const to = means[kind][layer].subarray(head * length * dim);
          toFloat32(cache[kind](layer, head), cache.dtype).forEach((x, i) => to[i] += x);
        }
      }
    }
    onSentence?.();
  }
  for (const kind of KINDS) {
    for (const mean of means[kind]) {
      for (let i = 0; i < mean.length; i++) mean[i] /= reached[Math.floor(i / dims[kind]) % length];
    }
  }
  const pairs = ownLayers(layers).flatMap((layer) =>
    ownLayers(layer).map((source): LayerPair => {
      const of = (kind: Kind) => rowDistance(means[kind][layer], means[kind][source], dims[kind]);
      return { layer, source, distance: (of("key") + of("value")) / 2 };
    })
  );
  return { pairs: pairs.sort((a, b) => b.distance - a.distance), hidden };
}

/**
 * Goes through the pairs in order and lets a layer share where the final hidden states stay near enough to those without
 * any sharing, until enough layers share or no pair is left. A layer that shares is not tried again; one that others take
 * from may still be, and then they take from where it does.
 *
 * @throws as {@linkcode measureLayers}
 */
export async function searchSharing(
  model: LanguageModel,
  sentences: readonly CurveText[],
  measured: LayerDistances,
  options: SharingSearchOptions = {},
): Promise<SharingSearch> {
  const { shared: wanted = 4, threshold = 0.5, order = "dissimilar", seed = 0, onTried, signal } = options;
  let map = ownLayers(model.spec.layers);
  const tried: TriedPair[] = [];
  let shared = 0;
  for (const pair of ordered(measured.pairs, order, seed)) {
    if (shared >= wanted) break;
    if (map[pair.layer] !== pair.layer) continue;
    const next = resolveChains(map.map((source, layer) => layer === pair.layer ? pair.source : source));
    const similarity = await meanCosine(model, sentences, measured.hidden, next, threshold, signal);
    const accepted = similarity !== null && similarity > threshold;
    if (accepted) {
      map = next;
      shared++;
    }
    const one = { ...pair, similarity, accepted };
    tried.push(one);
    onTried?.(one, shared);
  }
  return { map, tried };
}

function ordered(pairs: readonly LayerPair[], order: SharingOrder, seed: number): LayerPair[] {
  if (order === "dissimilar") return [...pairs];
  if (order === "similar") return [...pairs].reverse();
  // Fisher and Yates.
  const out = [...pairs];
  const uniform = uniformGenerator(seed);
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(uniform() * (i + 1));
    [out[i], out[j]] = [out[j], out[i]];
  }
  return out;
}

/** The mean over the sentences; null as soon as it cannot exceed the threshold any more. */
async function meanCosine(
  model: LanguageModel,
  sentences: readonly CurveText[],
  wanted: readonly Float32Array[],
  layerSource: readonly number[],
  threshold: number,
  signal: AbortSignal | undefined,
): Promise<number | null> {
  let sum = 0;
  for (const [i, { ids }] of sentences.entries()) {
    signal?.throwIfAborted();
    const { hidden } = await model.forward(ids, { hidden: true, layerSource });
    sum += cosine(wanted[i], requireHidden(hidden));
    const most = (sum + sentences.length - i - 1) / sentences.length;
    if (i + 1 < sentences.length && most <= threshold) return null;
  }
  return sum / sentences.length;
}

function cosine(a: Float32Array, b: Float32Array): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return aa === 0 || bb === 0 ? 0 : ab / Math.sqrt(aa * bb);
}

/** Mean over rows of `dim` elements of the Euclidean distance. */
function rowDistance(a: Float64Array, b: Float64Array, dim: number): number {
  let sum = 0;
  for (let row = 0; row < a.length; row += dim) {
    let square = 0;
    for (let i = row; i < row + dim; i++) square += (a[i] - b[i]) * (a[i] - b[i]);
    sum += Math.sqrt(square);
  }
  return sum / (a.length / dim);
}

function requireHidden(hidden: Float32Array | undefined): Float32Array {
  if (hidden !== undefined) return hidden;
  throw new KvzUnsupportedError("Cannot search layers to share: the model gives no final hidden states");
}
