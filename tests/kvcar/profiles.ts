/**
 * Small kvcar profiles: autoencoders that are linear maps (LeakyReLU(x) − LeakyReLU(−x) = (1 + slope) · x), and random ones.
 *
 * @module
 */
import { type Kind, KINDS, type ModelSpec } from "../../src/cache/types.ts";
import { kvcarFingerprint } from "../../src/profile/kvcar/fingerprint.ts";
import { type Autoencoder, type KvcarProfile, parameterCount, storedHeads } from "../../src/profile/kvcar/types.ts";
import { random, SMALL_MODEL } from "../synthetic.ts";

/** What a profile is made of. */
export interface ProfileParts {
  readonly model?: ModelSpec;
  /** Layers with autoencoders. */
  readonly layers?: readonly number[];
  /** Latent's share of the row. */
  readonly share?: number;
  readonly preRope?: boolean;
  readonly slope?: number;
  /** Reused slots by kind: slot → stored slot. */
  readonly reuse?: Partial<Record<Kind, Readonly<Record<number, number>>>>;
  /** Makes the parameters. Default: {@linkcode linear}. */
  readonly make?: (inputs: number, latent: number, slope: number, seed: number) => Autoencoder["parameters"];
  /** Width of the hidden layers, for `make`. Default: twice the inputs. */
  readonly hidden?: (inputs: number) => number;
}

/** A profile, with its fingerprint. */
export async function makeProfile(parts: ProfileParts = {}): Promise<KvcarProfile> {
  const { model = SMALL_MODEL, layers = [0, 2], share = 1, preRope = false, slope = 0.01, make = linear } = parts;
  const kind = (name: Kind) => {
    const sources = Int32Array.from({ length: model.layers * model.kvHeads }, (_, i) => parts.reuse?.[name]?.[i] ?? i);
    const dim = name === "key" ? model.keyDim : model.valueDim;
    const autoencoders = layers.map((layer): Autoencoder => {
      const inputs = storedHeads(sources, layer, model.kvHeads).length * dim;
      const [latent, hidden] = [inputs * share, parts.hidden?.(inputs) ?? 2 * inputs];
      return { layer, inputs, hidden, latent, parameters: make(inputs, latent, slope, 10 * layer + name.length) };
    });
    return { sources, autoencoders };
  };
  const profile = {
    method: "kvcar" as const,
    model,
    calibration: { tokens: 4096, sinks: 0, sequences: 16, seed: 1 },
    shingles: BigUint64Array.of(3n, 5n),
    preRope,
    slope,
    kinds: { key: kind("key"), value: kind("value") },
  };
  return { ...profile, fingerprint: await kvcarFingerprint(profile) };
}

/** Orthonormal rows [rows][n]. */
export function orthonormalRows(rows: number, n: number, seed: number): Float64Array[] {
  const next = random(seed);
  const out: Float64Array[] = [];
  while (out.length < rows) {
    const row = Float64Array.from({ length: n }, () => next() - 0.5);
    for (const other of out) {
      const dot = other.reduce((sum, x, i) => sum + x * row[i], 0);
      other.forEach((x, i) => row[i] -= dot * x);
    }
    const norm = Math.hypot(...row);
    out.push(row.map((x) => x / norm));
  }
  return out;
}

/** z = P x and x̂ = Pᵀ z with P of orthonormal rows, as a network without biases, twice as wide as its input. */
export function linear(inputs: number, latent: number, slope: number, seed: number): Float32Array {
  const p = orthonormalRows(latent, inputs, seed);
  const hidden = 2 * inputs;
  const out = new Float32Array(parameterCount({ inputs, hidden, latent }));
  let at = 0;
  const put = (rows: number, columns: number, value: (r: number, c: number) => number) => {
    for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) out[at++] = value(r, c);
    at += rows;
  };
  put(hidden, inputs, (r, c) => r % inputs === c ? r < inputs ? 1 : -1 : 0);
  put(latent, hidden, (r, c) => p[r][c % inputs] * (c < inputs ? 1 : -1) / (1 + slope));
  put(hidden, latent, (r, c) => p[c][r % inputs] * (r < inputs ? 1 : -1));
  put(inputs, hidden, (r, c) => c % inputs === r ? (c < inputs ? 1 : -1) / (1 + slope) : 0);
  return out;
}

/** Random weights and biases; the hidden layers are three wide more than the input. */
export const RANDOM = {
  hidden: (inputs: number) => inputs + 3,
  make(inputs: number, latent: number, _: number, seed: number): Float32Array {
    const next = random(seed);
    const length = parameterCount({ inputs, hidden: inputs + 3, latent });
    return Float32Array.from({ length }, () => (next() - 0.5) * 0.7);
  },
};

/** One direction in float64: [inputs] → [outputs]. */
function half(parameters: Float32Array, [n, h, m]: readonly number[], slope: number, x: readonly number[]): number[] {
  const second = parameters.subarray(h * (n + 1));
  const hidden = Array.from({ length: h }, (_, r) => {
    const sum = x.reduce((sum, v, c) => sum + v * parameters[r * n + c], parameters[h * n + r]);
    return sum < 0 ? slope * sum : sum;
  });
  return Array.from(
    { length: m },
    (_, r) => hidden.reduce((sum, v, c) => sum + v * second[r * h + c], second[m * h + r]),
  );
}

/** The network by its definition: the latent and what it restores, in float64. */
export function network({ inputs, hidden, latent, parameters }: Autoencoder, slope: number, x: readonly number[]) {
  const z = half(parameters, [inputs, hidden, latent], slope, x);
  return { z, decode: (z: readonly number[]) => half(decoderOf(parameters), [latent, hidden, inputs], slope, z) };

  function decoderOf(all: Float32Array): Float32Array {
    return all.subarray(hidden * (inputs + 1) + latent * (hidden + 1));
  }
}

/** Elements of a kind by token: [tokens][features of a layer]. */
export function rowsOf(x: Float32Array, model: ModelSpec, kind: Kind, layer: number, tokens: number): number[][] {
  const dim = kind === "key" ? model.keyDim : model.valueDim;
  return Array.from({ length: tokens }, (_, t) =>
    Array.from({ length: model.kvHeads * dim }, (_, f) => {
      const head = Math.floor(f / dim);
      return x[((layer * model.kvHeads + head) * tokens + t) * dim + f % dim];
    }));
}

/** Bytes of streams that hold elements, of both kinds. */
export function elementBytes(streams: Readonly<Record<string, number>>): number {
  return KINDS.reduce((sum, kind) => {
    const letter = kind === "key" ? "K" : "V";
    return sum + (streams[`${letter}LAT`] ?? 0) + (streams[`${letter}RAW`] ?? 0);
  }, 0);
}
