import { assert, assertEquals, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { mapHeads } from "../../src/cache/cast.ts";
import { openCodec } from "../../src/codec/open.ts";
import { KvzFormatError, KvzMismatchError } from "../../src/errors.ts";
import { parseProfile, serializeProfile } from "../../src/profile/profile_format.ts";
import { trimKvzProfile } from "../../src/profile/kvz/trim.ts";
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

Deno.test("values far beyond the calibration's come back within a coarser step", async () => {
  await using codec = await openCodec(profile);
  const cache = syntheticCache(100, { seed: 3, dtype: "f32" });
  const grow = (bytes: Uint8Array) => {
    const values = new Float32Array(bytes.slice().buffer).map((value) => 1e4 * value);
    return new Uint8Array(values.buffer);
  };
  const large = mapHeads(cache, {}, ({ key, value, positions }) => ({ key: grow(key), value: grow(value), positions }));
  const { bytes } = await codec.compress(large);
  const { cache: back } = await codec.decompress(bytes);
  assert(relativeError(large, back, "value", 1, 100) < 0.6);
  assert(!back.equals(cache));
});

Deno.test("profiles: round trip, wrong method, no curve", async () => {
  const bytes = await serializeProfile(profile);
  assertEquals(await parseProfile(bytes), profile);
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
  const { report } = await curved.compress(cache, { maxKl: 0.03 });
  assert(report.bytesOut > 0);
});

Deno.test("damaged profiles and files are refused by typed errors", async () => {
  const bytes = await serializeProfile(profile);
  await fc.assert(
    fc.asyncProperty(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
      const damaged = bytes.slice();
      damaged[at] ^= change;
      await assertRejects(() => parseProfile(damaged), KvzFormatError);
      await assertRejects(() => parseProfile(bytes.subarray(0, at)), KvzFormatError);
    }),
    { numRuns: 60 },
  );
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

Deno.test("streams of a chunk that no encoder makes: typed errors, whatever the bytes", async () => {
  const { kvz } = await import("../../src/recipes/kvz.ts");
  const { createWasmBackend } = await import("../../src/backend/wasm/create.ts");
  const facts = { model: SMALL_MODEL, storedDType: "f16", dtype: "f16" } as const;
  const encoder = await kvz.open(await createWasmBackend(), await kvz.planSetup(profile, facts, kvz.parseOptions({})));
  const cache = syntheticCache(40);
  const streams = await encoder.encode({
    op: "encode",
    region: "chunk",
    kinds: ["key", "value"],
    begin: 0,
    tokens: 40,
    positions: cache.positions,
    data: [cache.read("key", 0, 40), cache.read("value", 0, 40)],
  });
  await fc.assert(
    fc.asyncProperty(
      fc.nat(2),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
      fc.nat(9),
      async (which, changes, cut) => {
        const changed = streams.map((stream, i) => {
          if (i !== which) return stream;
          const bytes = stream.bytes.slice(0, Math.max(0, stream.bytes.length - cut));
          for (const [at, value] of changes) if (bytes.length > 0) bytes[at % bytes.length] = value;
          return { ...stream, bytes, rawLength: stream.codec === "raw" ? bytes.length : stream.rawLength };
        });
        try {
          const [key] = await encoder.decode({
            op: "decode",
            region: "chunk",
            kinds: ["key", "value"],
            tokens: 40,
            positions: cache.positions,
            targetPositions: cache.positions,
            layerBegin: 0,
            layerEnd: SMALL_MODEL.layers,
            streams: changed,
          });
          assertEquals(key.length, cache.read("key", 0, 40).length);
        } catch (error) {
          assert(error instanceof KvzFormatError, `${error}`);
        }
      },
    ),
    { numRuns: 300 },
  );
  encoder[Symbol.dispose]();
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
