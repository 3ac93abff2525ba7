/**
 * A model's facts as JSON, as the headers of caches and profiles hold them.
 *
 * @module
 */
import type { ModelSpec, RopePairing, RopeScaling, RopeSpec } from "../cache/types.ts";
import type { JsonObject, JsonValue } from "./canonical_json.ts";
import { Fields } from "./fields.ts";

/** Most layers and heads that are believed. */
export const MAX_LAYERS_AND_HEADS = 4096;
/** Largest head dimension that is believed. */
export const MAX_HEAD_DIM = 65536;
/** Largest position, as positions are signed 32-bit integers. */
export const MAX_POSITION = 2 ** 31 - 1;

const PAIRINGS: readonly RopePairing[] = ["half-split", "adjacent"];

/**
 * The JSON form of a model: its fields under their own names, absent ones left out, `rope` null for none.
 *
 * @throws {KvzFormatError} when a field is out of range (see {@linkcode parseModel})
 */
export function modelToJson(model: ModelSpec): JsonObject {
  const { architecture, id, layers, kvHeads, keyDim, valueDim, rope } = model;
  const json: JsonObject = {
    ...(architecture === undefined ? {} : { architecture }),
    ...(id === undefined ? {} : { id }),
    layers,
    kvHeads,
    keyDim,
    valueDim,
    rope: rope === null ? null : ropeToJson(rope),
  };
  parseModel(json);
  return json;
}

/** The JSON form of a rotation. */
export function ropeToJson({ theta, dim, pairing, scaling }: RopeSpec): JsonObject {
  return { theta, dim, pairing, ...(scaling === undefined ? {} : { scaling: { ...scaling } }) };
}

/**
 * Reads a model's facts.
 *
 * @param what the thing read, for messages
 * @param path where the object stands in it
 * @throws {KvzFormatError} on a missing, unknown or impossible field
 */
export function parseModel(value: JsonValue | undefined, what = "model", path = ""): ModelSpec {
  const fields = new Fields(value, what, path);
  const architecture = fields.has("architecture") ? fields.string("architecture") : undefined;
  const id = fields.has("id") ? fields.string("id") : undefined;
  const layers = fields.integer("layers", 1, MAX_LAYERS_AND_HEADS);
  const kvHeads = fields.integer("kvHeads", 1, MAX_LAYERS_AND_HEADS);
  const keyDim = fields.integer("keyDim", 1, MAX_HEAD_DIM);
  const valueDim = fields.integer("valueDim", 1, MAX_HEAD_DIM);
  const rope = fields.value("rope") === null ? null : parseRope(fields.fields("rope"), keyDim);
  fields.done();
  return {
    ...(architecture === undefined ? {} : { architecture }),
    ...(id === undefined ? {} : { id }),
    layers,
    kvHeads,
    keyDim,
    valueDim,
    rope,
  };
}

/**
 * Reads a rotation from an object that holds nothing else.
 *
 * @param keyDim dimension of the heads it turns
 * @throws {KvzFormatError} on a missing, unknown or impossible field
 */
export function parseRope(fields: Fields, keyDim: number): RopeSpec {
  const theta = fields.number("theta");
  const dim = fields.integer("dim", 2, keyDim);
  if (dim % 2 !== 0) throw fields.fault("dim", "an even integer");
  const pairing = fields.oneOf("pairing", PAIRINGS);
  const scaling = fields.has("scaling") ? parseScaling(fields.fields("scaling")) : undefined;
  fields.done();
  return { theta, dim, pairing, ...(scaling === undefined ? {} : { scaling }) };
}

function parseScaling(fields: Fields): RopeScaling {
  const type = fields.oneOf("type", ["linear", "llama3", "yarn"]);
  const factor = fields.number("factor");
  let scaling: RopeScaling;
  switch (type) {
    case "linear":
      scaling = { type, factor };
      break;
    case "llama3":
      scaling = {
        type,
        factor,
        lowFreqFactor: fields.number("lowFreqFactor"),
        highFreqFactor: fields.number("highFreqFactor"),
        originalMaxPosition: fields.integer("originalMaxPosition", 1, MAX_POSITION),
      };
      if (scaling.highFreqFactor <= scaling.lowFreqFactor) {
        throw fields.fault("highFreqFactor", `a number above lowFreqFactor ${scaling.lowFreqFactor}`);
      }
      break;
    case "yarn":
      scaling = {
        type,
        factor,
        originalMaxPosition: fields.integer("originalMaxPosition", 1, MAX_POSITION),
        betaFast: fields.number("betaFast"),
        betaSlow: fields.number("betaSlow"),
        attentionFactor: fields.number("attentionFactor"),
        truncate: fields.boolean("truncate"),
      };
      break;
  }
  fields.done();
  return scaling;
}
