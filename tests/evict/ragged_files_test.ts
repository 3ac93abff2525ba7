/** Files whose heads hold different tokens: what comes back, by every way of reading, and what is refused. */
import { assert, assertEquals, assertLess, assertRejects, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { SafetensorsSink } from "../../src/adapters/safetensors_sink.ts";
import { densify } from "../../src/cache/densify.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import { RaggedCacheBuilder } from "../../src/cache/ragged_builder.ts";
import { BYTES_PER_ELEMENT, type Kind, KINDS } from "../../src/cache/types.ts";
import type { CompressOptions } from "../../src/codec/options.ts";
import { inspect } from "../../src/codec/inspect.ts";
import { decodeMarks, encodeMarks, sliceMarks } from "../../src/codec/marks.ts";
import { openCodec } from "../../src/codec/open.ts";
import { MemorySink, memorySource } from "../../src/container/bytes.ts";
import { FrameReader } from "../../src/container/frame_reader.ts";
import { FrameWriter } from "../../src/container/frame_writer.ts";
import * as errors from "../../src/errors.ts";
import { decodeStream, rawStream } from "../../src/stages/entropy/deflate.ts";
import { cacheOf } from "../recipes/recipe_checks.ts";
import { SMALL_MODEL, syntheticCache } from "../synthetic.ts";
import { queriedCache, randomQueries, rebuilt } from "./helpers.ts";

const SETTINGS: readonly CompressOptions[] = [
  { recipe: "streamingllm", keep: 0.25 },
  { recipe: "h2o", keep: 0.3 },
  { recipe: "snapkv", capacity: 90, window: 16 },
  { recipe: "pyramidkv", keep: 0.5, window: 8, beta: 4 },
  { recipe: "think" },
  { recipe: "think", after: "snapkv", keep: 0.5, window: 40, recent: 8 },
];

/** Whether what a cache holds is what another holds at the same positions, bit for bit. */
function assertPart(part: KvCache, whole: KvCache, kinds: readonly Kind[] = KINDS): void {
  const { layers, kvHeads, keyDim, valueDim } = whole.model;
  const index = new Map(Array.from(whole.positions, (position, t) => [position, t]));
  const width = BYTES_PER_ELEMENT[whole.dtype];
  for (let layer = 0; layer < layers; layer++) {
    for (let head = 0; head < kvHeads; head++) {
      for (const kind of kinds) {
        const row = (kind === "key" ? keyDim : valueDim) * width;
        const [a, b] = [part[kind](layer, head), whole[kind](layer, head)];
        part.positionsOf(layer, head).forEach((position, i) => {
          const t = index.get(position)!;
          assertEquals(a.subarray(i * row, (i + 1) * row), b.subarray(t * row, (t + 1) * row));
        });
      }
    }
  }
}

for (const settings of SETTINGS) {
  const name = JSON.stringify(settings);
  Deno.test(`${name}: what is kept comes back bit for bit, over chunks, threads and all ways of reading`, async () => {
    await using codec = await openCodec(null, { threads: 1 });
    await using two = await openCodec(null, { threads: 2 });
    // More than one chunk.
    const cache = queriedCache(1300, 300, { firstPosition: 30 });
    const { bytes, report } = await codec.compress(cache, settings);
    assertEquals((await two.compress(cache, settings)).bytes, bytes);
    const { cache: back } = await two.decompress(bytes);
    assertPart(back, cache, settings.recipe === "think" ? ["value"] : KINDS);
    assertEquals(report.bytesOut, bytes.length);
    assertEquals((await inspect(bytes, { verify: true })).tokens, 1300);
    const ids = new Map(Array.from(cache.positions, (position, t) => [position, cache.inputIds![t]]));
    assertEquals(back.inputIds, Int32Array.from(back.positions, (position) => ids.get(position)!));

    const { cache: full, bias } = densify(back, cache.positions);
    for await (const { layer, key, value, kept } of codec.layers(bytes)) {
      const own = full.sliceLayers(layer, layer + 1);
      assertEquals(key, own.read("key", 0, 1300));
      assertEquals(value, own.read("value", 0, 1300));
      const held = bias.subarray(layer * 2 * 1300, (layer + 1) * 2 * 1300);
      if (kept === null) assert(held.every((x) => x === 0));
      else assertEquals(Array.from(kept), Array.from(held, (x) => Number(x === 0)));
    }
    const some = (await codec.decompress(bytes, { tokens: 1100, layers: [1, 3] })).cache;
    assert(some.equals(back.slice(0, lower(back.positions, 30 + 1100)).sliceLayers(1, 3)));
    const pipe = (await codec.decompress(new Blob([bytes as Uint8Array<ArrayBuffer>]).stream())).cache;
    assert(pipe.equals(back));
  });

  Deno.test(`${name}: other positions and element types`, async () => {
    await using codec = await openCodec(null, { threads: 1 });
    const cache = queriedCache(400, 80);
    const { bytes } = await codec.compress(cache, settings);
    const back = (await codec.decompress(bytes)).cache;
    const wide = (await codec.decompress(bytes, { dtype: "f32" })).cache;
    assertEquals(wide.positions, back.positions);
    const there = (await codec.decompress(bytes, { firstPosition: 500 })).cache;
    assertEquals(there.positions, back.positions.map((position) => position + 500));
    if (settings.recipe !== "think") {
      const moved = queriedCache(400, 80, { firstPosition: 500 });
      // Rounded to f16 before and after the turn.
      const [a, b] = [densify(there, moved.positions).cache, densify(kept(moved, there), moved.positions).cache];
      const [x, y] = [a, b].map((cache) => new Float16Array(cache.read("key", 0, 400).slice().buffer));
      x.forEach((value, i) => assertLess(Math.abs(value - y[i]), 0.02));
    }
  });

  Deno.test(`${name}: any bytes in its streams give a typed error or a cache, truncations an error`, async () => {
    await using codec = await openCodec(null, { threads: 1 });
    const { bytes } = await codec.compress(queriedCache(200, 64), { ...settings, ...small(settings) });
    const damage = fc.record({
      record: fc.nat(),
      at: fc.nat(),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 24 }),
      how: fc.constantFrom("overwrite", "cut", "extend", "empty"),
    });
    await fc.assert(
      fc.asyncProperty(damage, async (damage) => {
        const file = await damaged(bytes, damage);
        try {
          await codec.decompress(file);
        } catch (error) {
          assert(Object.values(errors).some((kind) => error instanceof kind), `${error}`);
        }
      }),
      { numRuns: 60 },
    );
    for (let length = 0; length < bytes.length; length += 1 + length % 97) {
      await assertRejects(() => codec.decompress(bytes.subarray(0, length)), errors.KvzFormatError);
    }
  });

  Deno.test(`${name}: appending is refused`, async () => {
    await using codec = await openCodec(null, { threads: 1 });
    const cache = queriedCache(300, 70);
    const { bytes } = await codec.compress(cache, settings);
    await assertRejects(() => codec.append(bytes, cache), errors.KvzUnsupportedError, "whole cache at once");
  });

  Deno.test(`${name}: a short cache stays whole, without queries`, async () => {
    await using codec = await openCodec(null, { threads: 1 });
    for (const tokens of [0, 1]) {
      const cache = syntheticCache(tokens, { inputIds: tokens > 0 });
      const { bytes } = await codec.compress(cache, settings);
      assert((await codec.decompress(bytes)).cache.equals(cache));
    }
  });

  Deno.test(`${name}: NaN is refused with its place`, async () => {
    await using codec = await openCodec(null, { threads: 1 });
    const bad = cacheOf(
      { ...SMALL_MODEL, layers: 2 },
      150,
      "f16",
      (kind, layer, head, token, i) =>
        kind === "value" && layer === 1 && head === 1 && token === 9 && i === 3 ? NaN : i + token % 7,
    );
    const queries = randomQueries(bad.model, 4, 100);
    await assertRejects(
      () => codec.compress(rebuilt(bad, { queries }), settings),
      errors.KvzUnsupportedError,
      "value of layer 1, head 1, token 9, dimension 3",
    );
  });
}

function small({ recipe, after }: CompressOptions): CompressOptions {
  return recipe === "snapkv" ? { capacity: 40 } : after === "snapkv" ? { keep: 0.5 } : {};
}

function lower(positions: Int32Array, position: number): number {
  return positions.filter((p) => p < position).length;
}

/** The tokens of `cache` that the heads of `held` hold. */
function kept(cache: KvCache, held: KvCache): KvCache {
  const builder = new RaggedCacheBuilder({ model: cache.model, dtype: cache.dtype, positions: cache.positions });
  const { layers, kvHeads } = cache.model;
  const marks = new Uint8Array(layers * kvHeads * cache.tokens);
  for (let block = 0; block < layers * kvHeads; block++) {
    const positions = new Set(held.positionsOf(Math.floor(block / kvHeads), block % kvHeads));
    cache.positions.forEach((position, t) => marks[block * cache.tokens + t] = Number(positions.has(position)));
  }
  for (const kind of KINDS) builder.write(kind, 0, 0, cache.tokens, cache.read(kind, 0, cache.tokens), marks);
  return builder.build();
}

/** The file with the contents of one record but the token ids changed and all checksums right. */
async function damaged(
  file: Uint8Array,
  damage: { record: number; at: number; bytes: Uint8Array; how: string },
): Promise<Uint8Array> {
  const reader = await FrameReader.open(memorySource(file), "cache");
  const sink = new MemorySink();
  const writer = new FrameWriter(sink, "cache", reader.header);
  await writer.start();
  const streams = reader.records.filter(({ tag }) => tag !== "IDS ");
  const chosen = streams[damage.record % streams.length];
  for (const info of reader.records) {
    let payload = (await reader.read(info)).slice();
    if (info === chosen) {
      payload = (await decodeStream({ ...info, bytes: payload }, info.rawLength, "the stream")).slice();
      const at = damage.at % Math.max(payload.length, 1);
      if (damage.how === "overwrite") payload.set(damage.bytes.subarray(0, Math.max(0, payload.length - at)), at);
      else if (damage.how === "cut") payload = payload.slice(0, at);
      else if (damage.how === "empty") payload = new Uint8Array(0);
      else payload = Uint8Array.from([...payload, ...damage.bytes]);
    }
    const changed = info === chosen ? { codec: "raw", rawLength: payload.length } as const : {};
    await writer.writeRecord({ ...info, ...changed }, payload);
  }
  await writer.finish();
  return sink.bytes();
}

Deno.test("property: marks of any width come back; other lengths, widths and padding are refused", async () => {
  const model = { ...SMALL_MODEL, layers: 2, kvHeads: 3 };
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 40 }),
      fc.constantFrom(1, 2, 3, 15, 200),
      fc.nat(),
      async (tokens, top, seed) => {
        const marks = Uint8Array.from({ length: 6 * tokens }, (_, i) => (i * 7919 + seed) % (top + 1));
        const record = await encodeMarks(marks, tokens);
        assertEquals(await decodeMarks(record, model, tokens), marks);
        const raw = await decodeStream(record, record.rawLength, "marks");
        await assertRejects(() => decodeMarks(rawStream(raw.subarray(1)), model, tokens), errors.KvzFormatError);
        await assertRejects(() => decodeMarks(rawStream(raw.with(0, 3)), model, tokens), errors.KvzFormatError);
        const end = Math.min(tokens, 5);
        assertEquals(sliceMarks(marks, tokens, 0, end), marks.filter((_, i) => i % tokens < end));
      },
    ),
    { numRuns: 50 },
  );
  const padded = Uint8Array.of(1, 0x1f, 0, 0, 0, 0, 0);
  await assertRejects(() => decodeMarks(rawStream(padded), model, 4), errors.KvzFormatError, "padding");
  assertEquals((await decodeMarks(rawStream(padded.with(1, 0xf)), model, 4)).slice(0, 4), Uint8Array.of(1, 1, 1, 1));
});

Deno.test("marks in files of recipes that choose nothing are refused", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = queriedCache(20, 0);
  const { bytes } = await codec.compress(cache, { recipe: "lossless" });
  const reader = await FrameReader.open(memorySource(bytes), "cache");
  const sink = new MemorySink();
  const writer = new FrameWriter(sink, "cache", reader.header);
  await writer.start();
  for (const info of reader.records) await writer.writeRecord(info, await reader.read(info));
  const marks = await encodeMarks(new Uint8Array(3 * 2 * 20).fill(1), 20);
  await writer.writeRecord({ ...marks, tag: "KEPT", chunk: 0, tokens: 20 }, marks.bytes);
  await writer.finish();
  await assertRejects(() => codec.decompress(sink.bytes()), errors.KvzFormatError, "unknown record KEPT");
});

Deno.test("what takes dense caches alone refuses a ragged file", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const { bytes } = await codec.compress(queriedCache(100, 20), { recipe: "snapkv", keep: 0.5, window: 8 });
  const sink = { writeAt: () => {} };
  await assertRejects(
    () => codec.decompressTo(bytes, (shape) => new SafetensorsSink(sink, shape)),
    errors.KvzUnsupportedError,
    "different tokens",
  );
  await assertRejects(() => codec.decompressOnDevice(bytes), errors.KvzUnsupportedError, "different tokens");
});

Deno.test("the ragged builder refuses what does not fit", () => {
  const model = { ...SMALL_MODEL, layers: 1, kvHeads: 1, keyDim: 8 };
  const positions = Int32Array.of(0, 1);
  const make = () => new RaggedCacheBuilder({ model, dtype: "f16", positions });
  assertThrows(() => make().write("key", 0, 1, 2, new Uint8Array(32)), RangeError, "tokens [1, 3)");
  assertThrows(() => make().write("key", 0, 0, 2, new Uint8Array(33)), RangeError, "layers");
  assertThrows(() => make().write("key", 0, 0, 2, new Uint8Array(32), Uint8Array.of(1)), RangeError, "1 marks");
  const half = make();
  half.write("key", 0, 0, 2, new Uint8Array(32));
  assertThrows(() => half.build(), RangeError, "value of layer 0, head 0 lacks token 0 of 2");
  half.write("value", 0, 0, 2, new Uint8Array(24), Uint8Array.of(0, 1));
  assertThrows(() => half.build(), RangeError, "other tokens");
});
