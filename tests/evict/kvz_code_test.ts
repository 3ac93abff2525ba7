/** Evicting recipes whose kept tokens recipe kvz codes. */
import { assert, assertEquals, assertLess, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { densify } from "../../src/cache/densify.ts";
import { toFloat32 } from "../../src/cache/elements.ts";
import { KINDS } from "../../src/cache/types.ts";
import { inspect } from "../../src/codec/inspect.ts";
import { encodeMarks } from "../../src/codec/marks.ts";
import { openCodec } from "../../src/codec/open.ts";
import type { CompressOptions } from "../../src/codec/options.ts";
import { MemorySink, memorySource } from "../../src/container/bytes.ts";
import { FrameReader } from "../../src/container/frame_reader.ts";
import { FrameWriter } from "../../src/container/frame_writer.ts";
import * as errors from "../../src/errors.ts";
import { compositionError } from "../../src/recipes/composition.ts";
import { findRecipe } from "../../src/recipes/registry.ts";
import { type CodedStream, rawStream } from "../../src/stages/entropy/deflate.ts";
import { relativeError } from "../codec/helpers.ts";
import { smallKvzProfile } from "../codec/kvz_profile.ts";
import { SMALL_MODEL, syntheticCache } from "../synthetic.ts";
import { queriedCache } from "./helpers.ts";

const profile = await smallKvzProfile();
const STREAMING: CompressOptions = { recipe: "streamingllm", code: "kvz", capacity: 200 };

Deno.test("streamingllm with kvz: the tokens it keeps, as kvz restores them without the others", async () => {
  await using codec = await openCodec(profile, { threads: 1 });
  const cache = syntheticCache(900, { firstPosition: 30 });
  for (const settings of [{}, { step: 0.2 }, { sinks: 0 }, { sinks: 7, capacity: 600 }] as const) {
    const options = { ...STREAMING, ...settings };
    const { bytes, report } = await codec.compress(cache, options);
    const { cache: back } = await codec.decompress(bytes);
    // All heads keep the same: the cache of these tokens alone, but for the token that kvz keeps as a sink.
    const { sinks = 4, capacity = 200 } = settings as CompressOptions;
    const kept = Array.from(cache.positions.keys()).filter((t) =>
      t < Math.max(sinks, 1) || t >= 900 - capacity + sinks
    );
    for (let layer = 0; layer < 3; layer++) {
      for (let head = 0; head < 2; head++) {
        assertEquals(back.positionsOf(layer, head), Int32Array.from(kept, (t) => cache.positions[t]));
      }
    }
    const { quality, step } = options;
    const plain = { recipe: "kvz", recent: 0, ...(quality ? { quality } : {}), ...(step ? { step } : {}) };
    const all = (await codec.decompress((await codec.compress(cache, plain)).bytes)).cache;
    const dense = densify(back, cache.positions).cache;
    for (const kind of KINDS) {
      // Some of kvz's own error: its references are others now.
      const own = relativeError(cache, all, kind, 900 - capacity + sinks, 900);
      assertLess(relativeError(cache, dense, kind, 900 - capacity + sinks, 900), 1.3 * own);
    }
    for (const kind of KINDS) assertEquals(dense.read(kind, 0, 1), all.read(kind, 0, 1), "the sink");
    assertEquals(report.bytesOut, bytes.length);
    assertLess(bytes.length, 0.9 * (await codec.compress(cache, plain)).bytes.length);
  }
});

Deno.test("streamingllm with kvz: what kvz makes of a cache that never had the other tokens, bit by bit", async () => {
  await using codec = await openCodec(profile, { threads: 1 });
  // Within one chunk of kvz.
  const cache = syntheticCache(500);
  const { bytes } = await codec.compress(cache, { ...STREAMING, sinks: 1 });
  const { cache: back } = await codec.decompress(bytes);
  const first = back.positionsOf(0, 0);
  assertEquals([first.length, first[0], first[1]], [200, 0, 301]);
  const { model, dtype } = cache;
  const alone = densify(back, first).cache;
  const tail = cache.slice(301, 500);
  const coded = await codec.compress(tail, { recipe: "kvz", sinks: 0, recent: 0 });
  const wanted = (await codec.decompress(coded.bytes)).cache;
  for (const kind of KINDS) assertEquals(alone.read(kind, 1, 200), wanted.read(kind, 0, 199));
  assertEquals([alone.model, alone.dtype], [model, dtype]);
});

Deno.test("streamingllm with kvz: the same bits on every backend, from threads, and by all ways of reading", async () => {
  await using codec = await openCodec(profile, { threads: 1 });
  const cache = syntheticCache(1300, { firstPosition: 7 });
  const options = { ...STREAMING, capacity: 700 };
  const { bytes } = await codec.compress(cache, options);
  const { cache: back } = await codec.decompress(bytes);
  await using two = await openCodec(profile, { threads: 2 });
  assertEquals((await two.compress(cache, options)).bytes, bytes);
  await using reference = await openCodec(profile, { backend: "reference" });
  assert((await reference.decompress(bytes)).cache.equals(back));
  const full = densify(back, cache.positions).cache;
  for await (const { layer, key, value } of codec.layers(bytes)) {
    const own = full.sliceLayers(layer, layer + 1);
    assertEquals(key, own.read("key", 0, 1300));
    assertEquals(value, own.read("value", 0, 1300));
  }
  const some = (await codec.decompress(bytes, { layers: [1, 3], tokens: 1000 })).cache;
  const wanted = full.sliceLayers(1, 3);
  const held = densify(some, cache.positions.slice(0, 1000)).cache;
  for (const kind of KINDS) assertEquals(held.read(kind, 0, 1000), wanted.read(kind, 0, 1000));
  const moved = (await codec.decompress(bytes, { firstPosition: 500 })).cache;
  assertEquals(moved.value(1, 1), back.value(1, 1));
  assertEquals(moved.positions, back.positions.map((position) => position + 493));
});

for (
  const settings of [
    { recipe: "snapkv", capacity: 90, window: 16 },
    { recipe: "pyramidkv", keep: 0.4, window: 8, beta: 4 },
    { recipe: "h2o", keep: 0.3 },
  ] as const
) {
  Deno.test(`${settings.recipe} with kvz: heads hold what they hold raw, as kvz restores whole tokens`, async () => {
    await using codec = await openCodec(profile, { threads: 1 });
    const cache = queriedCache(400, 64);
    const raw = (await codec.decompress((await codec.compress(cache, settings)).bytes)).cache;
    const { bytes } = await codec.compress(cache, { ...settings, code: "kvz" });
    const { cache: back } = await codec.decompress(bytes);
    const [x, y] = [raw, back].map((c) => densify(c, cache.positions));
    const all = (await codec.decompress((await codec.compress(cache, { recipe: "kvz", recent: 0 })).bytes)).cache;
    // The oldest token is a sink, for all heads.
    const held = x.bias.map((bias, i) => i % 400 === 0 ? 0 : bias);
    assertEquals(y.bias, held);
    const own = relativeError(cache, all, "value", 1, 400);
    for (const kind of KINDS) {
      const [a, b] = [x, y].map(({ cache: c }) => toFloat32(c.read(kind, 1, 400), c.dtype));
      // Where a head holds no token there are zeros in both.
      let [error, energy] = [0, 0];
      a.forEach((v, i) => {
        error += (v - b[i]) ** 2;
        energy += v * v;
        if (v === 0) assertEquals(b[i], 0);
      });
      assertLess(Math.sqrt(error / energy), 1.5 * own, kind);
    }
    await using two = await openCodec(profile, { threads: 2 });
    assertEquals((await two.compress(cache, { ...settings, code: "kvz" })).bytes, bytes);
    await using reference = await openCodec(profile, { backend: "reference" });
    assert((await reference.decompress(bytes)).cache.equals(back));
  });
}

Deno.test("streamingllm with kvz: a cache within its capacity, one token and none", async () => {
  await using codec = await openCodec(profile, { threads: 1 });
  for (const tokens of [0, 1, 150]) {
    const cache = syntheticCache(tokens);
    const { bytes } = await codec.compress(cache, STREAMING);
    const plain = await codec.compress(cache, { recipe: "kvz", recent: 0 });
    assert((await codec.decompress(bytes)).cache.equals((await codec.decompress(plain.bytes)).cache));
  }
});

Deno.test("code kvz: refused without its profile, with other codes' options, and after channels are gone", async () => {
  await using codec = await openCodec(profile, { threads: 1 });
  await using bare = await openCodec(null, { threads: 1 });
  const cache = queriedCache(300, 64);
  await assertRejects(() => bare.compress(cache, STREAMING), errors.KvzMismatchError, "needs a profile");
  for (
    const [options, kind, words] of [
      [{ ...STREAMING, bits: 4 }, RangeError, '"bits": it is 4, code kvz has none'],
      [{ ...STREAMING, code: "raw", step: 1 }, RangeError, '"step": code raw has none'],
      [{ ...STREAMING, step: 1, quality: "high" }, TypeError, "together"],
      [{ ...STREAMING, quality: "best" }, RangeError, "small, balanced, high"],
      [{ recipe: "think", code: "kvz" }, errors.KvzUnsupportedError, "lack channels now"],
      [{ recipe: "think", after: "snapkv", code: "kvz" }, errors.KvzUnsupportedError, "lack channels now"],
      [{ recipe: "snapkv", code: "kvtc" }, errors.KvzUnsupportedError, "different tokens now"],
    ] as const
  ) {
    await assertRejects(() => codec.compress(cache, options as CompressOptions), kind, words);
  }
  const { bytes } = await codec.compress(cache, STREAMING);
  await assertRejects(() => bare.decompress(bytes), errors.KvzMismatchError, "needs profile");
  await assertRejects(() => codec.append(bytes, syntheticCache(10)), errors.KvzUnsupportedError, "at once");
  assertEquals((await inspect(bytes)).header.profileFingerprint, profile.fingerprint);
  for (const name of ["streamingllm", "h2o", "snapkv", "pyramidkv"]) {
    assertEquals(compositionError(await findRecipe(name), await findRecipe("kvz")), null);
  }
  // What all heads keep alike may be coded by those that cannot do else; there is no code for it yet.
  assertEquals(compositionError(await findRecipe("streamingllm"), await findRecipe("kvtc")), null);
});

Deno.test("streamingllm with kvz: any bytes in its streams and marks give a typed error or a cache", async () => {
  await using codec = await openCodec(profile, { threads: 1 });
  const cache = syntheticCache(260);
  const { bytes } = await codec.compress(cache, { ...STREAMING, capacity: 60 });
  const rows = SMALL_MODEL.layers * SMALL_MODEL.kvHeads;
  const none = await encodeMarks(new Uint8Array(rows * 259), 259);
  await assertRejects(
    async () => codec.decompress(await changed(bytes, "KEPT", none)),
    errors.KvzFormatError,
    "no token is kept",
  );
  const damage = fc.record({
    tag: fc.constantFrom("KEPT", "SIDE", "SYMB", "ESCP"),
    bytes: fc.uint8Array({ maxLength: 300 }),
  });
  await fc.assert(
    fc.asyncProperty(damage, async ({ tag, bytes: payload }) => {
      const file = await changed(bytes, tag, rawStream(payload));
      try {
        await codec.decompress(file);
      } catch (error) {
        assert(Object.values(errors).some((kind) => error instanceof kind), `${error}`);
      }
    }),
    { numRuns: 40 },
  );
});

/** The file with another payload of a record of chunk 0, all checksums right. */
async function changed(file: Uint8Array, tag: string, stream: CodedStream): Promise<Uint8Array> {
  const reader = await FrameReader.open(memorySource(file), "cache");
  const sink = new MemorySink();
  const writer = new FrameWriter(sink, "cache", reader.header);
  await writer.start();
  for (const info of reader.records) {
    const { codec, rawLength, bytes } = info.tag === tag ? stream : { ...info, bytes: await reader.read(info) };
    await writer.writeRecord({ ...info, codec, rawLength }, bytes);
  }
  await writer.finish();
  return sink.bytes();
}
