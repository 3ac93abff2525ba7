/**
 * What a profile is, for people and for scripts.
 *
 * @module
 */
import { describeModel } from "../src/codec/decode.ts";
import type { KindProfile, Profile } from "../src/profile/types.ts";
import { formatCount } from "./format.ts";

/** Facts as a JSON object and as lines of label and value. */
export interface Facts {
  readonly json: Record<string, unknown>;
  readonly lines: readonly (readonly [string, string])[];
}

/** Facts about a profile. */
export function profileFacts({ model, fingerprint, calibration, shingles, kinds }: Profile): Facts {
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
