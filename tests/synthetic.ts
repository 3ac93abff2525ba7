/**
 * Small synthetic caches and profiles for tests: a model of any geometry, caches of low rank plus noise, and a profile
 * made without calibration (random orthonormal basis, error table by brute force with the reference quantizer).
 *
 * @module
 */
import { dequantizeCode, quantizeGroup } from "../src/backend/reference/quantizer.ts";
import { f16ToNumber, fromFloat32, numberToF16 } from "../src/cache/elements.ts";
import { KvCache } from "../src/cache/kv_cache.ts";
import { rotateKeys, rotationTable } from "../src/cache/rope.ts";
import type { DType, Kind, ModelSpec } from "../src/cache/types.ts";
import { GROUP_SIZES, GROUP_TYPES, type KindProfile, type KvtcProfile } from "../src/profile/types.ts";

/** A small model whose feature counts are no multiples of 8. */
export const SMALL_MODEL: ModelSpec = {
  architecture: "llama",
  id: "small-test-model",
  layers: 3,
  kvHeads: 2,
  keyDim: 10,
  valueDim: 6,
  rope: { theta: 10000, dim: 8, pairing: "half-split" },
};

/** Deterministic numbers in [0, 1) (mulberry32). */
export function random(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = state + 0x6d2b79f5 | 0;
    let t = Math.imul(state ^ state >>> 15, 1 | state);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 4294967296;
  };
}

function gaussian(next: () => number): number {
  return Math.sqrt(-2 * Math.log(next() + 1e-12)) * Math.cos(2 * Math.PI * next());
}

/** Features of one kind. */
export function featuresOf(model: ModelSpec, kind: Kind): number {
  return model.layers * model.kvHeads * (kind === "key" ? model.keyDim : model.valueDim);
}

/** Options of {@linkcode syntheticCache}. */
export interface SyntheticOptions {
  readonly model?: ModelSpec;
  readonly dtype?: DType;
  readonly seed?: number;
  readonly firstPosition?: number;
  readonly positions?: Int32Array;
  readonly inputIds?: boolean;
}

/** A cache of `tokens` tokens: per token a few random factors times fixed directions, plus a mean; keys rotated. */
export function syntheticCache(tokens: number, options: SyntheticOptions = {}): KvCache {
  const { model = SMALL_MODEL, dtype = "f16", seed = 1, firstPosition = 0, inputIds = true } = options;
  const positions = options.positions ?? Int32Array.from({ length: tokens }, (_, i) => firstPosition + i);
  const values: Record<Kind, Float32Array> = {
    key: rows(model, "key", tokens, seed),
    value: rows(model, "value", tokens, seed),
  };
  const rope = model.rope;
  const blocks = (kind: Kind, layer: number): Uint8Array => {
    const dim = kind === "key" ? model.keyDim : model.valueDim;
    const features = featuresOf(model, kind);
    const out = new Float32Array(model.kvHeads * tokens * dim);
    for (let h = 0; h < model.kvHeads; h++) {
      for (let t = 0; t < tokens; t++) {
        const from = t * features + (layer * model.kvHeads + h) * dim;
        out.set(values[kind].subarray(from, from + dim), (h * tokens + t) * dim);
      }
    }
    const bytes = fromFloat32(out, dtype);
    if (kind === "value" || rope === null || tokens === 0) return bytes;
    const shape = { blocks: model.kvHeads, tokens, dim, dtype, rotaryDim: rope.dim };
    return rotateKeys(bytes, shape, rotationTable(rope, positions, "redo"));
  };
  const layers = Array.from({ length: model.layers }, (_, l) => ({ key: blocks("key", l), value: blocks("value", l) }));
  const ids = Int32Array.from({ length: tokens }, (_, i) => (i * 7919 + seed) % 1000);
  return new KvCache({ model, dtype, positions, layers, ...(inputIds ? { inputIds: ids } : {}) });
}

function rows(model: ModelSpec, kind: Kind, tokens: number, seed: number): Float32Array {
  const features = featuresOf(model, kind);
  const directions = random(kind === "key" ? 11 : 22);
  const rank = 6;
  const basis = Array.from({ length: rank }, () => Float64Array.from({ length: features }, () => gaussian(directions)));
  const mean = Float64Array.from({ length: features }, () => gaussian(directions));
  const next = random(seed * 1000 + (kind === "key" ? 1 : 2));
  const out = new Float32Array(tokens * features);
  for (let t = 0; t < tokens; t++) {
    const factors = basis.map((_, i) => gaussian(next) * 2 ** -i);
    for (let f = 0; f < features; f++) {
      let x = mean[f] + 0.02 * gaussian(next);
      for (let i = 0; i < rank; i++) x += factors[i] * basis[i][f];
      out[t * features + f] = x;
    }
  }
  return out;
}

/** A profile for caches of {@linkcode syntheticCache}: Gram–Schmidt of sample rows, then of random ones. */
export function syntheticProfile(model: ModelSpec = SMALL_MODEL, seed = 99): KvtcProfile {
  const kinds = { key: kindProfile(model, "key", seed), value: kindProfile(model, "value", seed) };
  return {
    method: "kvtc",
    model,
    fingerprint: seed.toString(16).padStart(2, "0").repeat(32).slice(0, 64),
    calibration: { tokens: SAMPLE, sinks: 0, sequences: 1, svd: "exact", seed, ratios: [] },
    shingles: new BigUint64Array(0),
    kinds,
  };
}

const SAMPLE = 40;

function kindProfile(model: ModelSpec, kind: Kind, seed: number): KindProfile {
  const features = featuresOf(model, kind);
  const sample = rows(model, kind, SAMPLE, seed);
  const mean = new Float32Array(features);
  for (let t = 0; t < SAMPLE; t++) for (let f = 0; f < features; f++) mean[f] += sample[t * features + f] / SAMPLE;
  const centred = Array.from(
    { length: SAMPLE },
    (_, t) => Float64Array.from({ length: features }, (_, f) => sample[t * features + f] - mean[f]),
  );
  const vectors = orthonormal(centred, features, seed);
  const basis = new Uint16Array(features * features);
  vectors.forEach((vector, c) => vector.forEach((x, f) => basis[c * features + f] = numberToF16(x)));
  const coefficients = centred.map((row) =>
    Float32Array.from(
      { length: features },
      (_, c) => row.reduce((sum, x, f) => sum + x * f16ToNumber(basis[c * features + f]), 0),
    )
  );
  const energy = Float64Array.from({ length: features }, (_, c) => coefficients.reduce((s, row) => s + row[c] ** 2, 0));
  return {
    features,
    components: features,
    mean,
    basis,
    variance: Float32Array.from(energy, (e) => e / SAMPLE),
    totalVariance: energy.reduce((a, b) => a + b, 0) / SAMPLE,
    table: { rank: features, rows: SAMPLE, energy, errors: errorTable(coefficients, features) },
  };
}

function errorTable(coefficients: readonly Float32Array[], rank: number): Float32Array {
  const errors = new Float32Array(rank * GROUP_SIZES.length * GROUP_TYPES.length).fill(Infinity);
  for (let last = 0; last < rank; last++) {
    GROUP_SIZES.forEach((size, s) => {
      if (size > last + 1) return;
      GROUP_TYPES.forEach((type, k) => {
        let error = 0;
        for (const row of coefficients) {
          const values = row.subarray(last + 1 - size, last + 1);
          const { codes, shift, scale } = quantizeGroup(values, type);
          values.forEach((x, i) => error += (x - dequantizeCode(codes[i], type, shift, scale)) ** 2);
        }
        errors[(last * GROUP_SIZES.length + s) * GROUP_TYPES.length + k] = error;
      });
    });
  }
  return errors;
}

/** Orthonormal vectors spanning the rows first, the rest of the space after, by falling energy (power iterations). */
function orthonormal(sample: readonly Float64Array[], features: number, seed: number): Float64Array[] {
  const next = random(seed + 5);
  const vectors: Float64Array[] = [];
  const deflate = (x: Float64Array) => {
    for (let pass = 0; pass < 2; pass++) {
      for (const v of vectors) {
        const dot = v.reduce((sum, a, i) => sum + a * x[i], 0);
        v.forEach((a, i) => x[i] -= dot * a);
      }
    }
  };
  while (vectors.length < features) {
    let x: Float64Array = Float64Array.from({ length: features }, () => gaussian(next));
    for (let i = 0; i < 20; i++) {
      deflate(x);
      const y = new Float64Array(features);
      for (const row of sample) {
        const dot = row.reduce((sum, a, f) => sum + a * x[f], 0);
        row.forEach((a, f) => y[f] += dot * a);
      }
      deflate(y);
      if (Math.hypot(...y) < 1e-9) break;
      x = y.map((a) => a / Math.hypot(...y));
    }
    deflate(x);
    const norm = Math.hypot(...x);
    vectors.push(x.map((a) => a / norm));
  }
  return vectors;
}
