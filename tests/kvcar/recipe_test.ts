import { assert, assertAlmostEquals, assertEquals, assertLess, assertNotEquals, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { f16ToNumber, numberToF16, toFloat32 } from "../../src/cache/elements.ts";
import { KINDS, type ModelSpec } from "../../src/cache/types.ts";
import { openCodec } from "../../src/codec/open.ts";
import { KvzMismatchError, KvzUnsupportedError } from "../../src/errors.ts";
import { nominalSaving } from "../../src/profile/kvcar/check.ts";
import { decodeLatent, encodeLatent } from "../../src/stages/quantize/latent_int8.ts";
import { cacheOf, checkRecipe, roundTrip } from "../recipes/recipe_checks.ts";
import { random, SMALL_MODEL, syntheticCache } from "../synthetic.ts";
import { elementBytes, makeProfile, network, orthonormalRows, RANDOM, rowsOf } from "./profiles.ts";

const ONE_THREAD = { threads: 1 };

checkRecipe({ recipe: "kvcar", model: SMALL_MODEL, error: 2e-3, append: true, profile: await makeProfile() });
checkRecipe({
  recipe: "kvcar",
  options: { latents: "int8" },
  model: SMALL_MODEL,
  error: 0.02,
  append: true,
  profile: await makeProfile({ preRope: true }),
});

Deno.test("kvcar: with n autoencoders of d_z = D/2 the saving is n/L · (1 − d_z/D), in the file as well", async () => {
  const model: ModelSpec = { ...SMALL_MODEL, layers: 11, kvHeads: 4, keyDim: 8, valueDim: 8 };
  for (const [n, share] of [[5, 0.5], [11, 0.5], [4, 0.25], [0, 0.5]]) {
    const layers = Array.from({ length: n }, (_, i) => i);
    const profile = await makeProfile({ model, layers, share, ...RANDOM });
    const saving = n / 11 * (1 - share);
    assertAlmostEquals(nominalSaving(profile), saving, 1e-12);
    await using codec = await openCodec(profile, ONE_THREAD);
    const { report } = await codec.compress(syntheticCache(40, { model }));
    const all = 2 * 11 * 4 * 8 * 40 * 2;
    assertAlmostEquals(1 - elementBytes(report.streams) / all, saving, 1e-12);
  }
});

Deno.test("kvcar: reuse of slots alone saves slots ÷ (2 · L · H), of the paper's numbers", async () => {
  // GPT-2: 12 layers of 12 heads; 19 keys, 25 values, 36 in all: 6.59 %, 8.68 %, 12.5 %.
  const model: ModelSpec = { ...SMALL_MODEL, layers: 12, kvHeads: 12, keyDim: 2, valueDim: 2, rope: null };
  const slots = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, i) => {
      // Odd layers reuse the heads of the even layers before them.
      const source = 24 * (i % 6) + Math.floor(i / 6);
      return [source + 12, source];
    }));
  for (const [key, value, paper] of [[19, 0, 6.59], [0, 25, 8.68], [18, 18, 12.5], [72, 0, 25], [72, 72, 50]]) {
    const profile = await makeProfile({ model, layers: [], reuse: { key: slots(key), value: slots(value) } });
    assertAlmostEquals(nominalSaving(profile), (key + value) / 288, 1e-12);
    assertLess(Math.abs(100 * nominalSaving(profile) - paper), 0.01);
    await using codec = await openCodec(profile, ONE_THREAD);
    const { report } = await codec.compress(syntheticCache(10, { model }));
    assertEquals(elementBytes(report.streams), (288 - key - value) * 2 * 10 * 2);
  }
});

Deno.test("kvcar: reused slots have their source's elements, in any range of layers; raw layers keep every bit", async () => {
  const reuse = { key: { 2: 0, 4: 0 }, value: { 3: 1, 5: 1, 4: 2 } };
  const profile = await makeProfile({ layers: [0], reuse });
  const cache = syntheticCache(60);
  await using codec = await openCodec(profile, ONE_THREAD);
  const { bytes, cache: back } = await roundTrip(codec, cache, {});
  for (const [slot, source] of Object.entries(reuse.key)) {
    assertEquals(back.key(Number(slot) >> 1, Number(slot) & 1), back.key(source >> 1, source & 1));
  }
  for (const [slot, source] of Object.entries(reuse.value)) {
    assertEquals(back.value(Number(slot) >> 1, Number(slot) & 1), back.value(source >> 1, source & 1));
  }
  assertEquals(back.key(1, 1), cache.key(1, 1));
  assertEquals(back.value(1, 0), cache.value(1, 0));
  const last = (await codec.decompress(bytes, { layers: [2, 3] })).cache;
  assert(last.equals(back.sliceLayers(2, 3)));
});

// The defining step is the network: without its LeakyReLU, a bias or a layer this fails.
Deno.test("kvcar: latents and restored rows are those of the network, computed in float64", async () => {
  for (const slope of [0.01, 0.3]) {
    const profile = await makeProfile({ layers: [1], share: 0.5, slope, ...RANDOM });
    const cache = syntheticCache(9, { dtype: "f32" });
    await using codec = await openCodec(profile, ONE_THREAD);
    const { cache: back } = await roundTrip(codec, cache, {});
    for (const kind of KINDS) {
      const [a, b] = [cache, back].map((c) => rowsOf(toFloat32(c.read(kind, 0, 9), "f32"), SMALL_MODEL, kind, 1, 9));
      a.forEach((row, t) => {
        const { z, decode } = network(profile.kinds[kind].autoencoders[0], slope, row);
        const wanted = decode(z.map((v) => f16ToNumber(numberToF16(v))));
        // A latent at the middle of two numbers of binary16 may be rounded to either.
        wanted.forEach((v, i) => assertLess(Math.abs(v - b[t][i]), 2e-3, `${kind} ${t} ${i}`));
        assertNotEquals(row, b[t]);
      });
    }
  }
});

Deno.test("kvcar: a linear autoencoder is a projection, before RoPE or after it", async () => {
  const cache = syntheticCache(20, { dtype: "f32", firstPosition: 77 });
  for (const preRope of [false, true]) {
    const profile = await makeProfile({ layers: [2], share: 0.5, preRope });
    await using codec = await openCodec(profile, ONE_THREAD);
    const { cache: back } = await roundTrip(codec, cache, {});
    const kind = preRope ? "value" : "key";
    const [a, b] = [cache, back].map((c) => rowsOf(toFloat32(c.read(kind, 0, 20), "f32"), SMALL_MODEL, kind, 2, 20));
    const inputs = a[0].length;
    const p = orthonormalRows(inputs / 2, inputs, 20 + kind.length);
    a.forEach((row, t) => {
      const z = p.map((basis) => basis.reduce((sum, v, i) => sum + v * row[i], 0));
      b[t].forEach((v, i) => assertLess(Math.abs(v - p.reduce((sum, basis, c) => sum + basis[i] * z[c], 0)), 5e-3));
    });
    // Moved elsewhere, keys before RoPE are the same keys; the projection of rotated ones does not commute with it.
    const there = syntheticCache(20, { dtype: "f32", firstPosition: 500 });
    const moved = (await codec.decompress((await codec.compress(cache)).bytes, { firstPosition: 500 })).cache;
    const anew = (await roundTrip(codec, there, {})).cache;
    const difference = Math.max(
      ...toFloat32(moved.read("key", 0, 20), "f32").map((x, i) =>
        Math.abs(x - toFloat32(anew.read("key", 0, 20), "f32")[i])
      ),
    );
    assertEquals(difference < 5e-3, preRope);
  }
});

Deno.test("int8 latents (Eq. 4): within a step of the row's range over 255, ends included", () => {
  const numbers = fc.array(fc.float({ min: -60000, max: 60000, noNaN: true }), { minLength: 1, maxLength: 40 });
  fc.assert(fc.property(numbers, (list) => {
    const row = Float32Array.from(list);
    const codes = new Uint8Array(row.length);
    const [minBits, maxBits] = encodeLatent(row, codes);
    const [min, max] = [f16ToNumber(minBits), f16ToNumber(maxBits)];
    assert(row.every((x) => x >= min && x <= max));
    const back = new Float32Array(row.length);
    decodeLatent(codes, minBits, maxBits, back);
    const step = (max - min) / 255;
    row.forEach((x, i) => assertLess(Math.abs(x - back[i]), step * 1.001 + Math.abs(x) * 1e-6 + 1e-30));
  }));
  // By hand: scale 255 ÷ 2, zp = −round(−127.5) − 128 = −1.
  const codes = new Uint8Array(3);
  assertEquals(encodeLatent(Float32Array.of(-1, 0, 1), codes), [numberToF16(-1), numberToF16(1)]);
  assertEquals([...new Int8Array(codes.buffer)], [-128, -1, 127]);
});

Deno.test("kvcar: int8 halves the latents for four bytes a row", async () => {
  const profile = await makeProfile({ layers: [0, 1], share: 0.5 });
  await using codec = await openCodec(profile, ONE_THREAD);
  const f16 = (await codec.compress(syntheticCache(50))).report.streams;
  const int8 = (await codec.compress(syntheticCache(50), { latents: "int8" })).report.streams;
  assertEquals([f16.KLAT, f16.KSCL ?? 0], [2 * 50 * 10 * 2, 0]);
  assertEquals([int8.KLAT, int8.KSCL], [50 * 10 * 2, 50 * 4 * 2]);
});

Deno.test("kvcar: refuses a missing profile, one of another model, and latents beyond binary16", async () => {
  await using bare = await openCodec(null, ONE_THREAD);
  await assertRejects(() => bare.compress(syntheticCache(5), { recipe: "kvcar" }), KvzMismatchError, "needs a profile");
  await using codec = await openCodec(await makeProfile(), ONE_THREAD);
  await assertRejects(
    () => codec.compress(syntheticCache(5, { model: { ...SMALL_MODEL, layers: 4 } })),
    KvzMismatchError,
    "layers is 4",
  );
  const next = random(3);
  const large = cacheOf(SMALL_MODEL, 8, "f32", (kind, layer) => kind === "key" && layer === 2 ? 1e6 * next() : 1);
  await assertRejects(() => codec.compress(large), KvzUnsupportedError, "key of layer 2, head 0, token 0");
});
