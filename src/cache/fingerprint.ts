/**
 * Which model a cache belongs to: a fingerprint, and reconciling what two sides say.
 *
 * @module
 */
import { KvzMismatchError } from "../errors.ts";
import type { ModelSpec, RopeScaling, RopeSpec } from "./types.ts";

type Json = string | number | boolean | null | { readonly [key: string]: Json };

/** The scaling's fields; absent scaling is null. */
function scalingFacts(scaling: RopeScaling | undefined): Json {
  switch (scaling?.type) {
    case undefined:
      return null;
    case "linear":
      return { factor: scaling.factor, type: scaling.type };
    case "llama3":
      return {
        factor: scaling.factor,
        highFreqFactor: scaling.highFreqFactor,
        lowFreqFactor: scaling.lowFreqFactor,
        originalMaxPosition: scaling.originalMaxPosition,
        type: scaling.type,
      };
    case "yarn":
      return {
        attentionFactor: scaling.attentionFactor,
        betaFast: scaling.betaFast,
        betaSlow: scaling.betaSlow,
        factor: scaling.factor,
        originalMaxPosition: scaling.originalMaxPosition,
        truncate: scaling.truncate,
        type: scaling.type,
      };
  }
}

/** RoPE without the pairing, which is a matter of layout, not of the model. */
function ropeFacts(rope: RopeSpec | null): Json {
  return rope === null ? null : { dim: rope.dim, scaling: scalingFacts(rope.scaling), theta: rope.theta };
}

/**
 * The canonical JSON behind {@linkcode modelFingerprint}: keys in ascending order, no white space, numbers as
 * ECMAScript prints them, facts that are not stated as null, RoPE without its pairing.
 */
export function canonicalModel(model: ModelSpec): string {
  return JSON.stringify({
    architecture: model.architecture ?? null,
    id: model.id ?? null,
    keyDim: model.keyDim,
    kvHeads: model.kvHeads,
    layers: model.layers,
    rope: ropeFacts(model.rope),
    valueDim: model.valueDim,
  });
}

/** The last model's facts and fingerprint: hashing leaves the thread, and callers have few models. */
let last: { readonly facts: string; readonly fingerprint: string } | undefined;

/** Fingerprint of a model: SHA-256 of {@linkcode canonicalModel} in UTF-8, as 64 hexadecimal digits. */
export async function modelFingerprint(model: ModelSpec): Promise<string> {
  const facts = canonicalModel(model);
  if (facts !== last?.facts) last = { facts, fingerprint: await sha256(facts) };
  return last.fingerprint;
}

async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What the two sides are called in messages. */
export interface SideNames {
  /** The side whose facts are checked. */
  readonly found: string;
  /** The side they are checked against. */
  readonly wanted: string;
}

const FIELDS = ["architecture", "id", "layers", "kvHeads", "keyDim", "valueDim"] as const;

/**
 * Reconciles the model that a source states with the one that is wanted: facts that one side leaves out (architecture,
 * id) are adopted from the other, all others must be equal. The pairing may differ and stays that of the source.
 *
 * @throws {KvzMismatchError} The sides contradict each other; the message names both and each differing field.
 */
export function resolveModel(found: ModelSpec, wanted: ModelSpec, names: SideNames): ModelSpec {
  const differences: string[] = [];
  for (const name of FIELDS) {
    const a = found[name];
    const b = wanted[name];
    if (a !== undefined && b !== undefined && a !== b) {
      differences.push(`${name} is ${JSON.stringify(a)} in ${names.found}, ${JSON.stringify(b)} in ${names.wanted}`);
    }
  }
  const a = JSON.stringify(ropeFacts(found.rope));
  const b = JSON.stringify(ropeFacts(wanted.rope));
  if (a !== b) differences.push(`rope is ${a} in ${names.found}, ${b} in ${names.wanted}`);
  if (differences.length > 0) {
    throw new KvzMismatchError(
      `Cannot use ${names.found} with ${names.wanted}: they are of different models (${differences.join("; ")})`,
    );
  }
  const architecture = found.architecture ?? wanted.architecture;
  const id = found.id ?? wanted.id;
  return {
    ...found,
    ...(architecture !== undefined ? { architecture } : {}),
    ...(id !== undefined ? { id } : {}),
  };
}
