/**
 * Elements ↔ features [features][tokens], keys before RoPE. Plain binary32 arithmetic with one rounding an operation and
 * no kernels, so that every build and machine sees the same numbers.
 *
 * @module
 */
import { fromFloat32, toFloat32 } from "../../cache/elements.ts";
import { rotationTable } from "../../cache/rope.ts";
import { type Kind, KINDS, type RopeSpec } from "../../cache/types.ts";
import type { ChunkContext } from "../stage.ts";
import { stepOf } from "../quantize/trellis/step.ts";
import { dimOf, type FeatureShape, kindRange, layerFeatures } from "./shape.ts";

/**
 * Features of one layer of a chunk, [features of the layer][tokens].
 *
 * @param sources elements [layers][heads][tokens][dim] of keys and of values
 */
export function gatherLayer(
  sources: Readonly<Record<Kind, Uint8Array>>,
  shape: FeatureShape,
  positions: Int32Array,
  layer: number,
): Float32Array {
  const { layers, heads, rope } = shape;
  const tokens = positions.length;
  const out = new Float32Array(layerFeatures(shape) * tokens);
  let to = 0;
  for (const kind of KINDS) {
    const dim = dimOf(shape, kind);
    const bytes = sources[kind].length / layers;
    const x = toFloat32(sources[kind].subarray(layer * bytes, (layer + 1) * bytes), shape.dtype);
    if (kind === "key" && rope !== null) rotate(x, heads, tokens, dim, rope, positions, "undo");
    for (let head = 0; head < heads; head++) {
      for (let t = 0; t < tokens; t++) {
        const from = (head * tokens + t) * dim;
        for (let i = 0; i < dim; i++) out[to + i * tokens + t] = x[from + i];
      }
      to += dim * tokens;
    }
  }
  return out;
}

/**
 * Elements [layerEnd − layerBegin][heads][tokens][dim] of a kind from features in quarters of their steps.
 *
 * @param quarters [features][tokens]
 * @param s step 2^(−s/60) of keys and of values of each layer, [layers][2]
 */
export function scatterFeatures(
  quarters: Int16Array,
  s: Int16Array,
  shape: FeatureShape,
  { tokens, positions, layerBegin, layerEnd }: ChunkContext,
  kind: Kind,
): Uint8Array {
  const { heads, rope, dtype } = shape;
  const dim = dimOf(shape, kind);
  const blocks = (layerEnd - layerBegin) * heads;
  const x = new Float32Array(blocks * tokens * dim);
  for (let layer = layerBegin; layer < layerEnd; layer++) {
    const { begin } = kindRange(shape, layer, kind);
    const quarter = Math.fround(stepOf(s[2 * layer + (kind === "key" ? 0 : 1)]) / 4);
    for (let head = 0; head < heads; head++) {
      const from = (begin + head * dim) * tokens;
      const to = ((layer - layerBegin) * heads + head) * tokens * dim;
      for (let t = 0; t < tokens; t++) {
        for (let i = 0; i < dim; i++) x[to + t * dim + i] = quarters[from + i * tokens + t] * quarter;
      }
    }
  }
  if (kind === "key" && rope !== null) rotate(x, blocks, tokens, dim, rope, positions, "redo");
  return fromFloat32(x, dtype);
}

/** Turns pairs (i, i + rope.dim / 2) of [blocks][tokens][dim] in place. */
function rotate(
  x: Float32Array,
  blocks: number,
  tokens: number,
  dim: number,
  rope: RopeSpec,
  positions: Int32Array,
  direction: "undo" | "redo",
): void {
  const turns = rotationTable(rope, positions, direction);
  const half = rope.dim / 2;
  for (let block = 0; block < blocks; block++) {
    for (let t = 0; t < tokens; t++) {
      const at = (block * tokens + t) * dim;
      const turn = t * rope.dim;
      for (let i = 0; i < half; i++) {
        const a = x[at + i];
        const b = x[at + half + i];
        const cos = turns[turn + i];
        const sin = turns[turn + half + i];
        x[at + i] = Math.fround(a * cos) - Math.fround(b * sin);
        x[at + half + i] = Math.fround(b * cos) + Math.fround(a * sin);
      }
    }
  }
}
