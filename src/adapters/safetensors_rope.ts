/**
 * The `rope` metadata of a cache in safetensors: JSON with `theta`, `dim`, `pairing`, `first_position` and, where the
 * model scales its positions, `scaling` with the field names of Hugging Face configurations
 * (transformers/modeling_rope_utils.py).
 *
 * @module
 */
import { parseHfRope } from "../cache/hf_config.ts";
import type { RopeScaling, RopeSpec } from "../cache/types.ts";
import type { JsonObject, JsonValue } from "../container/canonical_json.ts";
import { Fields } from "../container/fields.ts";
import { MAX_POSITION, parseRope } from "../container/model_json.ts";
import { KvzFormatError } from "../errors.ts";

const WHAT = "safetensors rope metadata";

/**
 * Parses the metadata text. `null` stands for keys that are not rotated, and says nothing of positions.
 *
 * @param keyDim dimension of the key heads
 * @throws {KvzFormatError} on a missing, unknown or impossible field
 * @throws {KvzUnsupportedError} on a kind of scaling that is not known here; the message names it
 */
export function parseRopeMetadata(text: string, keyDim: number): { rope: RopeSpec | null; firstPosition?: number } {
  let json: JsonValue;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new KvzFormatError(`Cannot read ${WHAT}: it is not JSON`, { cause });
  }
  if (json === null) return { rope: null };
  const fields = new Fields(json, WHAT);
  const firstPosition = fields.integer("first_position", 0, MAX_POSITION);
  const { first_position: _, scaling: __, ...plain } = json as JsonObject;
  const scaling = fields.value("scaling") ?? undefined;
  if (scaling === undefined) return { rope: parseRope(new Fields(plain, WHAT), keyDim), firstPosition };
  fields.fields("scaling"); // Refuses what is not an object.
  const read = parseHfRope({ rope_theta: 1, rotary_dim: 2, rope_scaling: scaling })?.scaling;
  const all = { ...plain, ...(read === undefined ? {} : { scaling: { ...read } }) };
  return { rope: parseRope(new Fields(all, WHAT), keyDim), firstPosition };
}

/** The metadata text of a rotation. */
export function formatRopeMetadata(rope: RopeSpec | null, firstPosition: number): string {
  if (rope === null) return "null";
  const { theta, dim, pairing, scaling } = rope;
  return JSON.stringify({
    theta,
    dim,
    pairing,
    first_position: firstPosition,
    ...(scaling === undefined ? {} : { scaling: formatScaling(scaling) }),
  });
}

/** Our names → those of Hugging Face configurations, where they differ. */
const NAMES: Readonly<Record<string, string>> = {
  lowFreqFactor: "low_freq_factor",
  highFreqFactor: "high_freq_factor",
  originalMaxPosition: "original_max_position_embeddings",
  betaFast: "beta_fast",
  betaSlow: "beta_slow",
  attentionFactor: "attention_factor",
};

function formatScaling(scaling: RopeScaling): JsonObject {
  return Object.fromEntries(Object.entries(scaling).map(([name, field]) => [NAMES[name] ?? name, field]));
}
