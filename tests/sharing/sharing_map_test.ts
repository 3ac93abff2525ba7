import { assert, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { KvzFormatError, KvzMismatchError } from "../../src/errors.ts";
import { mapOption, readSharingMap, type SharingMap, writeSharingMap } from "../../src/eval/sharing_map.ts";
import { SMALL_MODEL } from "../synthetic.ts";

const MAP: SharingMap = {
  model: { ...SMALL_MODEL, layers: 5 },
  map: [0, 1, 0, 3, 1],
  settings: { order: "dissimilar", shared: 2, threshold: 0.5, seed: 0, sentences: 30, tokens: 64 },
  found: [
    { layer: 4, source: 1, distance: 12.5, similarity: 0.9 },
    { layer: 2, source: 0, distance: 11.5, similarity: 0.75 },
  ],
};

Deno.test("a layer map is read as it was written", async () => {
  const text = await writeSharingMap(MAP);
  assertEquals(await readSharingMap(text), MAP);
  assertEquals(mapOption(MAP, MAP.model, "the model"), "2:0+4:1");
});

Deno.test("what is no layer map, and one of another model, are refused", async () => {
  const json = JSON.parse(await writeSharingMap(MAP));
  const bad: readonly (readonly [object, string])[] = [
    [{ format: "other" }, "format"],
    [{ version: 2 }, "version is 2, expected an integer from 1 to 1"],
    [{ modelFingerprint: "0".repeat(64) }, "that of the model beside it"],
    [{ map: "7:0" }, "names layer 7, the model has 5"],
    [{ map: "4:2+2:0" }, "has none of its own"],
    [{ found: [{ layer: 9 }] }, "found[0].layer is 9"],
    [{ settings: { ...MAP.settings, order: "any" } }, "settings.order"],
    [{ more: 1 }, "unknown field"],
  ];
  for (const [change, message] of bad) {
    await assertRejects(() => readSharingMap(JSON.stringify({ ...json, ...change })), KvzFormatError, message);
  }
  await assertRejects(() => readSharingMap("{"), KvzFormatError, "it is not JSON; kvz sharing makes one");
  assertThrows(() => mapOption(MAP, { ...MAP.model, id: "another" }, "the cache"), KvzMismatchError, "id is");
  assertThrows(() => mapOption({ ...MAP, map: [0, 1, 2, 3, 4] }, MAP.model, "it"), KvzMismatchError, "no layer share");
});

Deno.test("any JSON is a layer map or a KvzFormatError", () =>
  fc.assert(fc.asyncProperty(fc.json(), async (text) => {
    try {
      await readSharingMap(text);
    } catch (error) {
      assert(error instanceof KvzFormatError, `${error}`);
    }
  })));
