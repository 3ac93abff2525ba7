/**
 * Model facts from a Hugging Face `config.json`, old (`rope_theta`, `rope_scaling`) and new (`rope_parameters`) form.
 *
 * @module
 */
import { KvzFormatError, KvzUnsupportedError } from "../errors.ts";
import { checkModel } from "./model.ts";
import { yarnAttentionFactor } from "./rope.ts";
import type { ModelSpec, RopePairing, RopeScaling, RopeSpec } from "./types.ts";

/** A parsed `config.json`; only the fields that are needed are looked at. */
export type HfConfig = Readonly<Record<string, unknown>>;

/** Model types whose attention rotates adjacent coordinates (`x[..., 0::2]`) in transformers. */
const ADJACENT = ["codegen", "cohere", "ernie4_5", "ernie4_5_moe", "glm", "glm4", "gptj", "helium"];

/** Model types without rotary embedding. */
const NOT_ROTATED = ["bloom", "gpt2", "gpt_bigcode", "gpt_neo", "mpt", "opt"];

/** Model types that rotate the keys of some layers only. */
const PARTLY_ROTATED = ["cohere2", "exaone4", "llama4", "llama4_text", "smollm3"];

/** `partial_rotary_factor` of model types whose configurations may leave it out. */
const DEFAULT_PARTIAL: Readonly<Record<string, number>> = { gpt_neox: 0.25, persimmon: 0.5, phi: 0.5, stablelm: 0.25 };

/** `rope_theta` of model types whose older configurations leave it out. */
const DEFAULT_THETA: Readonly<Record<string, number>> = {
  falcon: 10000,
  gemma: 10000,
  gpt_neox: 10000,
  llama: 10000,
  mistral: 10000,
  phi: 10000,
};

function isRecord(value: unknown): value is HfConfig {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

interface FieldTypes {
  readonly number: number;
  readonly string: string;
  readonly boolean: boolean;
}

function field<T extends keyof FieldTypes>(config: HfConfig, name: string, type: T): FieldTypes[T] | undefined {
  const value = config[name];
  if (value === undefined || value === null) return undefined;
  const found = typeof value;
  if (found !== type) {
    throw new KvzFormatError(`Cannot read model configuration: ${name} is of type ${found}, expected ${type}`);
  }
  return value as FieldTypes[T];
}

function required(config: HfConfig, name: string): number {
  const value = field(config, name, "number");
  if (value === undefined) throw new KvzFormatError(`Cannot read model configuration: ${name} is missing`);
  return value;
}

function readHeadDim(config: HfConfig): number {
  return field(config, "head_dim", "number") ??
    Math.floor(required(config, "hidden_size") / required(config, "num_attention_heads"));
}

function readScaling(config: HfConfig, parameters: HfConfig): RopeScaling | undefined {
  const type = field(parameters, "rope_type", "string") ?? field(parameters, "type", "string") ?? "default";
  if (type === "mrope" || parameters.mrope_section !== undefined) {
    throw new KvzUnsupportedError("Cannot use model: M-RoPE (several positions per token) is not supported");
  }
  const factor = () => required(parameters, "factor");
  const original = () =>
    field(config, "original_max_position_embeddings", "number") ??
      field(parameters, "original_max_position_embeddings", "number") ?? required(config, "max_position_embeddings");
  switch (type) {
    case "default":
      return undefined;
    case "linear":
      return { type, factor: factor() };
    case "llama3":
      return {
        type,
        factor: factor(),
        lowFreqFactor: required(parameters, "low_freq_factor"),
        highFreqFactor: required(parameters, "high_freq_factor"),
        originalMaxPosition: original(),
      };
    case "yarn": {
      const originalMaxPosition = original();
      const ratio = field(parameters, "factor", "number") ??
        required(config, "max_position_embeddings") / originalMaxPosition;
      return {
        type,
        factor: ratio,
        originalMaxPosition,
        betaFast: field(parameters, "beta_fast", "number") || 32,
        betaSlow: field(parameters, "beta_slow", "number") || 1,
        attentionFactor: field(parameters, "attention_factor", "number") ??
          yarnAttentionFactor(
            ratio,
            field(parameters, "mscale", "number"),
            field(parameters, "mscale_all_dim", "number"),
          ),
        truncate: field(parameters, "truncate", "boolean") ?? true,
      };
    }
    default:
      throw new KvzUnsupportedError(
        `Cannot use model: RoPE scaling "${type}" is not supported, expected default, linear, llama3 or yarn`,
      );
  }
}

/**
 * RoPE of a model from its Hugging Face configuration; `null` for model types that are known not to rotate keys.
 *
 * Defaults are those of transformers: `head_dim` = hidden_size / num_attention_heads, `partial_rotary_factor` 1 (or the
 * model type's own), `rope_theta` 10000 for the old model types whose configurations leave it out.
 *
 * @throws {KvzUnsupportedError} Scaling that is not supported (dynamic, longrope, proportional, M-RoPE, …), RoPE that
 * differs between layers, or an odd number of rotated dimensions; the message names it.
 * @throws {KvzFormatError} A field is missing or has the wrong type.
 */
export function parseHfRope(config: HfConfig): RopeSpec | null {
  const type = field(config, "model_type", "string") ?? "";
  if (NOT_ROTATED.includes(type)) return null;
  if (PARTLY_ROTATED.includes(type) || Array.isArray(config.no_rope_layers)) {
    throw new KvzUnsupportedError(`Cannot use model: ${type || "it"} has layers without RoPE, which is not supported`);
  }
  const nested = config.rope_parameters ?? config.rope_scaling ?? {};
  if (!isRecord(nested)) {
    throw new KvzFormatError("Cannot read model configuration: rope_parameters or rope_scaling is not an object");
  }
  if (config.rope_local_base_freq !== undefined || Object.values(nested).some(isRecord)) {
    throw new KvzUnsupportedError("Cannot use model: RoPE that differs between layers is not supported");
  }
  const theta = field(nested, "rope_theta", "number") ?? field(config, "rope_theta", "number") ??
    field(config, "rotary_emb_base", "number") ?? DEFAULT_THETA[type];
  if (theta === undefined) throw new KvzFormatError("Cannot read model configuration: rope_theta is missing");
  const partial = field(nested, "partial_rotary_factor", "number") ??
    field(config, "partial_rotary_factor", "number") ?? field(config, "rotary_pct", "number") ??
    DEFAULT_PARTIAL[type] ?? 1;
  const dim = field(config, "rotary_dim", "number") ?? Math.floor(readHeadDim(config) * partial);
  if (dim % 2 !== 0) {
    throw new KvzUnsupportedError(
      `Cannot use model: ${dim} rotated dimensions are not supported, expected an even number`,
    );
  }
  const scaling = readScaling(config, nested);
  const pairing: RopePairing = ADJACENT.includes(type) ? "adjacent" : "half-split";
  return { theta, dim, pairing, ...(scaling ? { scaling } : {}) };
}

/**
 * Geometry, RoPE and name of a decoder-only model from its Hugging Face configuration.
 *
 * @param id Name of the weights; default `_name_or_path` of the configuration where it says one.
 * @throws {KvzUnsupportedError} Latent attention (MLA), layers that share or lack a KV cache, or unsupported RoPE.
 * @throws {KvzFormatError} A field is missing, has the wrong type or is out of range.
 */
export function parseHfModel(config: HfConfig, id?: string): ModelSpec {
  if (config.kv_lora_rank !== undefined && config.kv_lora_rank !== null) {
    throw new KvzUnsupportedError("Cannot use model: latent attention (MLA) is not supported");
  }
  const architecture = field(config, "model_type", "string");
  const name = id ?? (field(config, "_name_or_path", "string") || undefined);
  const headDim = readHeadDim(config);
  const model: ModelSpec = {
    ...(architecture !== undefined ? { architecture } : {}),
    ...(name !== undefined ? { id: name } : {}),
    layers: required(config, "num_hidden_layers"),
    kvHeads: field(config, "num_key_value_heads", "number") ?? required(config, "num_attention_heads"),
    keyDim: headDim,
    valueDim: headDim,
    rope: parseHfRope(config),
  };
  try {
    checkModel(model);
  } catch (error) {
    throw new KvzFormatError(`Cannot read model configuration: ${(error as Error).message}`, { cause: error });
  }
  return model;
}
