/**
 * What calibration for recipe kvquant keeps of caches: a sample of whole tokens, and the least and greatest of every key
 * channel over all tokens.
 *
 * @module
 */
import { toFloat32 } from "../../cache/elements.ts";
import { findNonFinite } from "../../cache/finite.ts";
import { rotateRows } from "../../cache/rope.ts";
import type { Kind, ModelSpec } from "../../cache/types.ts";
import { KvzUnsupportedError } from "../../errors.ts";
import type { KindEngine } from "../kind_engine.ts";
import type { RowBlock } from "../kind_fitter.ts";
import { featuresOf } from "../statistics.ts";

/** Takes the rows of a gatherer. Holds a row of float32 for every token of the sample and kind. */
export class SampleReader {
  /** Sampled rows [features] by slot: keys before RoPE and values, in the order [layer][head][dim]. */
  readonly rows: Readonly<Record<Kind, Float32Array[]>> = { key: [], value: [] };
  /** Least and greatest of all tokens' keys, [features]. */
  readonly least: Float32Array;
  readonly greatest: Float32Array;
  readonly #model: ModelSpec;

  constructor(model: ModelSpec) {
    const { key } = featuresOf(model);
    this.#model = model;
    this.least = new Float32Array(key).fill(Infinity);
    this.greatest = new Float32Array(key).fill(-Infinity);
  }

  /** The two ends of the reader. */
  engines(): Record<Kind, KindEngine> {
    const none = () => Promise.reject(new TypeError("Cannot merge or fit a sample by its kinds"));
    const engine = (kind: Kind): KindEngine => ({
      // deno-lint-ignore require-await
      add: async (block) => this.#add(kind, block),
      merge: none,
      statistics: none,
      fit: none,
      close: () => {},
    });
    return { key: engine("key"), value: engine("value") };
  }

  #add(kind: Kind, { bytes, dtype, tokens, rotation, rotaryDim, slots, name, firstToken }: RowBlock): void {
    const { layers, kvHeads: heads, keyDim, valueDim } = this.#model;
    const dim = kind === "key" ? keyDim : valueDim;
    const wrong = findNonFinite(bytes, dtype);
    if (wrong >= 0) {
      const row = Math.floor(wrong / dim);
      const block = Math.floor(row / tokens);
      throw new KvzUnsupportedError(
        `Cannot calibrate on ${name}: ${kind} of layer ${Math.floor(block / heads)}, head ${block % heads}, token ${
          firstToken + row % tokens
        } holds NaN or infinity, expected finite numbers`,
      );
    }
    const x = toFloat32(bytes, dtype);
    if (rotation !== null) rotateRows(x, dim, rotaryDim, rotation);
    for (let t = 0; t < tokens; t++) {
      if (slots[t] >= 0) this.rows[kind][slots[t]] = new Float32Array(layers * heads * dim);
    }
    for (let block = 0, at = 0; block < layers * heads; block++) {
      for (let t = 0; t < tokens; t++, at += dim) {
        const part = x.subarray(at, at + dim);
        if (slots[t] >= 0) this.rows[kind][slots[t]].set(part, block * dim);
        if (kind === "value") continue;
        for (let i = 0, f = block * dim; i < dim; i++, f++) {
          if (part[i] < this.least[f]) this.least[f] = part[i];
          if (part[i] > this.greatest[f]) this.greatest[f] = part[i];
        }
      }
    }
  }
}
