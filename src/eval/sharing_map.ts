/**
 * The map of shared layers as a file: JSON with the model that it was searched on and how.
 *
 * @module
 */
import { modelFingerprint, resolveModel } from "../cache/fingerprint.ts";
import type { ModelSpec } from "../cache/types.ts";
import type { JsonObject, JsonValue } from "../container/canonical_json.ts";
import { Fields } from "../container/fields.ts";
import { modelToJson, parseModel } from "../container/model_json.ts";
import { KvzFormatError, KvzMismatchError } from "../errors.ts";
import { formatLayerMap, type LayerMap, layerMapOf } from "../stages/sharing/layer_map.ts";
import type { SharingOrder, SharingSearch } from "./sharing_search.ts";

/** How a map was searched. */
export interface SharingSettings {
  /** Which pairs came first. */
  readonly order: SharingOrder;
  /** Layers that were to share. */
  readonly shared: number;
  /** Mean cosine that had to be exceeded. */
  readonly threshold: number;
  /** Seed of order "random". */
  readonly seed: number;
  /** Sentences that it was searched on. */
  readonly sentences: number;
  /** Tokens of the longest. */
  readonly tokens: number;
}

/** A map of shared layers. */
export interface SharingMap {
  /** The model that it is for. */
  readonly model: ModelSpec;
  /** The source of each layer. */
  readonly map: LayerMap;
  /** How it was searched. */
  readonly settings: SharingSettings;
  /** Layers that share, as they were found. */
  readonly found: readonly {
    readonly layer: number;
    readonly source: number;
    readonly distance: number;
    readonly similarity: number;
  }[];
}

const FORMAT = "kvz layer map";
const WHAT = "layer map";
const ORDERS: readonly SharingOrder[] = ["dissimilar", "similar", "random"];

/** What a search found, with what it was searched on. */
export function sharingMap(model: ModelSpec, { map, tried }: SharingSearch, settings: SharingSettings): SharingMap {
  const found = tried.flatMap(({ accepted, layer, source, distance, similarity }) =>
    accepted ? [{ layer, source, distance, similarity: similarity! }] : []
  );
  return { model, map, settings, found };
}

/** The file's text. */
export async function writeSharingMap({ model, map, settings, found }: SharingMap): Promise<string> {
  const json: JsonObject = {
    format: FORMAT,
    version: 1,
    model: modelToJson(model),
    modelFingerprint: await modelFingerprint(model),
    map: formatLayerMap(map),
    settings: { ...settings },
    found: found.map((pair) => ({ ...pair })),
  };
  return `${JSON.stringify(json, null, 2)}\n`;
}

/**
 * Reads a file's text.
 *
 * @throws {KvzFormatError} It is none, or one of another version, or its parts contradict each other.
 */
export async function readSharingMap(text: string): Promise<SharingMap> {
  let json: JsonValue;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new KvzFormatError("Cannot read layer map: it is not JSON; kvz sharing makes one", { cause });
  }
  const fields = new Fields(json, WHAT);
  fields.oneOf("format", [FORMAT]);
  fields.integer("version", 1, 1);
  const model = parseModel(fields.value("model"), WHAT, "model");
  if (fields.sha256("modelFingerprint") !== await modelFingerprint(model)) {
    throw fields.fault("modelFingerprint", "that of the model beside it");
  }
  const map = parseMap(fields, model);
  const settings = fields.fields("settings");
  const parsed: SharingSettings = {
    order: settings.oneOf("order", ORDERS),
    shared: settings.integer("shared", 1, model.layers),
    threshold: settings.number("threshold", -1),
    seed: settings.integer("seed", 0, 2 ** 32 - 1),
    sentences: settings.integer("sentences", 1, 2 ** 31 - 1),
    tokens: settings.integer("tokens", 1, 2 ** 31 - 1),
  };
  settings.done();
  const found = fields.value("found");
  if (!Array.isArray(found)) throw fields.fault("found", "a list");
  const pairs = found.map((value: JsonValue, i) => {
    const pair = new Fields(value, WHAT, `found[${i}]`);
    const layer = pair.integer("layer", 0, model.layers - 1);
    const source = pair.integer("source", 0, model.layers - 1);
    const read = { layer, source, distance: pair.number("distance", 0), similarity: pair.number("similarity", -1) };
    pair.done();
    return read;
  });
  fields.done();
  return { model, map, settings: parsed, found: pairs };
}

function parseMap(fields: Fields, { layers }: ModelSpec): LayerMap {
  const text = fields.string("map", 16 * layers);
  try {
    return layerMapOf(text, layers);
  } catch (cause) {
    throw new KvzFormatError(`Cannot read layer map: ${(cause as Error).message}`, { cause });
  }
}

/**
 * Option `map` of recipe kvsharer.
 *
 * @throws {KvzMismatchError} The map is of another model, or lets no layer share.
 */
export function mapOption({ model, map }: SharingMap, wanted: ModelSpec, name: string): string {
  resolveModel(model, wanted, { found: "the layer map", wanted: name });
  const text = formatLayerMap(map);
  if (text === "") throw new KvzMismatchError("Cannot use layer map: it lets no layer share");
  return text;
}
