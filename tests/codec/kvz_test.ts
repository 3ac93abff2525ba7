import { assert, assertEquals, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { createBackend } from "../../src/backend/select.ts";
import { mapHeads } from "../../src/cache/cast.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import { openCodec } from "../../src/codec/open.ts";
import type { CompressOptions } from "../../src/codec/options.ts";
import { KvzFormatError, KvzMismatchError, KvzUnsupportedError } from "../../src/errors.ts";
import { parseProfile, serializeProfile } from "../../src/profile/profile_format.ts";
import { trimKvzProfile } from "../../src/profile/kvz/trim.ts";
import { kvz } from "../../src/recipes/kvz.ts";
import { decodeStream, rawStream } from "../../src/stages/entropy/deflate.ts";
import { stepOf } from "../../src/stages/quantize/trellis/step.ts";
import { SMALL_MODEL, syntheticCache, syntheticProfile } from "../synthetic.ts";
import { BACKENDS } from "./backends.ts";
import { relativeError } from "./helpers.ts";
import { smallKvzProfile } from "./kvz_profile.ts";

const profile = await smallKvzProfile();

Deno.test("a file decodes to the same bits on every backend and thread count", async () => {
  const cache = syntheticCache(530, { seed: 9 });
  await using reference = await openCodec(profile, { backend: "reference" });
  const { bytes } = await reference.compress(cache);
  const { cache: wanted } = await reference.decompress(bytes);
  for (const [name, options] of [...BACKENDS.slice(1), ["threads", { threads: 3 }] as const]) {
    await using codec = await openCodec(profile, options);
    assert((await codec.decompress(bytes)).cache.equals(wanted), name);
    // Coefficients are float32 and may differ in their last bits; what one build encodes twice is the same.
    const again = (await codec.compress(cache)).bytes;
    assertEquals(again, (await codec.compress(cache)).bytes, name);
    const [a, b] = [await codec.decompress(again), await reference.decompress(again)];
    assert(a.cache.equals(b.cache), name);
  }
});

Deno.test("sinks, window and chunks restore to the same bits on every backend, at other positions too", async () => {
  await using reference = await openCodec(profile, { backend: "reference" });
  for (const dtype of ["f16", "bf16", "f32"] as const) {
    const cache = syntheticCache(130, { seed: 9, dtype, firstPosition: 77 });
    const { bytes } = await reference.compress(cache, { sinks: 40, window: 30 });
    for (const options of [{}, { firstPosition: 5000 }, { firstPosition: 3, dtype: "f32" }] as const) {
      const { cache: wanted } = await reference.decompress(bytes, options);
      for (const [name, backend] of BACKENDS.slice(1)) {
        await using codec = await openCodec(profile, backend);
        assert((await codec.decompress(bytes, options)).cache.equals(wanted), `${name}, ${dtype}`);
      }
    }
  }
});

Deno.test("finer steps cost bytes and lower the error", async () => {
  await using codec = await openCodec(profile);
  const cache = syntheticCache(600, { seed: 10 });
  let last = { bytes: Infinity, error: 0 };
  for (const quality of ["high", "balanced", "small"] as const) {
    const { bytes } = await codec.compress(cache, { quality });
    const { cache: back } = await codec.decompress(bytes);
    const error = relativeError(cache, back, "key", 1, 600) + relativeError(cache, back, "value", 1, 600);
    assert(bytes.length < last.bytes && error > last.error, `${quality}: ${bytes.length} bytes, error ${error}`);
    last = { bytes: bytes.length, error };
  }
});

Deno.test("option ratio hits the ratio of the whole file", async () => {
  await using codec = await openCodec(profile);
  const cache = syntheticCache(1100, { seed: 12 });
  for (const ratio of [15, 25]) {
    const { report } = await codec.compress(cache, { ratio });
    assert(Math.abs(Math.log(report.fileRatio / ratio)) < 0.03, `${report.fileRatio}`);
  }
  await assertRejects(() => codec.compress(cache, { ratio: 15, step: 0.1 }), TypeError, "together");
  await assertRejects(() => codec.compress(cache, { ratio: 1e6 }), RangeError, "nearest");
});

Deno.test("appending leaves the tokens before as they were", async () => {
  await using codec = await openCodec(profile);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 2, maxLength: 4 }), async (parts) => {
      const total = parts.reduce((a, b) => a + b, 0);
      const cache = syntheticCache(total, { seed: total });
      let end = parts[0];
      let { bytes } = await codec.compress(cache.slice(0, end));
      let old = (await codec.decompress(bytes)).cache;
      for (const part of parts.slice(1)) {
        const grown = await codec.append(bytes, cache.slice(end, end + part));
        assertEquals(bytes.subarray(0, grown.report.keptBytes), grown.bytes.subarray(0, grown.report.keptBytes));
        const restored = (await codec.decompress(grown.bytes)).cache;
        // A first token alone is stored raw and becomes a sink when others follow.
        if (end > 1) assert(restored.slice(0, end).equals(old));
        for (const kind of ["key", "value"] as const) {
          assert(relativeError(cache, restored, kind, end, end + part) < 0.6);
        }
        [bytes, old, end] = [grown.bytes, restored, end + part];
      }
    }),
    { numRuns: 8 },
  );
});

Deno.test("prefixes, layers, other positions and element types", async () => {
  await using codec = await openCodec(profile);
  const cache = syntheticCache(700, { seed: 13 });
  const { bytes } = await codec.compress(cache, { window: 20 });
  const { cache: whole } = await codec.decompress(bytes);
  for (const tokens of [0, 1, 2, 300, 513, 690, 700]) {
    const { cache: part } = await codec.decompress(bytes, { tokens });
    assert(part.equals(whole.slice(0, tokens)), `${tokens} tokens`);
  }
  const { cache: layers } = await codec.decompress(bytes, { layers: [1, 3] });
  assert(layers.equals(whole.sliceLayers(1, 3)));
  for await (const { layer, key, value } of codec.layers(bytes)) {
    const one = whole.sliceLayers(layer, layer + 1);
    assertEquals(key, one.read("key", 0, 700));
    assertEquals(value, one.read("value", 0, 700));
  }
  const { cache: moved } = await codec.decompress(bytes, { firstPosition: 1000, dtype: "f32" });
  assertEquals([moved.dtype, moved.positions[0]], ["f32", 1000]);
  assert(relativeError(syntheticCache(700, { seed: 13, firstPosition: 1000 }), moved, "key", 0, 700) < 0.6);
});

Deno.test("tiny caches: none, one and two tokens", async () => {
  await using codec = await openCodec(profile);
  for (const tokens of [0, 1, 2, 3]) {
    const cache = syntheticCache(tokens, { inputIds: tokens > 0 });
    const { bytes } = await codec.compress(cache);
    const { cache: back } = await codec.decompress(bytes);
    assertEquals(back.tokens, tokens);
    if (tokens < 2) assert(back.equals(cache));
  }
});

Deno.test("chunks of one and two tokens, at the borders of whole ones: the same bytes from any number of threads", async () => {
  await using one = await openCodec(profile);
  await using three = await openCodec(profile, { threads: 3 });
  for (const tokens of [2, 512, 513, 514, 515, 1025, 1026]) {
    const cache = syntheticCache(tokens, { seed: tokens });
    const { bytes } = await one.compress(cache, { recent: 0 });
    assertEquals((await three.compress(cache, { recent: 0 })).bytes, bytes, `${tokens} tokens`);
    const { cache: back } = await one.decompress(bytes);
    assert(relativeError(cache, back, "key", Math.max(0, tokens - 2), tokens) < 0.6, `${tokens} tokens`);
    for (const layers of [[0, 1], [1, 3], [2, 3]] as const) {
      const { cache: part } = await three.decompress(bytes, { layers, tokens: tokens - 1 });
      assert(
        part.equals(back.slice(0, tokens - 1).sliceLayers(layers[0], layers[1])),
        `${tokens} tokens, layers ${layers}`,
      );
    }
  }
});

/** The same cache with values and keys multiplied. */
function scaled(cache: KvCache, factor: number): KvCache {
  const grow = (bytes: Uint8Array) => {
    const values = new Float32Array(bytes.slice().buffer).map((value) => factor * value);
    return new Uint8Array(values.buffer);
  };
  return mapHeads(cache, {}, ({ key, value, positions }) => ({ key: grow(key), value: grow(value), positions }));
}

Deno.test("values far beyond the calibration's come back within a coarser step", async () => {
  await using codec = await openCodec(profile);
  const cache = syntheticCache(100, { seed: 3, dtype: "f32" });
  for (const [factor, sinks] of [[1e4, 1], [1e6, 1], [1e11, 0]]) {
    const large = scaled(cache, factor);
    const { bytes } = await codec.compress(large, { sinks });
    const { cache: back } = await codec.decompress(bytes);
    assert(relativeError(large, back, "value", 1, 100) < 0.6, `${factor}`);
    assert(!back.equals(cache));
  }
});

Deno.test("values too large for the format are refused when they are compressed, not when they are restored", async () => {
  await using codec = await openCodec(profile);
  const cache = syntheticCache(30, { seed: 3, dtype: "f32" });
  for (const factor of [1e9, 1e15, 1e30, 1e37]) {
    await assertRejects(() => codec.compress(scaled(cache, factor)), KvzUnsupportedError, "too large for");
  }
  for (const factor of [1e15, 1e30, 1e37]) {
    await assertRejects(
      () => codec.compress(scaled(cache, factor), { sinks: 0 }),
      KvzUnsupportedError,
      "too large for",
    );
  }
});

Deno.test("profiles: wrong method, no curve", async () => {
  const cache = syntheticCache(100);
  await using codec = await openCodec(profile);
  await assertRejects(() => codec.compress(cache, { recipe: "kvtc" }), KvzMismatchError, "for recipe kvz");
  await assertRejects(() => codec.compress(cache, { maxKl: 0.1 }), KvzMismatchError, "no measured curve");
  await using kvtc = await openCodec(syntheticProfile());
  await assertRejects(() => kvtc.compress(cache, { recipe: "kvz" }), KvzMismatchError, "for recipe kvtc");
  await using curved = await openCodec({
    ...profile,
    curve: [{ s: 100, kl: 0.1, bits: 90 }, { s: 160, kl: 0.01, bits: 150 }],
  });
  // The middle of the curve on its logarithms, and its ends.
  const sizesAt = async (options: CompressOptions) => (await curved.compress(cache, options)).report.streams;
  assertEquals(await sizesAt({ maxKl: Math.sqrt(0.001) }), await sizesAt({ step: 2 ** (-130 / 60) }));
  assertEquals(await sizesAt({ maxKl: 5 }), await sizesAt({ step: 2 ** (-100 / 60) }));
  assertEquals(await sizesAt({ quality: "balanced" }), await sizesAt({ maxKl: 0.035 }));
  await assertRejects(() => curved.compress(cache, { maxKl: 0.009 }), KvzMismatchError, "ends at 0.01");
  await using coarse = await openCodec({ ...profile, curve: [{ s: 100, kl: 0.1, bits: 90 }] });
  assertEquals(
    (await coarse.compress(cache, { quality: "high" })).report.streams,
    await sizesAt({ step: 2 ** (-100 / 60) }),
  );
});

Deno.test("damaged files are refused by typed errors", async () => {
  await using codec = await openCodec(profile);
  const file = (await codec.compress(syntheticCache(600))).bytes;
  await fc.assert(
    fc.asyncProperty(fc.nat(file.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
      const damaged = file.slice();
      damaged[at] ^= change;
      await assertRejects(() => codec.decompress(damaged), KvzFormatError);
      await assertRejects(() => codec.decompress(file.subarray(0, at)), KvzFormatError);
    }),
    { numRuns: 60 },
  );
});

Deno.test("streams of a chunk that no encoder makes: all backends refuse them, or restore the same", async () => {
  const facts = {
    model: SMALL_MODEL,
    storedDType: "f16",
    dtype: "f16",
    openBackend: () => createBackend(),
  } as const;
  const setup = await kvz.planSetup(profile, facts, kvz.parseOptions({ step: 0.05 }));
  const coders = await Promise.all(BACKENDS.map(async ([, options]) => kvz.open(await createBackend(options), setup)));
  const cache = syntheticCache(40);
  const streams = await coders[0].encode({
    op: "encode",
    settings: setup.settings,
    after: 0,
    region: "chunk",
    kinds: ["key", "value"],
    begin: 0,
    tokens: 40,
    positions: cache.positions,
    data: [cache.read("key", 0, 40), cache.read("value", 0, 40)],
  });
  const seen = { refused: 0, restored: 0 };
  await fc.assert(
    fc.asyncProperty(
      fc.nat(2),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
      // Streams of the right length as often as others, whatever the length of this chunk's are.
      fc.oneof(fc.constant(0), fc.integer({ min: -2, max: 9 })),
      async (which, changes, cut) => {
        const raw = await Promise.all(streams.map(({ tag, ...stream }) => decodeStream(stream, stream.rawLength, tag)));
        const changed = raw.map((whole, i) => {
          if (i !== which) return { ...rawStream(whole), tag: streams[i].tag };
          const bytes = new Uint8Array(Math.max(0, whole.length - cut));
          bytes.set(whole.subarray(0, bytes.length));
          for (const [at, value] of changes) if (bytes.length > 0) bytes[at % bytes.length] = value;
          return { ...rawStream(bytes), tag: streams[i].tag };
        });
        const found = await Promise.all(coders.map(async (coder) => {
          try {
            return await coder.decode({
              op: "decode",
              settings: setup.settings,
              region: "chunk",
              kinds: ["key", "value"],
              tokens: 40,
              positions: cache.positions,
              targetPositions: cache.positions,
              layerBegin: 0,
              layerEnd: SMALL_MODEL.layers,
              streams: changed,
            });
          } catch (error) {
            assert(error instanceof KvzFormatError, `${error}`);
            return "refused";
          }
        }));
        for (const other of found.slice(1)) assertEquals(other, found[0]);
        if (found[0] === "refused") seen.refused++;
        else seen.restored++;
      },
    ),
    { numRuns: 300 },
  );
  assert(seen.refused > 20 && seen.restored > 20, JSON.stringify(seen));
  for (const coder of coders) coder[Symbol.dispose]();
});

Deno.test("a trimmed profile opens what the whole one made at its ratio, and says what it lacks", async () => {
  const trimmed = trimKvzProfile(profile, 600);
  assert(trimmed.components < profile.components && trimmed.fingerprint === profile.fingerprint);
  assert((await serializeProfile(trimmed)).length < (await serializeProfile(profile)).length);
  assertEquals(await parseProfile(await serializeProfile(trimmed)), trimmed);
  const cache = syntheticCache(300);
  await using whole = await openCodec(profile);
  await using small = await openCodec(trimmed);
  const fine = (await whole.compress(cache, { step: stepOf(profile.finestS) })).bytes;
  await assertRejects(() => small.decompress(fine), KvzMismatchError, "components");
  const coarse = (await small.compress(cache)).bytes;
  const [a, b] = [await small.decompress(coarse), await whole.decompress(coarse)];
  assert(a.cache.equals(b.cache));
});
