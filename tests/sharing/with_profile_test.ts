/** KVSharer whose remaining layers a recipe with a profile codes. */
import { assert, assertEquals, assertLess, assertNotEquals, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { KINDS, type ModelSpec } from "../../src/cache/types.ts";
import { inspect } from "../../src/codec/inspect.ts";
import { openCodec } from "../../src/codec/open.ts";
import type { CompressOptions } from "../../src/codec/options.ts";
import { MemorySink, memorySource } from "../../src/container/bytes.ts";
import { FrameReader } from "../../src/container/frame_reader.ts";
import { FrameWriter } from "../../src/container/frame_writer.ts";
import * as errors from "../../src/errors.ts";
import { calibrate } from "../../src/profile/calibrate.ts";
import { calibrateKvz } from "../../src/profile/kvz/calibrate.ts";
import { parseProfile, serializeProfile } from "../../src/profile/profile_format.ts";
import { servedModel } from "../../src/profile/served.ts";
import type { Profile } from "../../src/profile/types.ts";
import { SMALL_MODEL, syntheticCache } from "../synthetic.ts";

const MODEL: ModelSpec = { ...SMALL_MODEL, layers: 5 };
/** Layer 3 takes from 1, layer 4 from 0. */
const MAP = "3:1+4:0";
const SOURCES = [0, 1, 2, 1, 0];
const OWN = [0, 1, 2];

const caches = [1, 2, 3].map((seed) => syntheticCache(700, { model: MODEL, seed }));
const fewer = caches.map((cache) => ownLayers(cache));
const profiles: Readonly<Record<"kvtc" | "kvz", Profile>> = {
  kvtc: await calibrate(caches, { layerMap: MAP, rank: 48, svd: "exact", threads: 1, sampleRows: 256 }),
  kvz: await calibrateKvz(caches, { layerMap: MAP, rank: 48, svd: "exact" }),
};

/** The cache of a model that has only the layers with keys and values of their own. */
function ownLayers(cache: KvCache): KvCache {
  const layers = OWN.map((layer) => {
    const one = cache.sliceLayers(layer, layer + 1);
    return { key: one.read("key", 0, cache.tokens), value: one.read("value", 0, cache.tokens) };
  });
  const { dtype, positions, inputIds } = cache;
  const ids = inputIds === undefined ? {} : { inputIds };
  return new KvCache({ model: { ...cache.model, layers: OWN.length }, dtype, positions, layers, ...ids });
}

Deno.test("calibration with a map is calibration of the layers that it leaves, under a name of its own", async () => {
  const plain = await calibrate(fewer, { rank: 48, svd: "exact", threads: 1, sampleRows: 256 });
  const { kvtc } = profiles;
  assertEquals({ ...kvtc, layerMap: undefined, fingerprint: "" }, { ...plain, layerMap: undefined, fingerprint: "" });
  assertNotEquals(kvtc.fingerprint, plain.fingerprint);
  assertEquals([kvtc.model.layers, kvtc.layerMap], [3, MAP]);
  assertEquals(servedModel(kvtc), MODEL);
  assertEquals(servedModel(plain), { ...MODEL, layers: 3 });
  await assertRejects(() => calibrate(caches, { layerMap: "5:0" }), RangeError, "names layer 5, the model has 5");
  for (const profile of Object.values(profiles)) {
    assertEquals(await parseProfile(await serializeProfile(profile)), profile);
  }
});

Deno.test("a profile's file with a map that is none, or of other layers, is refused", async () => {
  for (const layerMap of ["", "3", "4:0+3:1", "9:1", "1:0+2:1", "3:03"]) {
    const bytes = await serializeProfile({ ...profiles.kvtc, layerMap });
    await assertRejects(() => parseProfile(bytes), errors.KvzFormatError, "layerMap");
  }
});

for (
  const [inner, settings] of [
    ["kvtc", { ratio: 6 }],
    ["kvtc", { window: 0 }],
    ["kvz", {}],
    ["kvz", { step: 0.3, window: 20 }],
  ] as const
) {
  const options: CompressOptions = { recipe: "kvsharer", map: MAP, inner, ...settings };
  Deno.test(`kvsharer with ${inner} ${JSON.stringify(settings)}: own layers as ${inner} restores them alone, others as their sources`, async () => {
    const { layerMap: _, ...alone } = profiles[inner];
    await using codec = await openCodec(profiles[inner], { threads: 1 });
    await using plain = await openCodec(alone as Profile, { threads: 1 });
    const cache = syntheticCache(900, { model: MODEL, seed: 9, firstPosition: 11 });
    const { bytes, report } = await codec.compress(cache, options);
    const { cache: back } = await codec.decompress(bytes);
    const { bytes: expected } = await plain.compress(ownLayers(cache), { recipe: inner, ...settings });
    const { cache: wanted } = await plain.decompress(expected);
    SOURCES.forEach((source, layer) => {
      for (const kind of KINDS) {
        const own = back.sliceLayers(layer, layer + 1).read(kind, 0, 900);
        assertEquals(own, wanted.sliceLayers(source, source + 1).read(kind, 0, 900), `${kind}s of layer ${layer}`);
      }
    });
    // The same streams, but for a header that names the map.
    assertLess(bytes.length - expected.length, 200);
    assertEquals(report.recipe, "kvsharer");
    const { header } = await inspect(bytes, { verify: true });
    assertEquals([header.model.layers, header.profileFingerprint], [5, profiles[inner].fingerprint]);

    const some = (await codec.decompress(bytes, { layers: [2, 5], tokens: 800, firstPosition: 400 })).cache;
    const moved = (await plain.decompress(expected, { tokens: 800, firstPosition: 400 })).cache;
    [2, 1, 0].forEach((source, i) => {
      for (const kind of KINDS) {
        const [a, b] = [some.sliceLayers(i, i + 1), moved.sliceLayers(source, source + 1)];
        assertEquals(a.read(kind, 0, 800), b.read(kind, 0, 800));
      }
    });
    for await (const { layer, key, value } of codec.layers(bytes)) {
      const own = back.sliceLayers(layer, layer + 1);
      assertEquals([key, value], [own.read("key", 0, 900), own.read("value", 0, 900)]);
    }
    await using two = await openCodec(profiles[inner], { threads: 2 });
    assertEquals((await two.compress(cache, options)).bytes, bytes);

    const begun = await codec.compress(cache.slice(0, 700), options);
    const grown = await codec.append(begun.bytes, cache.slice(700, 900));
    assertEquals((await codec.decompress(grown.bytes)).cache.tokens, 900);
  });
}

Deno.test("kvsharer with kvtc: profiles of all layers, of another map, of another recipe or none are refused by name", async () => {
  const cache = syntheticCache(300, { model: MODEL });
  const options: CompressOptions = { recipe: "kvsharer", map: MAP, inner: "kvtc" };
  const refused = async (profile: Profile | null, more: object, words: string) => {
    await using codec = await openCodec(profile, { threads: 1 });
    const compress = () => codec.compress(cache, { ...options, ...more } as CompressOptions);
    await assertRejects(compress, errors.KvzMismatchError, words);
  };
  const whole = await calibrate(caches, { rank: 20, svd: "exact", threads: 1, sampleRows: 64 });
  await refused(whole, {}, `it is of all layers, expected those that map ${MAP} leaves`);
  await refused(
    profiles.kvtc,
    { map: "2:1+4:0" },
    `it is of the layers that map ${MAP} leaves, expected those that map 2:1`,
  );
  await refused(profiles.kvtc, { inner: "kvz" }, "it is for recipe kvtc, expected one for recipe kvz");
  await refused(
    profiles.kvtc,
    { recipe: "kvtc", map: undefined, inner: undefined },
    "for recipe kvsharer with inner kvtc",
  );
  await refused(null, {}, "it needs a profile, none is given");
  await using mapless = await openCodec(profiles.kvtc, { threads: 1 });
  const without = { recipe: "kvsharer", inner: "kvtc" } as const;
  await assertRejects(() => mapless.compress(cache, without), TypeError, 'option "map" is missing');
  await using codec = await openCodec(profiles.kvtc, { threads: 1 });
  const { bytes } = await codec.compress(cache, options);
  await using other = await openCodec(whole, { threads: 1 });
  await assertRejects(() => other.decompress(bytes), errors.KvzMismatchError, "was made with profile");
  await using bare = await openCodec(null, { threads: 1 });
  await assertRejects(() => bare.decompress(bytes), errors.KvzMismatchError, "5 layers");
  for (const more of [{ quality: "high" }, { step: 1 }, { ratio: 0.5 }, { sinks: 2 }]) {
    await assertRejects(() => codec.compress(cache, { ...options, ...more } as CompressOptions), RangeError);
  }
});

Deno.test("kvsharer with kvtc: NaN is told with its layer in the model; damaged streams give typed errors", async () => {
  await using codec = await openCodec(profiles.kvtc, { threads: 1 });
  const options: CompressOptions = { recipe: "kvsharer", map: "2:0+3:0", inner: "kvtc", window: 0 };
  const profile = await calibrate(caches, {
    layerMap: "2:0+3:0",
    rank: 20,
    svd: "exact",
    threads: 1,
    sampleRows: 64,
  });
  await using skipping = await openCodec(profile, { threads: 1 });
  const bad = syntheticCache(40, { model: MODEL });
  const layers = Array.from({ length: 5 }, (_, layer) => {
    const one = bad.sliceLayers(layer, layer + 1);
    const value = one.read("value", 0, 40);
    if (layer === 4) value.set([0x00, 0x7e], 2 * (7 * 6));
    return { key: one.read("key", 0, 40), value };
  });
  const { model, dtype, positions } = bad;
  await assertRejects(
    () => skipping.compress(new KvCache({ model, dtype, positions, layers }), options),
    errors.KvzUnsupportedError,
    "value of layer 4, head 0, token 7",
  );
  const { bytes } = await codec.compress(syntheticCache(90, { model: MODEL }), { ...options, map: MAP });
  const reader = await FrameReader.open(memorySource(bytes), "cache");
  const damage = fc.record({ record: fc.nat(), payload: fc.uint8Array({ maxLength: 200 }) });
  await fc.assert(
    fc.asyncProperty(damage, async ({ record, payload }) => {
      const sink = new MemorySink();
      const writer = new FrameWriter(sink, "cache", reader.header);
      await writer.start();
      for (const [i, info] of reader.records.entries()) {
        if (i !== record % reader.records.length) await writer.writeRecord(info, await reader.read(info));
        else await writer.writeRecord({ ...info, codec: "raw", rawLength: payload.length }, payload);
      }
      await writer.finish();
      try {
        await codec.decompress(sink.bytes());
      } catch (error) {
        assert(Object.values(errors).some((kind) => error instanceof kind), `${error}`);
      }
    }),
    { numRuns: 40 },
  );
});
