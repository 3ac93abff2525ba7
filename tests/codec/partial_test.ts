import { assert, assertEquals, assertLess, assertRejects } from "deno-std/assert";
import { rotateKeys, rotationTable } from "../../src/cache/rope.ts";
import { toFloat32 } from "../../src/cache/elements.ts";
import { openCodec } from "../../src/codec/open.ts";
import { memorySource } from "../../src/container/bytes.ts";
import { KvzFormatError } from "../../src/errors.ts";
import { SMALL_MODEL, syntheticCache, syntheticProfile } from "../synthetic.ts";
import { maxDifference } from "./helpers.ts";

const profile = syntheticProfile();
const cache = syntheticCache(700);

Deno.test("restoring a part equals the part of the whole", async (t) => {
  await using codec = await openCodec(profile);
  const { bytes } = await codec.compress(cache, { ratio: 6 });
  const whole = (await codec.decompress(bytes)).cache;

  for (const tokens of [0, 1, 4, 5, 260, 261, 572, 573, 700, 9999]) {
    await t.step(`first ${tokens} tokens`, async () => {
      const part = (await codec.decompress(bytes, { tokens })).cache;
      assert(part.equals(whole.slice(0, Math.min(tokens, 700))));
    });
  }
  for (const [begin, end] of [[0, 1], [1, 3], [2, 3], [0, 3]] as const) {
    await t.step(`layers ${begin} to ${end}`, async () => {
      const part = (await codec.decompress(bytes, { layers: [begin, end] })).cache;
      assert(part.equals(whole.sliceLayers(begin, end)));
    });
  }
  await t.step("a prefix reads only its own chunks", async () => {
    const { bytes: large } = await codec.compress(syntheticCache(3000), { ratio: 6, window: 1500 });
    const source = memorySource(large);
    let read = 0;
    const counting = {
      size: source.size,
      read(offset: number, length: number) {
        read += length;
        return source.read(offset, length);
      },
    };
    await codec.decompress(counting, { tokens: 5 });
    assertLess(read, large.length * 0.3);
  });
  await t.step("layer by layer", async () => {
    let layer = 0;
    for await (const block of codec.layers(bytes)) {
      assertEquals(block.layer, layer);
      const one = whole.sliceLayers(layer, layer + 1);
      assertEquals(block.key, one.read("key", 0, 700));
      assertEquals(block.value, one.read("value", 0, 700));
      layer++;
    }
    assertEquals(layer, 3);
  });
  await t.step("from a pipe, block by block", async () => {
    const pipe = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream();
    let tokens = 0;
    for await (const block of codec.blocks(pipe)) {
      assertEquals(block.data, whole.read(block.kind, block.begin, block.begin + block.tokens));
      if (block.kind === "value") tokens += block.tokens;
    }
    assertEquals(tokens, 700);
    assert((await codec.decompress(new Blob([bytes as Uint8Array<ArrayBuffer>]).stream())).cache.equals(whole));
  });
  await t.step("a truncated pipe fails after its whole blocks", async () => {
    const pipe = new Blob([bytes.slice(0, bytes.length - 20)]).stream();
    let blocks = 0;
    await assertRejects(async () => {
      for await (const _ of codec.blocks(pipe)) blocks++;
    }, KvzFormatError);
    assert(blocks > 0);
  });
  await t.step("the stream form writes the same file", async () => {
    const streamed = new Uint8Array(await new Response(codec.compressStream(cache, { ratio: 6 })).arrayBuffer());
    assertEquals(streamed, bytes);
  });
  await t.step("another element type", async () => {
    const wide = (await codec.decompress(bytes, { dtype: "f32" })).cache;
    assertEquals(wide.dtype, "f32");
    // The window converts exactly; the rest is rounded once less.
    const raw = toFloat32(cache.read("key", 572, 700), "f16");
    assertEquals(toFloat32(wide.read("key", 572, 700), "f32"), raw);
    assertLess(maxDifference(wide, whole), 0.02);
  });
});

Deno.test("keys move to another first position as RoPE says", async () => {
  await using codec = await openCodec(profile);
  const { bytes } = await codec.compress(cache, { ratio: 6, window: 64 });
  const there = (await codec.decompress(bytes, { dtype: "f32" })).cache;
  const moved = (await codec.decompress(bytes, { dtype: "f32", firstPosition: 1000 })).cache;
  assertEquals(moved.positions[0], 1000);
  assertEquals(moved.positions[699], 1699);
  assertEquals(moved.read("value", 0, 700), there.read("value", 0, 700));
  // Independent of the codec: rotating the restored keys by 1000 positions in plain TypeScript.
  const turn = rotationTable(SMALL_MODEL.rope!, new Int32Array(700).fill(1000), "shift");
  const shape = { dtype: "f32", tokens: 700, dim: SMALL_MODEL.keyDim, rotaryDim: 8 } as const;
  const wanted = toFloat32(rotateKeys(there.read("key", 0, 700), shape, turn), "f32");
  const found = toFloat32(moved.read("key", 0, 700), "f32");
  let worst = 0;
  found.forEach((x, i) => worst = Math.max(worst, Math.abs(x - wanted[i])));
  assertLess(worst, 1e-4);
});
