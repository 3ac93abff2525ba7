/**
 * A language model for tests that looks up what it says: its tokens are characters, its cache holds them as values, and
 * it continues as the longest stretch of its past that ends like the text so far. It finds a fact exactly when the
 * restored values still say it.
 */
import { fromFloat32, toFloat32 } from "../../src/cache/elements.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import type { ModelSpec } from "../../src/cache/types.ts";
import type { LanguageModel, LoadedCache } from "../../src/eval/language_model.ts";

const VOCABULARY = 128;
const SPEC: ModelSpec = { architecture: "llama", layers: 1, kvHeads: 1, keyDim: 2, valueDim: 2, rope: null };

class Past implements LoadedCache {
  constructor(readonly ids: Int32Array) {}
  get tokens(): number {
    return this.ids.length;
  }
  get nextPosition(): number {
    return this.ids.length;
  }
}

/** Options of {@linkcode lookupModel}. */
export interface LookupOptions {
  /** Replaces the tokenizer of one character a token. */
  readonly tokenize?: (text: string) => Int32Array;
  /** Told the number of tokens of every forward pass. */
  readonly onForward?: (tokens: number) => void;
}

export function lookupModel(options: LookupOptions = {}): LanguageModel {
  const idsOf = (past: LoadedCache | undefined) => past === undefined ? new Int32Array(0) : (past as Past).ids;
  return {
    spec: SPEC,
    vocabulary: VOCABULARY,
    maxPositions: 4096,
    tokenize: options.tokenize ?? characters,
    detokenize: (ids) => String.fromCharCode(...Array.from(ids)),
    forward(ids, { past, logits: wanted = "all" } = {}) {
      options.onForward?.(ids.length);
      const before = idsOf(past);
      const all = new Int32Array(before.length + ids.length);
      all.set(before);
      all.set(ids, before.length);
      const from = wanted === "last" ? ids.length - 1 : 0;
      const logits = new Float32Array((ids.length - from) * VOCABULARY);
      for (let i = from; i < ids.length; i++) {
        logits[(i - from) * VOCABULARY + continuation(all.subarray(0, before.length + i + 1))] = 10;
      }
      return Promise.resolve({ logits, present: new Past(all) });
    },
    load(cache) {
      const values = toFloat32(cache.value(0, 0), cache.dtype);
      return Promise.resolve(new Past(Int32Array.from({ length: cache.tokens }, (_, t) => values[2 * t])));
    },
    unload(loaded) {
      const ids = idsOf(loaded);
      const values = Float32Array.from({ length: 2 * ids.length }, (_, i) => i % 2 === 0 ? ids[i / 2] : 1);
      const layer = { key: fromFloat32(new Float32Array(2 * ids.length), "f32"), value: fromFloat32(values, "f32") };
      const positions = Int32Array.from(ids, (_, i) => i);
      return Promise.resolve(new KvCache({ model: SPEC, dtype: "f32", positions, layers: [layer] }));
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** Token ids of ASCII text. */
export function characters(text: string): Int32Array {
  return Int32Array.from(text, (c) => c.charCodeAt(0));
}

/** The token after the longest earlier stretch that equals the end of `ids`; of equal ones the latest. */
function continuation(ids: Int32Array): number {
  let best = 0;
  let next = 0;
  for (let end = ids.length - 1; end > 0; end--) {
    let length = 0;
    while (length < end && ids[end - 1 - length] === ids[ids.length - 1 - length]) length++;
    if (length > best) [best, next] = [length, ids[end]];
  }
  return next;
}
