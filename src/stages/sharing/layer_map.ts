/**
 * Layers that share keys and values: which layer each layer takes them from, itself or an earlier one.
 *
 * @module
 */

/** The source of every layer, at most the layer itself; sources share with nobody. */
export type LayerMap = readonly number[];

/** The map in which every layer has its own. */
export function ownLayers(layers: number): number[] {
  return Array.from({ length: layers }, (_, layer) => layer);
}

/**
 * Follows chains (28 ← 27 ← 3) to their first layer. In ascending order, as KVSharer's code does: the source of a source
 * is settled before it is needed.
 */
export function resolveChains(map: LayerMap): number[] {
  const out: number[] = [];
  map.forEach((source, layer) => out.push(source === layer ? layer : out[source]));
  return out;
}

/** Layers that have keys and values of their own, ascending. */
export function storedLayers(map: LayerMap): number[] {
  return ownLayers(map.length).filter((layer) => map[layer] === layer);
}

/** Some layers, in the order given, of bytes [layers][…]. */
export function pickLayers(bytes: Uint8Array, layers: number, chosen: readonly number[]): Uint8Array {
  const perLayer = bytes.length / layers;
  const out = new Uint8Array(chosen.length * perLayer);
  chosen.forEach((layer, i) => out.set(bytes.subarray(layer * perLayer, (layer + 1) * perLayer), i * perLayer));
  return out;
}

/** A pair `layer:source` for every shared layer, joined by `+`: "27:3+28:5"; "" where none is shared. */
export function formatLayerMap(map: LayerMap): string {
  return map.flatMap((source, layer) => source === layer ? [] : [`${layer}:${source}`]).join("+");
}

/** Most layers that a map may have. */
export const MAX_LAYERS = 4096;

/**
 * Shared layers of a text as {@linkcode formatLayerMap} makes it, with their sources.
 *
 * @throws {RangeError} It is none, or a layer would take from a later one, from itself, or from one that is shared.
 */
export function parseLayerMap(text: string): ReadonlyMap<number, number> {
  const told = `Cannot use layer map "${text.slice(0, 80)}":`;
  const pairs = new Map<number, number>();
  for (const part of text.length > 16 * MAX_LAYERS ? [""] : text.split("+")) {
    const [, layer, source] = (/^(\d{1,4}):(\d{1,4})$/.exec(part) ?? []).map(Number);
    if (layer === undefined) throw new RangeError(`${told} expected layer:source, joined by + (27:3+28:5)`);
    if (source >= layer) throw new RangeError(`${told} layer ${layer} takes from ${source}, expected an earlier layer`);
    if (pairs.has(layer)) throw new RangeError(`${told} layer ${layer} comes twice`);
    pairs.set(layer, source);
  }
  for (const [layer, source] of pairs) {
    if (pairs.has(source)) {
      throw new RangeError(
        `${told} layer ${layer} takes from ${source}, which has none of its own; name the first layer`,
      );
    }
  }
  return pairs;
}

/**
 * The map of a model's layers.
 *
 * @throws {RangeError} As {@linkcode parseLayerMap}, or the model has fewer layers.
 */
export function layerMapOf(text: string, layers: number): number[] {
  const pairs = parseLayerMap(text);
  const beyond = [...pairs.keys()].find((layer) => layer >= layers);
  if (beyond !== undefined) {
    throw new RangeError(
      `Cannot use layer map "${text.slice(0, 80)}": it names layer ${beyond}, the model has ${layers}`,
    );
  }
  return ownLayers(layers).map((layer) => pairs.get(layer) ?? layer);
}
