/**
 * The JSON header of a `.kvz` file: which recipe made it, for which model, with which profile. How many tokens the file
 * holds is in the index, so that appending never rewrites the header.
 *
 * @module
 */
import type { DType, ModelSpec } from "../cache/types.ts";
import type { JsonObject } from "./canonical_json.ts";
import { Fields } from "./fields.ts";
import { modelToJson, parseModel } from "./model_json.ts";

/** What the header of a `.kvz` file says. */
export interface KvzHeader {
  /** The method, its version, and the options that its decoder needs. */
  readonly recipe: { readonly name: string; readonly version: number; readonly options: JsonObject };
  /** Facts about the model that the cache belongs to. */
  readonly model: ModelSpec;
  /** Fingerprint of the model's facts, hex SHA-256. */
  readonly modelFingerprint: string;
  /** Fingerprint of the profile that decoding needs, hex SHA-256; absent when the recipe needs none. */
  readonly profileFingerprint?: string;
  /** Element type of the cache that was compressed, and of the restored one. */
  readonly dtype: DType;
  /** Tokens of a full chunk, 1 to 2^20. */
  readonly chunkTokens: number;
  /** Position of the first token when positions are contiguous; absent when each region has a "POS " record. */
  readonly firstPosition?: number;
  /** Whatever the caller wants to keep with the cache. */
  readonly user?: JsonObject;
}

const WHAT = "cache header";
const DTYPES: readonly DType[] = ["f32", "f16", "bf16"];

/**
 * The JSON form of a header.
 *
 * @throws {KvzFormatError} when a field is out of range (see {@linkcode parseHeader})
 */
export function encodeHeader(header: KvzHeader): JsonObject {
  const { recipe, model, modelFingerprint, profileFingerprint, dtype, chunkTokens, firstPosition, user } = header;
  const json: JsonObject = {
    recipe: { name: recipe.name, version: recipe.version, options: recipe.options },
    model: modelToJson(model),
    modelFingerprint,
    ...(profileFingerprint === undefined ? {} : { profileFingerprint }),
    dtype,
    chunkTokens,
    ...(firstPosition === undefined ? {} : { firstPosition }),
    ...(user === undefined ? {} : { user }),
  };
  parseHeader(json);
  return json;
}

/**
 * Reads a header strictly.
 *
 * @throws {KvzFormatError} on a missing, unknown or impossible field, naming it, its value and what was wanted
 */
export function parseHeader(json: JsonObject): KvzHeader {
  const fields = new Fields(json, WHAT);
  const recipe = fields.fields("recipe");
  const name = recipe.string("name", 64);
  const version = recipe.integer("version", 1, 65535);
  const options = recipe.object("options");
  recipe.done();
  const model = parseModel(fields.value("model"), WHAT, "model");
  const modelFingerprint = fields.sha256("modelFingerprint");
  const profileFingerprint = fields.has("profileFingerprint") ? fields.sha256("profileFingerprint") : undefined;
  const dtype = fields.oneOf("dtype", DTYPES);
  const chunkTokens = fields.integer("chunkTokens", 1, 1 << 20);
  const firstPosition = fields.has("firstPosition") ? fields.integer("firstPosition", 0, 2 ** 31 - 1) : undefined;
  const user = fields.has("user") ? fields.object("user") : undefined;
  fields.done();
  return {
    recipe: { name, version, options },
    model,
    modelFingerprint,
    ...(profileFingerprint === undefined ? {} : { profileFingerprint }),
    dtype,
    chunkTokens,
    ...(firstPosition === undefined ? {} : { firstPosition }),
    ...(user === undefined ? {} : { user }),
  };
}
