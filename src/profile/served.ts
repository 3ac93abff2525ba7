/**
 * Which model's caches a profile serves: its own, or one whose layers share keys and values, of which the profile has those
 * that have some of their own.
 *
 * @module
 */
import type { ModelSpec } from "../cache/types.ts";
import type { Fields } from "../container/fields.ts";
import { formatLayerMap, layerMapOf, parseLayerMap } from "../stages/sharing/layer_map.ts";
import type { Profile } from "./types.ts";

const MAX_MAP_LENGTH = 1 << 16;

/** The model that the caches are of: the profile's, with the layers that share as well. */
export function servedModel({ model, layerMap }: Pick<Profile, "model" | "layerMap">): ModelSpec {
  return layerMap === undefined ? model : { ...model, layers: model.layers + parseLayerMap(layerMap).size };
}

/**
 * The layer map of a profile's header, of a model with so many layers left.
 *
 * @throws {KvzFormatError} It is no map in its plain form, or names layers that such a model does not have.
 */
export function parseProfileMap(header: Fields, layers: number): { readonly layerMap: string } {
  const layerMap = header.string("layerMap", MAX_MAP_LENGTH);
  let plain = "";
  try {
    plain = formatLayerMap(layerMapOf(layerMap, layers + parseLayerMap(layerMap).size));
  } catch {
    // Told below.
  }
  if (plain !== layerMap) throw header.fault("layerMap", `layer:source by rising layer, with ${layers} layers left`);
  return { layerMap };
}
