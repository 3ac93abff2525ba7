/**
 * Profiles and caches of models that are not at hand, for whole calls of recipes kvtc and kvz: cosines as a basis, which are
 * orthonormal, SmolLM2's stretched spectrum, and caches of Gaussian coefficients that have it, made on the device.
 *
 * @module
 */
import { type Backend, paddedLength } from "../../src/backend/backend.ts";
import { numberToF16 } from "../../src/cache/elements.ts";
import { rotationTable } from "../../src/cache/rope.ts";
import { type Kind, KINDS, type ModelSpec } from "../../src/cache/types.ts";
import { allocDeviceCache, type DeviceCache, memoryOf } from "../../src/codec/device_cache.ts";
import { KEEP_SHARE } from "../../src/profile/kvz/limits.ts";
import type { KvzProfile } from "../../src/profile/kvz/types.ts";
import type { KvtcProfile, Profile } from "../../src/profile/types.ts";
import { Scratch } from "../../src/stages/scratch.ts";
import { initialTables } from "../../src/stages/quantize/trellis/initial_tables.ts";
import { MODES, type StepSet } from "../../src/stages/quantize/trellis/model.ts";
import type { BenchModel } from "./models.ts";
import { gaussianTable, scaledVariance } from "./spectrum.ts";

/** Largest entry of an integer basis. */
const INT7 = 63;
/** Tokens that differ; longer caches repeat them. */
const DRAWN = 1024;
/** Every feature's mean. */
const MEAN = 0.01;

/** A profile, and what caches of its model are made of. */
export interface SyntheticModel {
  readonly profile: Profile;
  /** Binary16 [components][features]: of keys and of values, or one of both together. */
  readonly bases: readonly Uint16Array<ArrayBuffer>[];
  readonly variances: readonly Float64Array[];
}

/** The model as the library names it. */
export function modelSpec({ name, layers, heads, dim, theta }: BenchModel): ModelSpec {
  const rope = { theta, dim, pairing: "half-split" } as const;
  return { architecture: "llama", id: name, layers, kvHeads: heads, keyDim: dim, valueDim: dim, rope };
}

/** Rows of a cosine transform with random signs of the features, each entry through `entry`. */
function cosines<T extends Uint16Array | Int8Array>(to: T, features: number, entry: (x: number) => number): T {
  const period = 4 * features;
  const waves = [1, -1].map((sign) =>
    Int32Array.from({ length: period }, (_, i) => entry(sign * Math.cos(2 * Math.PI * i / period)))
  );
  const signed = Array.from({ length: features }, () => waves[Math.random() < 0.5 ? 0 : 1]);
  for (let c = 0, at = 0; at < to.length; c++) {
    // Row 0 of the transform has another norm.
    for (let f = 0; f < features; f++) to[at++] = signed[f][(2 * f + 1) * (c + 1) % period];
  }
  return to;
}

const FACTS = { tokens: 0, sinks: 0, sequences: 0, seed: 0, svd: "randomized" } as const;

/** For recipe kvtc: a basis each for keys and values, and the error table of their spectrum. */
export async function syntheticKvtc(model: BenchModel, components: number): Promise<SyntheticModel> {
  const features = model.layers * model.heads * model.dim;
  const norm = Math.sqrt(2 / features);
  const variances = KINDS.map((kind) => scaledVariance(kind, features, components));
  const bases = KINDS.map(() =>
    cosines(new Uint16Array(components * features), features, (x) => numberToF16(norm * x))
  );
  const kind = async (i: number) => ({
    features,
    components,
    mean: new Float32Array(features).fill(MEAN),
    basis: bases[i],
    variance: Float32Array.from(variances[i]),
    totalVariance: variances[i].reduce((sum, x) => sum + x, 0),
    table: await gaussianTable(variances[i]),
  });
  const profile: KvtcProfile = {
    method: "kvtc",
    model: modelSpec(model),
    fingerprint: "0".repeat(64),
    calibration: { ...FACTS, ratios: [] },
    shingles: new BigUint64Array(0),
    kinds: { key: await kind(0), value: await kind(1) },
  };
  return { profile, bases, variances };
}

/** For recipe kvz: one basis of both kinds, all features as sensitive, and a step that keeps every component. */
export function syntheticKvz(model: BenchModel, components: number): SyntheticModel {
  const { layers, heads, dim } = model;
  const features = 2 * layers * heads * dim;
  const basis = cosines(new Int8Array(components * features), features, (x) => Math.round(INT7 * x));
  const unit = Math.sqrt(2 / features) / INT7;
  const halves = Uint16Array.from({ length: 256 }, (_, i) => numberToF16(((i + 128 & 255) - 128) * unit));
  const variance = scaledVariance("value", features, components);
  const s = Math.floor(-60 * Math.log2(Math.sqrt(variance[components - 1]) / KEEP_SHARE));
  const block = new Uint16Array(dim * dim);
  for (let i = 0; i < dim; i++) block[i * dim + i] = numberToF16(1);
  const sensitivityBlocks = new Uint16Array(2 * layers * heads * block.length);
  for (let at = 0; at < sensitivityBlocks.length; at += block.length) sensitivityBlocks.set(block, at);
  const profile: KvzProfile = {
    method: "kvz",
    model: modelSpec(model),
    fingerprint: "1".repeat(64),
    calibration: FACTS,
    shingles: new BigUint64Array(0),
    sensitivity: "none",
    ...{ features, components, finestS: s, basis, sensitivityBlocks },
    variance: Float32Array.from(variance),
    mean: new Float32Array(features).fill(MEAN),
    scales: new Float32Array(features).fill(unit),
    stepSets: [stepSet(variance, s)],
    stepBits: [3 * components],
    tables: initialTables(),
    curve: [],
  };
  return { profile, bases: [Uint16Array.from(basis, (x) => halves[x & 255])], variances: [variance] };
}

/** Tokens are drawn by themselves; a token predicted from another all the same leaves less, the more it takes of it. */
function stepSet(variance: Float64Array, s: number): StepSet {
  const rho = (mode: number) => 6 * mode;
  const rows = Array.from({ length: MODES }, (_, mode) => mode);
  return {
    s,
    rho32: Int8Array.from(rows.flatMap((mode) => new Array<number>(variance.length).fill(rho(mode)))),
    logSigma: Int16Array.from(
      rows.flatMap((mode) => Array.from(variance, (x) => Math.round(30 * Math.log2(x * (1 - (rho(mode) / 32) ** 2))))),
    ),
  };
}

/** A cache of so many tokens in memory of the backend. */
export function syntheticDeviceCache(
  backend: Backend,
  { profile: { model }, bases, variances }: SyntheticModel,
  tokens: number,
): { cache: DeviceCache; free: () => void } {
  const positions = Int32Array.from({ length: tokens }, (_, t) => t);
  const { cache, free } = allocDeviceCache(backend, { model, dtype: "f16", positions });
  const { layers, kvHeads, keyDim: dim } = model;
  const features = layers * kvHeads * dim;
  const scratch = new Scratch(backend);
  const drawn = variances.map((variance) => scratch.upload(drawCoefficients(variance, Math.min(DRAWN, tokens))));
  const device = bases.map((bits, i) =>
    backend.uploadBasis(bits, variances[i].length, bits.length / variances[i].length)
  );
  const mean = scratch.upload(new Float32Array(features).fill(MEAN));
  for (const [i, kind] of KINDS.entries()) {
    const which = bases.length === 1 ? 0 : i;
    const stride = paddedLength(variances[which].length);
    const coefficients = scratch.alloc(tokens * stride * 4);
    for (let at = 0; at < coefficients.byteLength; at += drawn[which].byteLength) {
      backend.copy(drawn[which], 0, coefficients, at, Math.min(drawn[which].byteLength, coefficients.byteLength - at));
    }
    const turns = kind === "key" ? scratch.upload(rotationTable(model.rope!, positions, "redo")) : null;
    const begin = bases.length === 1 ? i * features : 0;
    // A layer at a time: each has memory of its own.
    const perLayer = kvHeads * dim;
    for (let layer = 0; layer < layers; layer++) {
      const to = memoryOf(backend).wrap(cache.layers[layer][kind as Kind].memory, 0, perLayer * tokens * 2);
      const shape = { dtype: "f16", blocks: kvHeads, tokens, dim, rotaryDim: turns === null ? 0 : dim } as const;
      const part = backend.view(mean, 0, perLayer * 4);
      backend.reconstructScatter(coefficients, device[which], begin + layer * perLayer, shape, turns, part, to);
    }
  }
  for (const basis of device) basis.free();
  scratch.free();
  return { cache, free };
}

function drawCoefficients(variance: Float64Array, tokens: number): Float32Array {
  const stride = paddedLength(variance.length);
  const out = new Float32Array(tokens * stride);
  for (let t = 0; t < tokens; t++) {
    for (let c = 0; c < variance.length; c++) {
      const radius = Math.sqrt(-2 * Math.log(1 - Math.random()) * variance[c]);
      out[t * stride + c] = radius * Math.cos(2 * Math.PI * Math.random());
    }
  }
  return out;
}
