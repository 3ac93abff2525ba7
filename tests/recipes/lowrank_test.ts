import { assert, assertAlmostEquals, assertEquals, assertGreater, assertLess, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { f16ToNumber, fromFloat32, numberToF16, toFloat32 } from "../../src/cache/elements.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { type Kind, KINDS } from "../../src/cache/types.ts";
import { openCodec } from "../../src/codec/open.ts";
import { memorySource } from "../../src/container/bytes.ts";
import { KvzFormatError, KvzMismatchError, KvzUnsupportedError } from "../../src/errors.ts";
import { importLowRank } from "../../src/profile/lowrank/import.ts";
import type { LowRankProfile } from "../../src/profile/lowrank/types.ts";
import { parseProfile, serializeProfile } from "../../src/profile/profile_format.ts";
import { overlaps } from "../../src/profile/shingles.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";
import golden from "./lowrank_golden.json" with { type: "json" };
import { lowRankProfile, multiply, pseudoinverse, rowsOf, transpose } from "./lowrank_profile.ts";
import { BLOCK_MODEL } from "./models.ts";
import { cacheOf, checkRecipe, roundTrip } from "./recipe_checks.ts";

const RANK = 8;
const PALU = await lowRankProfile("palu", BLOCK_MODEL, RANK);
const RECALKV = await lowRankProfile("recalkv", BLOCK_MODEL, RANK);

checkRecipe({ recipe: "palu", profile: PALU, model: BLOCK_MODEL, error: 0.06, append: true });
checkRecipe({ recipe: "recalkv", profile: RECALKV, model: BLOCK_MODEL, error: 0.06, append: true });
checkRecipe({
  recipe: "recalkv",
  options: { bits: 4 },
  profile: RECALKV,
  model: BLOCK_MODEL,
  error: 0.2,
  append: true,
});

const floats = (text: string) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const ARTEFACT = Uint8Array.from(atob(golden.artefact), (c) => c.charCodeAt(0));
const FITTED = await importLowRank(memorySource(ARTEFACT));

/** The golden model's cache, in float32. */
function goldenCache(): KvCache {
  const { model } = FITTED;
  const { tokens } = golden;
  const layers = Array.from({ length: model.layers }, (_, layer) => {
    const of = (kind: Kind) => {
      const all = floats(golden.cache[kind]);
      const each = all.length / model.layers;
      return fromFloat32(all.slice(layer * each, (layer + 1) * each), "f32");
    };
    return { key: of("key"), value: of("value") };
  });
  return new KvCache({ model, dtype: "f32", positions: Int32Array.from({ length: tokens }, (_, t) => t), layers });
}

function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [error, whole] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    error += (a[i] - b[i]) ** 2;
    whole += b[i] ** 2;
  }
  return Math.sqrt(error / whole);
}

Deno.test("recalkv: from a cache it restores what the factors give from the model's hidden states", async () => {
  await using codec = await openCodec(FITTED, { threads: 1 });
  const cache = goldenCache();
  for (const [bits, most] of [[16, 1e-3], [4, 0.04]] as const) {
    const { cache: back } = await roundTrip(codec, cache, { recipe: "recalkv", bits });
    for (const kind of KINDS) {
      const expected = floats(golden[`${bits}`][kind]);
      const restored = toFloat32(back.read(kind, 0, golden.tokens), "f32");
      assertLess(distance(restored, expected), most, `${kind}s at ${bits} bits`);
      // It is no identity: the factors leave something out.
      assertGreater(distance(expected, floats(golden.cache[kind])), 0.1, kind);
    }
  }
});

Deno.test("recalkv: heads out of their order, or without the bias, are not what the model gives", async () => {
  const cache = goldenCache();
  const changed = (
    change: (map: LowRankProfile["layers"][number]["key"]) => LowRankProfile["layers"][number]["key"],
  ) => ({
    ...FITTED,
    layers: FITTED.layers.map((layer) => ({ ...layer, key: change(layer.key) })),
  } as LowRankProfile<"recalkv">);
  const natural = changed((map) => {
    let head = 0;
    return { ...map, groups: map.groups.map((group) => ({ ...group, heads: group.heads.map(() => head++) })) };
  });
  const unbiased = changed((map) => ({ ...map, bias: null }));
  for (const profile of [natural, unbiased]) {
    await using codec = await openCodec(profile, { threads: 1 });
    const { cache: back } = await roundTrip(codec, cache, { recipe: "recalkv" });
    const restored = toFloat32(back.read("key", 0, golden.tokens), "f32");
    assertGreater(distance(restored, floats(golden["16"].key)), 0.1);
  }
});

Deno.test("palu, recalkv: the error is what the decoder's columns do not span, and no latents would leave less", async () => {
  for (const profile of [PALU, RECALKV]) {
    await using codec = await openCodec(profile, { threads: 1 });
    const cache = syntheticCache(12, { model: BLOCK_MODEL, dtype: "f32", seed: 4 });
    const { cache: back } = await roundTrip(codec, cache, { recipe: profile.method });
    for (const kind of KINDS) {
      for (const [layer, maps] of profile.layers.entries()) {
        for (const { heads, rank, decoder } of maps[kind].groups) {
          const width = decoder.length / rank;
          const l = Array.from(
            { length: width },
            (_, i) => Array.from(decoder.subarray(i * rank, (i + 1) * rank), f16ToNumber),
          );
          const rows = rowsOf(cache, kind, layer, heads);
          const span = multiply(multiply(rows, transpose(pseudoinverse(l))), transpose(l));
          const restored = rowsOf(back, kind, layer, heads);
          assertLess(distance(restored.flat(), span.flat()), 1e-3);
        }
      }
    }
  }
});

Deno.test("palu: bytes are those of the latents: the ratio is that of the numbers removed", async () => {
  await using codec = await openCodec(PALU, { threads: 1 });
  const cache = syntheticCache(300, { model: BLOCK_MODEL });
  const numbers = 2 * 2 * (64 + 32);
  const latents = 2 * 2 * 2 * RANK;
  assertAlmostEquals(PALU.fit.removed, 1 - latents / numbers);
  const whole = await codec.compress(cache, { recipe: "palu" });
  assertEquals(whole.report.paperRatio, numbers / latents);
  const few = await codec.compress(cache, { recipe: "palu", bits: 4 });
  // 8 numbers of 4 bits and 16 bits of scale.
  assertEquals(few.report.paperRatio, numbers * 16 / (2 * 2 * 2 * (RANK * 4 + 16)));
});

Deno.test("palu: latents of few bits as the authors' quantizer makes them", async () => {
  // Latents are the elements themselves.
  const model = { ...BLOCK_MODEL, layers: 1, kvHeads: 1, keyDim: 8, valueDim: 8, rope: null };
  const identity = Float32Array.from({ length: 64 }, (_, i) => i % 9 === 0 ? 1 : 0);
  const group = { heads: [0], rank: 8, decoder: Uint16Array.from(identity, numberToF16), projector: identity };
  const map = { groups: [group], bias: null };
  const profile: LowRankProfile<"palu"> = { ...PALU, model, layers: [{ key: map, value: map }] };
  await using codec = await openCodec(profile, { threads: 1 });
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.float({ min: -1000, max: 1000, noNaN: true }), { minLength: 8, maxLength: 8 }),
      fc.constantFrom(2, 3, 4, 8),
      async (x, bits) => {
        const cache = cacheOf(model, 1, "f32", (_k, _l, _h, _t, i) => x[i]);
        const { cache: back } = await roundTrip(codec, cache, { recipe: "palu", bits });
        const most = 2 ** (bits - 1) - 1;
        const scale = f16ToNumber(numberToF16(Math.max(1e-5, ...x.map(Math.abs)) / most));
        toFloat32(back.read("key", 0, 1), "f32").forEach((y, i) => {
          // Within half a step, and a little beyond for the largest, whose scale was rounded: to 11 bits, or to 2^-24.
          assertLess(Math.abs(y - x[i]), scale * (0.5 + most * 2 ** -11) + most * 2 ** -25 + 1e-6);
          assertAlmostEquals(y / scale, Math.round(y / scale), 1e-4);
        });
      },
    ),
  );
});

Deno.test("palu, recalkv: refuse what is not theirs", async () => {
  const cache = syntheticCache(20, { model: BLOCK_MODEL });
  await using none = await openCodec(null, { threads: 1 });
  await assertRejects(() => none.compress(cache, { recipe: "palu" }), KvzMismatchError, "it needs a profile");
  await using codec = await openCodec(PALU, { threads: 1 });
  const told = "it is for recipe palu, expected one for recipe recalkv";
  await assertRejects(() => codec.compress(cache, { recipe: "recalkv" }), KvzMismatchError, told);
  await assertRejects(() => codec.compress(cache, { bits: 5 }), RangeError, "expected 16, 8, 4, 3, 2");
  await assertRejects(() => codec.compress(syntheticCache(20)), KvzMismatchError, "different models");
  const large = cacheOf(BLOCK_MODEL, 3, "f32", (_k, _l, _h, t) => t === 2 ? 1e9 : 1);
  await assertRejects(() => codec.compress(large), KvzUnsupportedError, "layer 0, head 0, token 2 or near it");
  const { bytes } = await codec.compress(cache);
  const other = await lowRankProfile("palu", BLOCK_MODEL, 4);
  await using second = await openCodec(other, { threads: 1 });
  await assertRejects(() => second.decompress(bytes), KvzMismatchError, "was made with profile");
});

Deno.test("profiles of palu and recalkv: written and read, damage refused", async () => {
  for (const profile of [PALU, RECALKV, FITTED]) {
    const bytes = await serializeProfile(profile);
    assertEquals(await parseProfile(bytes), profile);
    for (let length = 0; length < bytes.length; length += Math.ceil(bytes.length / 40)) {
      await assertRejects(() => parseProfile(bytes.subarray(0, length)), KvzFormatError);
    }
  }
  for (
    const [layers, told] of [
      [[], "layers is no array of 2"],
      [[{ key: [[[0], 8]], value: [[[0, 1], 8]] }, 1], "each of 2 heads stands once"],
      [[{ key: [[[0, 0], 8]], value: [[[0, 1], 8]] }, 1], "each of 2 heads stands once"],
      [[{ key: [[[0, 1], 129]], value: [[[0, 1], 8]] }, 1], "ranks up to heads · 64"],
    ] as const
  ) {
    const { parseShapes } = await import("../../src/profile/lowrank/format.ts");
    let error: unknown;
    try {
      parseShapes(layers as never, BLOCK_MODEL, "profile");
    } catch (caught) {
      error = caught;
    }
    assert(error instanceof KvzFormatError && error.message.includes(told), `${error}`);
  }
});

Deno.test("artefacts of tools/recalkv.py: calibration is known, damage refused with its place", async () => {
  assertEquals(FITTED.method, "recalkv");
  assertEquals(FITTED.calibration, { tokens: 192, sinks: 0, sequences: 3, seed: 0 });
  assertEquals(FITTED.fit.rows, "tokens");
  assert(FITTED.layers.some(({ key }) => key.groups.flatMap(({ heads }) => heads).some((head, i) => head !== i)));
  assertEquals(FITTED.layers.map(({ value }) => value.groups.length), [1, 1]);
  assertEquals(FITTED.shingles.length, 6);
  assertEquals(overlaps(new Int32Array(100), FITTED.shingles), -1);
  for (let length = 0; length < ARTEFACT.length; length += 997) {
    await assertRejects(() => importLowRank(memorySource(ARTEFACT.subarray(0, length))), KvzFormatError);
  }
  const text = new TextDecoder("latin1").decode(ARTEFACT);
  const edit = (from: string, to: string) => {
    assert(text.includes(from) && from.length === to.length);
    return memorySource(Uint8Array.from(text.replace(from, to), (c) => c.charCodeAt(0)));
  };
  await assertRejects(
    () => importLowRank(edit("layers.1.key.decoder.0", "layers.1.key.decodes.0")),
    KvzFormatError,
    "layers.1.key.decoder.0 is nothing, expected F16",
  );
  await assertRejects(() => importLowRank(edit('"method":"recalkv"', '"method":"another"')), KvzFormatError, "method");
  await assertRejects(() => parseProfile(ARTEFACT), KvzFormatError);
  await assertRejects(
    () =>
      openCodec(syntheticProfile(), { threads: 1 }).then(async (codec) => {
        await using open = codec;
        await open.compress(syntheticCache(9), { recipe: "palu" });
      }),
    KvzMismatchError,
    "expected one for recipe palu",
  );
});
