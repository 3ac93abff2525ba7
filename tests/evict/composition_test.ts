/** What can follow what in one file, and what comes of it. */
import { assert, assertEquals, assertGreater, assertLess, assertRejects } from "deno-std/assert";
import { KINDS, type ModelSpec } from "../../src/cache/types.ts";
import { openCodec } from "../../src/codec/open.ts";
import type { CompressOptions } from "../../src/codec/options.ts";
import { KvzUnsupportedError } from "../../src/errors.ts";
import { compositionError } from "../../src/recipes/composition.ts";
import { listRecipes } from "../../src/recipes/registry.ts";
import { densify } from "../../src/cache/densify.ts";
import { relativeError } from "../codec/helpers.ts";
import { SMALL_MODEL } from "../synthetic.ts";
import { queriedCache } from "./helpers.ts";

const MODEL: ModelSpec = { ...SMALL_MODEL, keyDim: 64, valueDim: 32, rope: { ...SMALL_MODEL.rope!, dim: 64 } };

Deno.test("what does not compose is refused with the reason", async () => {
  const recipes = new Map((await listRecipes()).map((recipe) => [recipe.name, recipe]));
  const reason = (first: string, second: string) => compositionError(recipes.get(first)!, recipes.get(second)!);
  for (
    const [first, second, words] of [
      ["quarot", "think", "a rotation spreads every channel over all"],
      ["turboquant", "think", "a rotation spreads every channel"],
      ["kvtc", "think", "a rotation spreads every channel"],
      ["kivi", "think", "not by codes"],
      ["kivi", "snapkv", "not by codes"],
      ["kivi", "quarot", "no coordinates that could be turned"],
      ["q8_0", "q4_0", "no elements left to quantize"],
      ["think", "snapkv", "choose tokens first"],
      ["snapkv", "h2o", "tokens are chosen once"],
      ["snapkv", "kvtc", "they hold different tokens now"],
      ["h2o", "kvcomp", "they hold different tokens now"],
      ["snapkv", "packkv", "different"],
      ["pyramidkv", "lossless", "no neighbours any more"],
      ["snapkv", "diffkv", "tokens are chosen once"],
      ["think", "kvcar", "different channels now"],
      ["kvcar", "think", "a rotation spreads"],
      ["think", "cachegen", "the heads of a token together"],
      ["snapkv", "kvquant", "they hold different tokens now"],
      ["kvquant", "quarot", "no coordinates that could be turned"],
    ] as const
  ) {
    const found = reason(first, second);
    assert(found?.includes(words), `${first} then ${second}: ${found}`);
    assert(found!.startsWith(`Cannot put ${second} after ${first}: `));
  }
  const strange = { name: "strange", stages: ["magic"] };
  assert(compositionError(recipes.get("snapkv")!, strange)?.includes('stage "magic"'));
  for (const [first, second] of [["snapkv", "kivi"], ["think", "kivi"], ["snapkv", "think"], ["pyramidkv", "quarot"]]) {
    assertEquals(reason(first, second), null);
  }
});

Deno.test("a code that does not compose, does not fit or does not exist is refused", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = queriedCache(100, 64, { model: MODEL });
  for (
    const [options, kind, words] of [
      [{ recipe: "snapkv", keep: 0.5, window: 16, code: "kvtc" }, KvzUnsupportedError, "Cannot put kvtc after snapkv"],
      [{ recipe: "think", code: "snapkv" }, KvzUnsupportedError, "choose tokens first"],
      [{ recipe: "think", code: "q8_0" }, KvzUnsupportedError, "multiple of 32"],
      [{ recipe: "think", code: "none" }, RangeError, 'Cannot find recipe "none"'],
      [{ recipe: "think", code: "kivi", bits: 3 }, RangeError, '"bits": it is 3'],
      [{ recipe: "think", bits: 3 }, RangeError, "code raw has none"],
    ] as const
  ) {
    await assertRejects(() => codec.compress(cache, options as CompressOptions), kind, words);
  }
});

for (
  const [options, error, ratio] of [
    [{ recipe: "snapkv", capacity: 70, window: 16, code: "kivi", bits: 4 }, 0.1, 4],
    [{ recipe: "snapkv", capacity: 70, window: 16, code: "quarot" }, 0.2, 4],
    [{ recipe: "pyramidkv", capacity: 70, window: 16, code: "turboquant" }, 0.12, 4],
    [{ recipe: "streamingllm", capacity: 70, code: "q8_0" }, 0.01, 3],
    [{ recipe: "h2o", keep: 0.5, code: "q4_0" }, 0.15, 5],
    [{ recipe: "think", code: "kivi", bits: 4 }, 0.1, 2.7],
    [{ recipe: "think", after: "snapkv", keep: 0.5, window: 32, code: "kivi", bits: 2 }, 0.4, 4.5],
  ] as const
) {
  Deno.test(`${JSON.stringify(options)} keeps what it keeps raw, within the code's error, and is smaller`, async () => {
    await using codec = await openCodec(null, { threads: 1 });
    const cache = queriedCache(200, 64, { model: MODEL });
    const { bytes, report } = await codec.compress(cache, options);
    const { code: _, bits: _b, ...plain } = options as CompressOptions;
    const raw = (await codec.decompress((await codec.compress(cache, plain)).bytes)).cache;
    const back = (await codec.decompress(bytes)).cache;
    for (let layer = 0; layer < 3; layer++) {
      for (let head = 0; head < 2; head++) assertEquals(back.positionsOf(layer, head), raw.positionsOf(layer, head));
    }
    const [x, y] = [raw, back].map((c) => densify(c, cache.positions).cache);
    for (const kind of KINDS) {
      const found = relativeError(x, y, kind, 0, 200);
      assertLess(found, error, kind);
      assertGreater(found, 0);
    }
    assertGreater(report.fileRatio, ratio);
    const some = (await codec.decompress(bytes, { layers: [1, 3] })).cache;
    for (let head = 0; head < 2; head++) assertEquals(some.key(0, head), back.key(1, head));
    await using two = await openCodec(null, { threads: 2 });
    assertEquals((await two.compress(cache, options)).bytes, bytes);
  });
}
