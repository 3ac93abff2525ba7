import { assert, assertEquals, assertRejects, assertStringIncludes } from "deno-std/assert";
import fc from "fast-check";
import { MemorySink, memorySource } from "../../src/container/bytes.ts";
import { FrameReader } from "../../src/container/frame_reader.ts";
import { FrameWriter } from "../../src/container/frame_writer.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { inspect } from "../../src/codec/inspect.ts";
import { openCodec } from "../../src/codec/open.ts";
import { KvzFormatError, KvzLimitError, KvzMismatchError, KvzUnsupportedError } from "../../src/errors.ts";
import { SMALL_MODEL, syntheticCache, syntheticProfile } from "../synthetic.ts";

const profile = syntheticProfile();

/** A cache whose key at (layer, head, token, dimension) has other binary16 bits. */
function poisoned(layer: number, head: number, token: number, dimension: number, bits: number): KvCache {
  const cache = syntheticCache(300);
  const layers = Array.from({ length: SMALL_MODEL.layers }, (_, l) => ({
    key: cache.sliceLayers(l, l + 1).read("key", 0, 300),
    value: cache.sliceLayers(l, l + 1).read("value", 0, 300),
  }));
  const at = ((head * 300 + token) * SMALL_MODEL.keyDim + dimension) * 2;
  layers[layer].key[at] = bits & 0xff;
  layers[layer].key[at + 1] = bits >> 8;
  return new KvCache({ model: SMALL_MODEL, dtype: "f16", positions: cache.positions, layers });
}

Deno.test("NaN and infinities before the window are refused by name, inside it they stay", async () => {
  await using codec = await openCodec(profile);
  for (const [token, bits] of [[2, 0x7e01], [100, 0x7c00], [100, 0xfc00], [171, 0xfe00]]) {
    await assertRejects(
      () => codec.compress(poisoned(1, 1, token, 3, bits)),
      KvzUnsupportedError,
      `key of layer 1, head 1, token ${token}, dimension 3`,
    );
  }
  const cache = poisoned(2, 0, 200, 5, 0x7e77);
  const { bytes } = await codec.compress(cache);
  assert((await codec.decompress(bytes)).cache.slice(172, 300).equals(cache.slice(172, 300)));
});

Deno.test("coefficients beyond binary16 are refused with the position", async () => {
  const model = { ...SMALL_MODEL, rope: null };
  const layers = Array.from({ length: 3 }, () => ({
    key: new Uint8Array(new Float32Array(2 * 50 * 10).fill(3e5).buffer),
    value: new Uint8Array(new Float32Array(2 * 50 * 6).buffer),
  }));
  const positions = Int32Array.from({ length: 50 }, (_, i) => i);
  const cache = new KvCache({ model, dtype: "f32", positions, layers });
  await using codec = await openCodec(syntheticProfile(model));
  await assertRejects(() => codec.compress(cache, { window: 0 }), KvzUnsupportedError, "position 4");
});

Deno.test("ragged caches are refused by name", async () => {
  const positions = (n: number) => Int32Array.from({ length: n }, (_, i) => i);
  const head = (n: number) => ({ key: new Uint8Array(n * 20), value: new Uint8Array(n * 12), positions: positions(n) });
  const blocks = [[head(3), head(2)], [head(3), head(3)], [head(3), head(3)]];
  await using codec = await openCodec(profile);
  const cache = KvCache.ragged({ model: SMALL_MODEL, dtype: "f16", blocks });
  await assertRejects(() => codec.compress(cache), KvzUnsupportedError, "ragged");
});

Deno.test("options out of range are named", async () => {
  await using codec = await openCodec(profile);
  const cache = syntheticCache(200);
  await assertRejects(() => codec.compress(cache, { ratio: 0.5 }), RangeError, "ratio");
  await assertRejects(() => codec.compress(cache, { ratio: NaN }), TypeError, "ratio");
  await assertRejects(() => codec.compress(cache, { window: -1 }), RangeError, "window");
  await assertRejects(() => codec.compress(cache, { recipe: "none" }), RangeError, "none");
  await assertRejects(() => codec.compress(cache, { fileRatio: 5, ratio: 5 }), TypeError, "together");
  await assertRejects(() => codec.compress(cache, { fileRatio: 1000 }), RangeError, "nearest");
  await assertRejects(() => openCodec(profile, { threads: -1 }), RangeError, "threads");
});

Deno.test("wrong profile, model, geometry and RoPE are refused with both sides", async () => {
  await using codec = await openCodec(profile);
  const cache = syntheticCache(200);
  const { bytes } = await codec.compress(cache);
  await using other = await openCodec(syntheticProfile(SMALL_MODEL, 77));
  const error = await assertRejects(() => other.decompress(bytes), KvzMismatchError);
  assertStringIncludes(error.message, profile.fingerprint.slice(0, 12));
  assertStringIncludes(error.message, other.profile!.fingerprint.slice(0, 12));
  const models = [
    [{ ...SMALL_MODEL, id: "another" }, "another"],
    [{ ...SMALL_MODEL, layers: 2 }, "layers"],
    [{ ...SMALL_MODEL, kvHeads: 1 }, "kvHeads"],
    [{ ...SMALL_MODEL, rope: { ...SMALL_MODEL.rope!, theta: 500000 } }, "500000"],
    [{ ...SMALL_MODEL, rope: null }, "rope"],
  ] as const;
  for (const [model, part] of models) {
    await assertRejects(() => codec.compress(syntheticCache(200, { model })), KvzMismatchError, part);
  }
});

Deno.test("maxBytes stops before anything is allocated", async () => {
  await using codec = await openCodec(profile);
  const { bytes } = await codec.compress(syntheticCache(500));
  const whole = 500 * 3 * 2 * 16 * 2;
  await assertRejects(() => codec.decompress(bytes, { maxBytes: whole - 1 }), KvzLimitError, `${whole}`);
  assertEquals((await codec.decompress(bytes, { maxBytes: whole })).cache.tokens, 500);
  assertEquals((await codec.decompress(bytes, { maxBytes: whole - 1, tokens: 499 })).cache.tokens, 499);
});

Deno.test("a chunk size that no writer uses is refused before anything is allocated", async () => {
  await using codec = await openCodec(profile);
  const { bytes } = await codec.compress(syntheticCache(20));
  const reader = await FrameReader.open(memorySource(bytes), "cache");
  const sink = new MemorySink();
  const writer = new FrameWriter(sink, "cache", { ...reader.header, chunkTokens: 1 << 20 });
  await writer.start();
  for (const info of reader.records) await writer.writeRecord(info, await reader.read(info));
  await writer.finish();
  await assertRejects(() => codec.decompress(sink.bytes()), KvzFormatError, "4096");
});

Deno.test("every single-bit flip of a small file is detected", async () => {
  await using codec = await openCodec(profile);
  const { bytes } = await codec.compress(syntheticCache(12), { window: 2, ratio: 10 });
  const broken = bytes.slice();
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    broken[bit >> 3] ^= 1 << (bit & 7);
    await assertRejects(() => inspect(broken, { verify: true }), KvzFormatError);
    broken[bit >> 3] ^= 1 << (bit & 7);
  }
  await inspect(broken, { verify: true });
});

Deno.test("every truncation is refused", async () => {
  await using codec = await openCodec(profile);
  const { bytes } = await codec.compress(syntheticCache(12), { window: 2, ratio: 10 });
  for (let length = 0; length < bytes.length; length++) {
    await assertRejects(() => codec.decompress(bytes.subarray(0, length)), KvzFormatError);
  }
});

Deno.test("property: damage anywhere gives a typed error or the same cache", async () => {
  await using codec = await openCodec(profile);
  const { bytes } = await codec.compress(syntheticCache(200), { window: 16 });
  const damage = fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(damage, async (places) => {
      const broken = bytes.slice();
      for (const [at, value] of places) broken[at] = value;
      if (broken.every((b, i) => b === bytes[i])) return;
      await assertRejects(() => codec.decompress(broken), KvzFormatError);
    }),
    { numRuns: 100 },
  );
});

Deno.test("property: arbitrary bytes give a typed error", async () => {
  await using codec = await openCodec(profile);
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (bytes) => {
      await assertRejects(() => codec.decompress(bytes), KvzFormatError);
      const pipe = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream();
      await assertRejects(() => codec.decompress(pipe), KvzFormatError);
    }),
    { numRuns: 100 },
  );
});

Deno.test("an aborted call rejects with the reason and leaves the codec usable", async () => {
  await using codec = await openCodec(profile);
  const cache = syntheticCache(1500);
  const controller = new AbortController();
  const reason = new Error("enough");
  const call = codec.compress(cache, { signal: controller.signal, onProgress: () => controller.abort(reason) });
  assertEquals(await assertRejects(() => call), reason);
  assertEquals((await codec.compress(syntheticCache(10))).report.tokens, 10);
});

Deno.test("a closed codec says so", async () => {
  const codec = await openCodec(profile);
  await codec.close();
  await assertRejects(() => codec.compress(syntheticCache(10)), Error, "closed");
});
