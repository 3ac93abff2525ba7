import { assert, assertEquals, assertLess, assertRejects } from "deno-std/assert";
import { f16ToNumber, numberToF16, toFloat32 } from "../../src/cache/elements.ts";
import { KINDS } from "../../src/cache/types.ts";
import { openCodec } from "../../src/codec/open.ts";
import { KvzUnsupportedError } from "../../src/errors.ts";
import { random, syntheticCache } from "../synthetic.ts";
import { BLOCK_MODEL } from "./models.ts";
import { cacheOf, checkRecipe, roundTrip } from "./recipe_checks.ts";

checkRecipe({ recipe: "quarot", model: BLOCK_MODEL, error: 0.12, append: true });
checkRecipe({ recipe: "quarot", options: { bits: 3 }, model: BLOCK_MODEL, error: 0.25, append: true });

Deno.test("quarot: 4 bits and 32 a head: 4.25 bits a value at 128 dimensions", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const model = { ...BLOCK_MODEL, keyDim: 128, valueDim: 128 };
  const { report } = await codec.compress(syntheticCache(200, { model }), { recipe: "quarot" });
  assertEquals(report.paperRatio, 16 / 4.25);
});

/** Hadamard ÷ √n from its definition, then QuaRot's quantizer on the whole head, then back. */
function byDefinition(x: Float32Array): number[] {
  const n = x.length;
  const sign = (i: number, j: number) => (i & j).toString(2).replaceAll("0", "").length % 2 === 0 ? 1 : -1;
  const turn = (v: ArrayLike<number>) =>
    Array.from(
      { length: n },
      (_, i) => Array.from(v).reduce((sum, value, j) => sum + sign(i, j) * value, 0) / Math.sqrt(n),
    );
  const half = (v: number) => f16ToNumber(numberToF16(v));
  const y = turn(x);
  const low = Math.min(...y);
  const scale = half(Math.max(half(Math.max(...y) - low), 1e-5) / 15);
  const zero = half(low);
  return turn(y.map((v) => zero + scale * Math.round(Math.min(15, Math.max(0, (v - zero) / scale)))));
}

Deno.test("quarot: restores what its definition restores", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = syntheticCache(20, { model: BLOCK_MODEL, dtype: "f32" });
  const { cache: back } = await roundTrip(codec, cache, { recipe: "quarot" });
  for (const kind of KINDS) {
    const dim = kind === "key" ? 64 : 32;
    const [a, b] = [cache, back].map((c) => toFloat32(c.read(kind, 0, 20), "f32"));
    let other = 0;
    for (let at = 0; at < a.length; at += dim) {
      const wanted = byDefinition(a.subarray(at, at + dim));
      if (wanted.some((value, i) => Math.abs(value - b[at + i]) > 1e-4)) other++;
    }
    // A code at a tie may fall to either side in float32.
    assertLess(other, 0.05 * a.length / dim);
  }
});

// The defining step: without the rotation one outlying channel sets the scale of all.
Deno.test("quarot: a channel of outliers costs little", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const next = random(8);
  const model = { ...BLOCK_MODEL, rope: null };
  const cache = cacheOf(model, 64, "f32", (_k, _l, _h, _t, i) => i === 5 ? 40 : 2 * next() - 1);
  const { cache: back } = await roundTrip(codec, cache, { recipe: "quarot" });
  for (const kind of KINDS) {
    const dim = kind === "key" ? 64 : 32;
    const [a, b] = [cache, back].map((c) => toFloat32(c.read(kind, 0, 64), "f32"));
    const error = a.reduce((sum, x, i) => sum + (x - b[i]) ** 2, 0) / a.length;
    // As it is, the range is 41; rotated, it is about 2 · 40 ÷ √dim and what noise adds.
    const unrotated = (41 / 15) ** 2 / 12;
    assertLess(error, unrotated * (dim === 64 ? 0.15 : 0.3), kind);
  }
});

Deno.test("quarot: heads that are no power of two are refused", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = syntheticCache(3, { model: { ...BLOCK_MODEL, keyDim: 96 } });
  const error = await assertRejects(() => codec.compress(cache, { recipe: "quarot" }), KvzUnsupportedError, "96");
  assert(error.message.includes("key"));
});
