/**
 * What a profile is, for people and for scripts.
 *
 * @module
 */
import type { Kind } from "../src/cache/types.ts";
import { describeModel } from "../src/cache/describe_model.ts";
import type { KindProfile, KvtcProfile, Profile } from "../src/profile/types.ts";
import { nominalSaving } from "../src/profile/kvcar/check.ts";
import type { KvcarProfile } from "../src/profile/kvcar/types.ts";
import { KVQUANT_BITS, KVQUANT_OUTLIERS, type KvquantProfile } from "../src/profile/kvquant/types.ts";
import type { KvzProfile } from "../src/profile/kvz/types.ts";
import type { LowRankProfile } from "../src/profile/lowrank/types.ts";
import { stepOf } from "../src/stages/quantize/trellis/step.ts";
import { formatCount } from "./format.ts";

/** Facts as a JSON object and as lines of label and value. */
export interface Facts {
  readonly json: Record<string, unknown>;
  readonly lines: readonly (readonly [string, string])[];
}

/** Facts about a profile. */
export function profileFacts(profile: Profile): Facts {
  const { layerMap } = profile;
  const { json, lines } = factsOf(profile);
  if (layerMap === undefined) return { json, lines };
  const shared = ["layers", `those that map ${layerMap} leaves, for recipe kvsharer`] as const;
  return { json: { ...json, layerMap }, lines: [...lines.slice(0, 2), shared, ...lines.slice(2)] };
}

function factsOf(profile: Profile): Facts {
  switch (profile.method) {
    case "kvz":
      return kvzFacts(profile);
    case "kvcar":
      return kvcarFacts(profile);
    case "kvtc":
      return kvtcFacts(profile);
    case "kvquant":
      return kvquantFacts(profile);
    case "palu":
    case "recalkv":
      return lowRankFacts(profile);
  }
}

function kvcarFacts(profile: KvcarProfile): Facts {
  const { model, fingerprint, calibration, shingles, preRope, slope, kinds } = profile;
  const { tokens, sequences, seed } = calibration;
  const kind = ({ sources, autoencoders }: KvcarProfile["kinds"]["key"]) => ({
    autoencoders: autoencoders.map(({ layer, inputs, hidden, latent }) => ({ layer, inputs, hidden, latent })),
    reusedSlots: sources.reduce((count, source, slot) => count + (source === slot ? 0 : 1), 0),
    parameters: autoencoders.reduce((sum, { parameters }) => sum + parameters.length, 0),
  });
  const json = {
    method: "kvcar",
    fingerprint,
    model,
    calibration,
    shingles: shingles.length,
    preRope,
    slope,
    saving: nominalSaving(profile),
    key: kind(kinds.key),
    value: kind(kinds.value),
  };
  const line = ({ autoencoders, reusedSlots, parameters }: ReturnType<typeof kind>) =>
    `${autoencoders.length} autoencoders of ${formatCount(parameters)} parameters, ${reusedSlots} slots reused`;
  return {
    json,
    lines: [
      ["profile", `${fingerprint}, for recipe kvcar`],
      ["model", describeModel(model)],
      ["training", `${formatCount(tokens)} tokens of ${formatCount(sequences)} sequences, seed ${seed}`],
      ["keys", `${line(json.key)}, ${preRope ? "before" : "after"} RoPE`],
      ["values", line(json.value)],
      ["saving", `${(100 * json.saving).toFixed(2)} % of the elements`],
    ],
  };
}

function kvzFacts(profile: KvzProfile): Facts {
  const { model, fingerprint, calibration, shingles, sensitivity, features, components, stepSets, curve } = profile;
  const { tokens, sequences, svd, sinks, seed } = calibration;
  const finest = stepOf(profile.finestS);
  const steps = stepSets.map(({ s }) => stepOf(s));
  const json = {
    method: "kvz",
    fingerprint,
    model,
    calibration,
    shingles: shingles.length,
    sensitivity,
    features,
    components,
    finestStep: finest,
    steps,
    bitsAToken: profile.stepBits,
    curve: curve.map(({ s, kl, bits }) => ({ step: stepOf(s), kl, bits })),
  };
  return {
    json,
    lines: [
      ["profile", `${fingerprint}, for recipe kvz`],
      ["model", describeModel(model)],
      [
        "calibration",
        `${formatCount(tokens)} tokens of ${formatCount(sequences)} sequences, ${sinks} sinks left out, ${svd} SVD, ` +
        `seed ${seed}`,
      ],
      [
        "weighted by",
        sensitivity === "fisher" ? "Fisher blocks" : sensitivity === "forward" ? "forward passes" : "spread",
      ],
      ["basis", `${components} components of ${features} features, for steps down to ${finest.toPrecision(3)}`],
      [
        "trained at",
        steps.map((step, i) => `step ${step.toPrecision(3)} (${profile.stepBits[i]} bits a token)`).join(", "),
      ],
      ...curve.map(({ s, kl, bits }) =>
        [`step ${stepOf(s).toPrecision(3)}`, `KL ${kl.toPrecision(3)}, ${Math.round(bits)} bits a token`] as const
      ),
    ],
  };
}

function kvquantFacts(profile: KvquantProfile): Facts {
  const { model, fingerprint, calibration, shingles, sensitivity } = profile;
  const { tokens, sequences, sinks, seed } = calibration;
  return {
    json: {
      method: "kvquant",
      fingerprint,
      model,
      calibration,
      shingles: shingles.length,
      sensitivity,
      bits: [...KVQUANT_BITS],
      outliers: [...KVQUANT_OUTLIERS],
    },
    lines: [
      ["profile", `${fingerprint}, for recipe kvquant`],
      ["model", describeModel(model)],
      [
        "calibration",
        `${formatCount(tokens)} tokens of ${formatCount(sequences)} sequences, ${sinks} sinks left out, seed ${seed}`,
      ],
      ["weighted by", weightingName(sensitivity)],
      ["codebooks", `of ${KVQUANT_BITS.join(", ")} bits, for ${KVQUANT_OUTLIERS.join(", ")} % outliers`],
    ],
  };
}

/** What weighted a fit, where channels weigh the same or by their spread otherwise. */
function weightingName(sensitivity: KvquantProfile["sensitivity"]): string {
  return sensitivity === "fisher" ? "Fisher blocks" : sensitivity === "forward" ? "forward passes" : "nothing";
}

function lowRankFacts(profile: LowRankProfile): Facts {
  const { method, model, fingerprint, calibration, fit, layers, shingles } = profile;
  const ranks = (kind: Kind) => layers.map((layer) => layer[kind].groups.map(({ rank }) => rank));
  const json = {
    method,
    fingerprint,
    model,
    calibration,
    shingles: shingles.length,
    fit,
    ranks: { key: ranks("key"), value: ranks("value") },
    heads: layers.map((layer) => layer.key.groups.map(({ heads }) => heads)),
  };
  const { tokens, sequences } = calibration;
  const sums = (kind: Kind) => ranks(kind).map((groups) => groups.join("+")).join(" ");
  return {
    json,
    lines: [
      ["profile", `${fingerprint}, for recipe ${method}`],
      ["model", describeModel(model)],
      ["calibration", `${formatCount(tokens)} tokens of ${formatCount(sequences)} sequences`],
      ["removed", `${(100 * fit.removed).toFixed(2)} % of the cache's numbers, ranks ${fit.ranks}`],
      ["latents", fit.hadamard ? "rotated (Hadamard)" : "as the decomposition has them"],
      ["offline calibration", fit.rows],
      ["ranks of keys", sums("key")],
      ["ranks of values", sums("value")],
    ],
  };
}

function kvtcFacts({ model, fingerprint, calibration, shingles, kinds }: KvtcProfile): Facts {
  const { tokens, sequences, svd, sinks, seed, ratios } = calibration;
  const kind = ({ features, components, table, variance, totalVariance }: KindProfile) => ({
    features,
    components,
    rank: table.rank,
    rows: table.rows,
    // Of the fit, not of what is left after trimming.
    explainedVariance: totalVariance > 0 ? variance.reduce((sum, v) => sum + v, 0) / totalVariance : null,
  });
  const json = {
    method: "kvtc",
    fingerprint,
    model,
    calibration,
    shingles: shingles.length,
    key: kind(kinds.key),
    value: kind(kinds.value),
  };
  const components = (k: ReturnType<typeof kind>) =>
    `${k.components} of ${k.rank} components of ${k.features} features` +
    (k.explainedVariance === null
      ? ""
      : `, the fit explains ${(100 * k.explainedVariance).toFixed(2)} % of the variance`);
  return {
    json,
    lines: [
      ["profile", fingerprint],
      ["model", describeModel(model)],
      [
        "calibration",
        `${formatCount(tokens)} tokens of ${formatCount(sequences)} sequences, ${sinks} sinks left out, ${svd} SVD, ` +
        `seed ${seed}`,
      ],
      ["ratios", ratios.length === 0 ? "any (not trimmed)" : `trimmed for ${ratios.join(", ")}`],
      ["keys", components(json.key)],
      ["values", components(json.value)],
    ],
  };
}
