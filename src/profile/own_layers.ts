/**
 * Caches without the layers that share, for calibration of a model whose layers share keys and values.
 *
 * @module
 */
import type { CacheSource } from "../cache/types.ts";
import { layerMapOf, pickLayers, storedLayers } from "../stages/sharing/layer_map.ts";
import type { CalibrationInputs } from "./calibrate.ts";
import type { CalibrationInput } from "./gatherer.ts";

/** The layers of a cache that have keys and values of their own by a map. Throws RangeError when it is of other layers. */
function ownLayersOf(source: CacheSource, layerMap: string): CacheSource {
  const { model, dtype, tokens, positions, ragged, inputIds } = source;
  const stored = storedLayers(layerMapOf(layerMap, model.layers));
  return {
    model: { ...model, layers: stored.length },
    dtype,
    tokens,
    positions,
    ragged,
    ...(inputIds === undefined ? {} : { inputIds }),
    read: async (kind, begin, end) => pickLayers(await source.read(kind, begin, end), model.layers, stored),
  };
}

/** The same inputs with such caches; an array stays one. */
export function ownLayersOfAll(caches: CalibrationInputs, layerMap: string): CalibrationInputs {
  const one = (input: CalibrationInput): CalibrationInput =>
    "cache" in input ? { ...input, cache: ownLayersOf(input.cache, layerMap) } : ownLayersOf(input, layerMap);
  if (Array.isArray(caches)) return caches.map(one);
  return (async function* () {
    for await (const input of caches) yield one(input);
  })();
}
