/**
 * Features of a cache for recipe kvz-free: layer by layer, the keys of all heads, then their values.
 *
 * @module
 */
import type { DType, Kind, RopeSpec } from "../../cache/types.ts";

/** Geometry of a cache. */
export interface FeatureShape {
  readonly layers: number;
  readonly heads: number;
  readonly keyDim: number;
  readonly valueDim: number;
  /** RoPE of the keys; null where they are not rotated or nothing is known of it. */
  readonly rope: RopeSpec | null;
  /** Element type of the source. */
  readonly dtype: DType;
}

/** Most features that are coded together. */
const GROUP_FEATURES = 512;

/** Features [begin, end). */
export interface FeatureRange {
  readonly begin: number;
  readonly end: number;
}

/** Elements of a head of a kind. */
export function dimOf({ keyDim, valueDim }: FeatureShape, kind: Kind): number {
  return kind === "key" ? keyDim : valueDim;
}

/** Features of a layer, keys and values. */
export function layerFeatures({ heads, keyDim, valueDim }: FeatureShape): number {
  return heads * (keyDim + valueDim);
}

/** Features of the cache. */
export function featureCount(shape: FeatureShape): number {
  return shape.layers * layerFeatures(shape);
}

/** Features of one kind of one layer. */
export function kindRange(shape: FeatureShape, layer: number, kind: Kind): FeatureRange {
  const { heads, keyDim } = shape;
  const begin = layer * layerFeatures(shape) + (kind === "key" ? 0 : heads * keyDim);
  return { begin, end: begin + heads * dimOf(shape, kind) };
}

/** A layer's features in groups of equal size (the last may be smaller), each coded by itself. */
export function layerGroups(shape: FeatureShape, layer: number): readonly FeatureRange[] {
  const features = layerFeatures(shape);
  const parts = Math.ceil(features / GROUP_FEATURES);
  const size = Math.ceil(features / parts);
  const first = layer * features;
  return Array.from({ length: parts }, (_, i) => ({
    begin: first + Math.min(features, i * size),
    end: first + Math.min(features, (i + 1) * size),
  })).filter(({ begin, end }) => begin < end);
}
