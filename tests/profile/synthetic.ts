/** Small synthetic caches with structure across layers, for calibration tests. */
import { rotationTable } from "../../src/cache/rope.ts";
import { rotateKeys } from "../../src/cache/rope.ts";
import { fromFloat32 } from "../../src/cache/elements.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import type { DType, Kind, ModelSpec } from "../../src/cache/types.ts";
import { fillGaussian, uniformGenerator } from "../../src/profile/random.ts";

export const MODEL: ModelSpec = {
  architecture: "llama",
  id: "synthetic",
  layers: 3,
  kvHeads: 2,
  keyDim: 8,
  valueDim: 4,
  rope: { theta: 10000, dim: 8, pairing: "half-split" },
};

/** Features of the synthetic model. */
export const FEATURES: Record<Kind, number> = { key: 48, value: 24 };

/** Latent factors of both kinds. */
const FACTORS = 10;

/** A matrix that is the same for all caches: how factors show in features, falling in strength. */
function loadings(kind: Kind): Float64Array {
  const p = FEATURES[kind];
  const matrix = new Float64Array(FACTORS * p);
  fillGaussian(matrix, kind === "key" ? 1 : 2);
  return matrix.map((x, at) => x * 3 * 0.7 ** Math.floor(at / p));
}

/** Feature rows [tokens][features] of one kind before RoPE: mean + factors + noise. */
export function rowsOf(kind: Kind, tokens: number, seed: number): Float64Array {
  const p = FEATURES[kind];
  const matrix = loadings(kind);
  const factors = new Float64Array(tokens * FACTORS);
  fillGaussian(factors, seed);
  const rows = new Float64Array(tokens * p);
  fillGaussian(rows, seed + 1000 + p);
  for (let t = 0; t < tokens; t++) {
    for (let f = 0; f < p; f++) {
      let sum = 5 * Math.sin(f) + 0.05 * rows[t * p + f];
      for (let k = 0; k < FACTORS; k++) sum += factors[t * FACTORS + k] * matrix[k * p + f];
      rows[t * p + f] = sum;
    }
  }
  return rows;
}

export interface SyntheticOptions {
  readonly dtype?: DType;
  readonly model?: ModelSpec;
  readonly ids?: boolean;
  readonly firstPosition?: number;
}

/** A cache of `tokens` tokens. */
export function syntheticCache(tokens: number, seed: number, options: SyntheticOptions = {}): KvCache {
  const { dtype = "f32", model = MODEL, ids = true, firstPosition = 0 } = options;
  const positions = Int32Array.from({ length: tokens }, (_, t) => firstPosition + t);
  const uniform = uniformGenerator(seed);
  const inputIds = Int32Array.from({ length: tokens }, () => Math.floor(uniform() * 50000));
  const blocks = (kind: Kind, layer: number): Uint8Array => {
    const dim = kind === "key" ? MODEL.keyDim : MODEL.valueDim;
    const rows = rowsOf(kind, tokens, seed);
    const p = FEATURES[kind];
    const out = new Float64Array(MODEL.kvHeads * tokens * dim);
    for (let head = 0; head < MODEL.kvHeads; head++) {
      for (let t = 0; t < tokens; t++) {
        const from = t * p + (layer * MODEL.kvHeads + head) * dim;
        out.set(rows.subarray(from, from + dim), (head * tokens + t) * dim);
      }
    }
    const raw = fromFloat32(Float32Array.from(out), "f32");
    if (kind === "value") return fromFloat32(Float32Array.from(out), dtype);
    const table = rotationTable(MODEL.rope!, positions, "redo");
    const turned = rotateKeys(raw, { dtype: "f32", tokens, dim, rotaryDim: dim }, table);
    return fromFloat32(new Float32Array(turned.buffer, turned.byteOffset, turned.length / 4), dtype);
  };
  const layers = Array.from({ length: MODEL.layers }, (_, layer) => ({
    key: blocks("key", layer),
    value: blocks("value", layer),
  }));
  return new KvCache({ model, dtype, positions, layers, ...(ids ? { inputIds } : {}) });
}
