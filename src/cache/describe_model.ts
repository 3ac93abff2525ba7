/**
 * Models in words, for messages and tables.
 *
 * @module
 */
import type { ModelSpec } from "./types.ts";

/** A model in a few words. */
export function describeModel(model: ModelSpec): string {
  const { id, architecture, layers, kvHeads, keyDim, valueDim, rope } = model;
  const dims = keyDim === valueDim ? `${keyDim}` : `${keyDim}/${valueDim}`;
  const name = id ?? architecture ?? "an unnamed model";
  return `${name} (${layers} layers × ${kvHeads} KV heads × ${dims}, ${rope ? `RoPE θ ${rope.theta}` : "no RoPE"})`;
}
