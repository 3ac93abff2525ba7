import { assert, assertAlmostEquals, assertEquals, assertRejects } from "deno-std/assert";
import { KINDS, type ModelSpec } from "../../src/cache/types.ts";
import { openCodec } from "../../src/codec/open.ts";
import { inspect } from "../../src/codec/inspect.ts";
import { KvzUnsupportedError } from "../../src/errors.ts";
import { recipeNamed } from "../../src/recipes/registry.ts";
import { BLOCK_MODEL } from "../recipes/models.ts";
import { cacheOf, checkRecipe, roundTrip } from "../recipes/recipe_checks.ts";
import { syntheticCache } from "../synthetic.ts";

const MODEL: ModelSpec = { ...BLOCK_MODEL, layers: 5 };
/** Layer 3 takes from 1, layer 4 from 0. */
const MAP = "3:1+4:0";
const SOURCES = [0, 1, 2, 1, 0];

// Layers of the synthetic cache have nothing in common: a shared one is off by about √2.
checkRecipe({
  recipe: "kvsharer",
  options: { map: MAP },
  model: MODEL,
  error: 1.5,
  // Turning keys on from binary16 rounds once more.
  append: true,
  sinks: false,
});
checkRecipe({
  recipe: "kvsharer",
  options: { map: MAP, inner: "q8_0" },
  model: MODEL,
  error: 1.5,
  append: true,
  sinks: false,
});

Deno.test("kvsharer: layers with their own come back bit for bit, the others as their sources", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    const cache = syntheticCache(1500, { model: MODEL, dtype });
    const { cache: back } = await roundTrip(codec, cache, { recipe: "kvsharer", map: MAP });
    SOURCES.forEach((source, layer) => {
      for (const kind of KINDS) {
        assertEquals(
          back.sliceLayers(layer, layer + 1).read(kind, 0, 1500),
          cache.sliceLayers(source, source + 1).read(kind, 0, 1500),
          `${kind}s of layer ${layer}, ${dtype}`,
        );
      }
    });
  }
});

Deno.test("kvsharer: the file is smaller by the shared layers, and by nothing else", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = syntheticCache(1024, { model: MODEL });
  const { bytes, report } = await codec.compress(cache, { recipe: "kvsharer", map: MAP });
  assertEquals(report.paperRatio, 5 / 3);
  assertEquals(report.streams, { ...report.streams, KLAY: 3 * 2 * 1024 * 64 * 2, VLAY: 3 * 2 * 1024 * 32 * 2 });
  const { header } = await inspect(bytes);
  assertEquals(header.recipe.options, { map: MAP, inner: "raw" });
  const recipe = (await recipeNamed("kvsharer"))!;
  assertEquals(recipe.layerSource!(header.recipe.options, 5), SOURCES);
  const { report: blocks } = await codec.compress(cache, { recipe: "kvsharer", map: MAP, inner: "q4_0" });
  assertAlmostEquals(blocks.paperRatio!, 5 / 3 * 16 / 4.5, 1e-12);
});

Deno.test("kvsharer: what is wrong with a map is said, in options and in files", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = syntheticCache(3, { model: MODEL });
  const refused = async (options: object, message: string) =>
    await assertRejects(() => codec.compress(cache, { recipe: "kvsharer", ...options }), Error, message);
  await refused({}, 'option "map" is missing; kvz sharing searches one');
  await refused({ map: "5:0" }, "it names layer 5, the model has 5");
  await refused({ map: MAP, inner: "q5_0" }, 'option "inner": it is q5_0, expected raw, q8_0, q4_0, kvtc, kvz');
  await refused({ map: MAP, inner: "kvtc" }, "recipe kvsharer with inner kvtc: it needs a profile");
  await refused({ map: MAP, sinks: 4 }, 'Cannot use option "sinks": recipe kvsharer has map, inner');
  await refused({ map: MAP, ratio: 4 }, 'option "ratio": inner raw has none');
});

Deno.test("kvsharer: a scale beyond binary16 is told with its layer in the model", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const large = cacheOf(MODEL, 3, "f32", (kind, layer) => kind === "value" && layer === 2 ? 1e9 : 1);
  // Layer 2 is the second of the stored ones.
  await assertRejects(
    () => codec.compress(large, { recipe: "kvsharer", map: "1:0", inner: "q8_0" }),
    KvzUnsupportedError,
    "value of layer 2, head 0, token 0",
  );
  assert((await codec.compress(large, { recipe: "kvsharer", map: "2:0", inner: "q8_0" })).bytes.length > 0);
});
