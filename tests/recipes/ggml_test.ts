import { assert, assertEquals, assertLess, assertRejects } from "deno-std/assert";
import { toFloat32 } from "../../src/cache/elements.ts";
import { KINDS } from "../../src/cache/types.ts";
import { openCodec } from "../../src/codec/open.ts";
import { KvzUnsupportedError } from "../../src/errors.ts";
import golden from "../adapters/ggml_golden.json" with { type: "json" };
import { syntheticCache } from "../synthetic.ts";
import { cacheOf, checkRecipe, roundTrip } from "./recipe_checks.ts";
import { BLOCK_MODEL } from "./models.ts";

checkRecipe({ recipe: "q8_0", model: BLOCK_MODEL, error: 0.01, append: true });
checkRecipe({ recipe: "q4_0", model: BLOCK_MODEL, error: 0.12, append: true });

for (const recipe of ["q8_0", "q4_0"] as const) {
  Deno.test(`${recipe}: bits a value are llama.cpp's`, async () => {
    await using codec = await openCodec(null, { threads: 1 });
    const cache = syntheticCache(200, { model: BLOCK_MODEL });
    const { report } = await codec.compress(cache, { recipe });
    const values = 2 * 2 * 200;
    assertEquals(report.streams.KBLK, values * 64 * (recipe === "q8_0" ? 8.5 : 4.5) / 8);
    assertEquals(report.streams.VBLK, values * 32 * (recipe === "q8_0" ? 8.5 : 4.5) / 8);
    assertEquals(report.paperRatio, 16 / (recipe === "q8_0" ? 8.5 : 4.5));
  });

  Deno.test(`${recipe}: restores what the gguf package restores`, async () => {
    await using codec = await openCodec(null, { threads: 1 });
    for (const entry of Object.values(golden)) {
      const row = entry.row.slice(0, 32);
      const cache = cacheOf(BLOCK_MODEL, 2, "f32", (_k, _l, _h, _t, i) => row[i % 32]);
      const { cache: back } = await roundTrip(codec, cache, { recipe });
      const values = toFloat32(back.read("value", 0, 1), "f32").subarray(0, 32);
      assertEquals(values, Float32Array.from(entry[recipe].values.slice(0, 32)));
    }
  });
}

// The positive control: without the sign of the extreme element, q4_0 would reach −8 on one side only.
Deno.test("q4_0: the element of largest magnitude is kept exactly, whatever its sign", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  for (const sign of [1, -1]) {
    const cache = cacheOf(BLOCK_MODEL, 3, "f32", (_k, _l, _h, t, i) => i % 32 === 7 ? 8 * sign : 0.01 * (i - t));
    const { cache: back } = await roundTrip(codec, cache, { recipe: "q4_0" });
    for (const kind of KINDS) {
      const x = toFloat32(back.read(kind, 0, 3), "f32");
      for (let at = 7; at < x.length; at += 32) assertEquals(x[at], 8 * sign);
    }
  }
});

Deno.test("q8_0, q4_0: heads that are no whole blocks, and scales beyond binary16, are refused", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const odd = { ...BLOCK_MODEL, valueDim: 40 };
  await assertRejects(
    () => codec.compress(syntheticCache(3, { model: odd }), { recipe: "q8_0" }),
    KvzUnsupportedError,
    "40",
  );
  const large = cacheOf(
    BLOCK_MODEL,
    3,
    "f32",
    (kind, layer, head, token) => kind === "value" && layer === 1 && head === 0 && token === 2 ? 1e9 : 1,
  );
  for (const recipe of ["q8_0", "q4_0"]) {
    await assertRejects(
      () => codec.compress(large, { recipe }),
      KvzUnsupportedError,
      "value of layer 1, head 0, token 2",
    );
  }
});

Deno.test("q8_0 loses less than q4_0, and both something", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = syntheticCache(100, { model: BLOCK_MODEL });
  const eight = (await roundTrip(codec, cache, { recipe: "q8_0" })).cache;
  assert(!eight.equals(cache));
  const a = toFloat32(cache.read("key", 0, 100), "f16");
  const b = toFloat32(eight.read("key", 0, 100), "f16");
  // Half a step of a block, d = amax ÷ 127, and the rounding of d and of the result to binary16.
  for (let at = 0; at < a.length; at += 32) {
    const most = a.subarray(at, at + 32).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    for (let i = at; i < at + 32; i++) assertLess(Math.abs(a[i] - b[i]), most * (0.5 / 127 + 2 ** -10));
  }
});
