import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import {
  formatLayerMap,
  layerMapOf,
  ownLayers,
  parseLayerMap,
  resolveChains,
  storedLayers,
} from "../../src/stages/sharing/layer_map.ts";

/** A map with chains: any layer may take from any earlier one. */
const chained = fc.array(fc.nat(), { minLength: 1, maxLength: 40 }).map((numbers) =>
  numbers.map((n, layer) => n % (layer + 1))
);

Deno.test("chains end at layers that have their own; what a layer takes from is found by walking", () => {
  fc.assert(fc.property(chained, (map) => {
    const resolved = resolveChains(map);
    map.forEach((_, layer) => {
      let at = layer;
      while (map[at] !== at) at = map[at];
      assertEquals(resolved[layer], at);
    });
    assertEquals(storedLayers(resolved), ownLayers(map.length).filter((layer) => map[layer] === layer));
    assertEquals(resolveChains(resolved), resolved);
  }));
});

Deno.test("a map and its text are the same", () => {
  fc.assert(fc.property(chained, (map) => {
    const resolved = resolveChains(map);
    const text = formatLayerMap(resolved);
    if (text === "") assertEquals(resolved, ownLayers(map.length));
    else assertEquals(layerMapOf(text, map.length), resolved);
  }));
  assertEquals(formatLayerMap([0, 1, 0, 3, 1]), "2:0+4:1");
});

Deno.test("any text is a map or a RangeError", () => {
  fc.assert(fc.property(fc.string(), fc.string({ unit: fc.constantFrom("0", "1", "2", ":", "+") }), (a, b) => {
    for (const text of [a, b]) {
      try {
        const pairs = parseLayerMap(text);
        assert([...pairs].every(([layer, source]) => source < layer && !pairs.has(source)));
      } catch (error) {
        assert(error instanceof RangeError, `${error}`);
      }
    }
  }));
  const bad: readonly (readonly [string, string])[] = [
    ["", "expected layer:source"],
    ["3", "expected layer:source"],
    ["3:3", "layer 3 takes from 3, expected an earlier layer"],
    ["3:5", "layer 3 takes from 5, expected an earlier layer"],
    ["3:1+3:2", "layer 3 comes twice"],
    ["5:3+3:1", "layer 5 takes from 3, which has none of its own"],
    ["9:1", "names layer 9, the model has 9"],
  ];
  for (const [text, message] of bad) assertThrows(() => layerMapOf(text, 9), RangeError, message);
});
