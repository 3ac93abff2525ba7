/**
 * A language model whose sensitivity is known: token j of a continuation is predicted from cached token j behind the
 * sinks alone, by logits that are linear in its keys and values. Its cache is seeded noise, whatever the ids are.
 */
import { KvCache } from "../../src/cache/kv_cache.ts";
import { toFloat32 } from "../../src/cache/elements.ts";
import { type Kind, KINDS, type ModelSpec } from "../../src/cache/types.ts";
import type { LanguageModel, LoadedCache } from "../../src/eval/language_model.ts";
import { fillGaussian } from "../../src/profile/random.ts";

export const LINEAR_SPEC: ModelSpec = {
  architecture: "llama",
  layers: 2,
  kvHeads: 2,
  keyDim: 4,
  valueDim: 3,
  rope: { theta: 10000, dim: 4, pairing: "half-split" },
};
const VOCABULARY = 30;
const SINKS = 4;

/** How much the logits move with an element. */
export function slope(layer: number, kind: Kind, head: number, i: number): number {
  // Bands of two frequencies: i and i + 2 turn together.
  const band = kind === "key" ? 1 + 3 * (i % 2) : 1;
  return (kind === "key" ? 0.02 : 0.3) * band * (1 + layer) * (1 + head / 2);
}

class Past implements LoadedCache {
  constructor(readonly cache: KvCache, readonly read: number) {}
  get tokens(): number {
    return this.cache.tokens + this.read;
  }
  get nextPosition(): number {
    return this.tokens;
  }
}

/** Columns of the logits' Jacobian in the order of layers, kinds, heads and elements; each a row of VOCABULARY. */
const DIRECTIONS = new Float64Array(LINEAR_SPEC.layers * LINEAR_SPEC.kvHeads * 7 * VOCABULARY);
fillGaussian(DIRECTIONS, 5);

/** Every element with its place: layer, kind, head, element, and its column. */
function eachElement(visit: (layer: number, kind: Kind, head: number, i: number, column: Float64Array) => void): void {
  let at = 0;
  for (let layer = 0; layer < LINEAR_SPEC.layers; layer++) {
    for (const kind of KINDS) {
      for (let head = 0; head < LINEAR_SPEC.kvHeads; head++) {
        for (let i = 0; i < (kind === "key" ? 4 : 3); i++) {
          visit(layer, kind, head, i, DIRECTIONS.subarray(at, at += VOCABULARY));
        }
      }
    }
  }
}

function logitsOf(cache: KvCache, token: number): Float64Array {
  const out = new Float64Array(VOCABULARY);
  eachElement((layer, kind, head, i, column) => {
    const dim = kind === "key" ? 4 : 3;
    const value = toFloat32(cache[kind](layer, head).slice(4 * token * dim, 4 * (token + 1) * dim), "f32")[i];
    for (let v = 0; v < VOCABULARY; v++) out[v] += slope(layer, kind, head, i) * value * column[v];
  });
  return out;
}

function makeCache(tokens: number): KvCache {
  let seed = 1;
  const noise = (length: number) => {
    const out = new Float64Array(length);
    fillGaussian(out, seed++);
    return new Uint8Array(Float32Array.from(out, (x) => 2 * x).buffer);
  };
  return new KvCache({
    model: LINEAR_SPEC,
    dtype: "f32",
    positions: Int32Array.from({ length: tokens }, (_, t) => t),
    layers: Array.from({ length: LINEAR_SPEC.layers }, () => ({
      key: noise(LINEAR_SPEC.kvHeads * tokens * 4),
      value: noise(LINEAR_SPEC.kvHeads * tokens * 3),
    })),
  });
}

export function linearModel(): LanguageModel {
  return {
    spec: LINEAR_SPEC,
    vocabulary: VOCABULARY,
    maxPositions: 2000,
    tokenize: (text) => new Int32Array(text.length),
    detokenize: (ids) => "a".repeat(ids.length),
    forward(ids, { past } = {}) {
      if (past === undefined) {
        return Promise.resolve({ logits: new Float32Array(VOCABULARY), present: new Past(makeCache(ids.length), 0) });
      }
      const { cache, read } = past as Past;
      const logits = new Float32Array(ids.length * VOCABULARY);
      for (let j = 0; j < ids.length; j++) logits.set(logitsOf(cache, SINKS + read + j), j * VOCABULARY);
      return Promise.resolve({ logits, present: new Past(cache, read + ids.length) });
    },
    load: (cache) => Promise.resolve(new Past(cache, 0)),
    unload: (loaded) => Promise.resolve((loaded as Past).cache),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/**
 * Diagonal of the Fisher matrix Jᵀ (diag(p) − p pᵀ) J of a cached token, mean over tokens [SINKS, SINKS + count): for
 * each element, by layer, kind and head.
 */
export function linearFisher(
  tokens: number,
  count: number,
): { layer: number; kind: Kind; head: number; i: number; f: number }[] {
  const cache = makeCache(tokens);
  const ps = Array.from({ length: count }, (_, j) => {
    const e = logitsOf(cache, SINKS + j).map(Math.exp);
    const sum = e.reduce((a, b) => a + b);
    return e.map((x) => x / sum);
  });
  const out: { layer: number; kind: Kind; head: number; i: number; f: number }[] = [];
  eachElement((layer, kind, head, i, column) => {
    let f = 0;
    for (const p of ps) {
      let mean = 0;
      let square = 0;
      for (let v = 0; v < VOCABULARY; v++) {
        mean += p[v] * column[v];
        square += p[v] * column[v] ** 2;
      }
      f += (square - mean ** 2) / count;
    }
    out.push({ layer, kind, head, i, f: f * slope(layer, kind, head, i) ** 2 });
  });
  return out;
}
