/** Recipe kvz codes the newest tokens with a finer step, in chunks of their own. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import { openCodec } from "../../src/codec/open.ts";
import { openFile } from "../../src/codec/groups.ts";
import { regionOf } from "../../src/codec/regions.ts";
import { kvz } from "../../src/recipes/kvz.ts";
import { decodeStream } from "../../src/stages/entropy/deflate.ts";
import { sideLength } from "../../src/stages/quantize/trellis/side.ts";
import { stepOf } from "../../src/stages/quantize/trellis/step.ts";
import { syntheticCache } from "../synthetic.ts";
import { BACKENDS as DEVICES } from "../backend/backends.ts";
import { BACKENDS } from "./backends.ts";
import { relativeError } from "./helpers.ts";
import { smallKvzProfile } from "./kvz_profile.ts";

const profile = await smallKvzProfile();

/** Tokens, step and components of every chunk. */
async function detailsOf(bytes: Uint8Array): Promise<[tokens: number, step: number, components: number][]> {
  const file = await openFile(bytes);
  const chunks: [number, number, number][] = [];
  for (const { chunk, tokens, infos } of file.groups) {
    const info = infos.find(({ tag }) => tag === "SIDE");
    if (regionOf(chunk) !== "chunk" || info === undefined) continue;
    const side = await decodeStream({ ...info, bytes: await file.reader.read(info) }, info.rawLength, "SIDE");
    chunks.push([tokens, stepOf((side[0] | side[1] << 8) << 16 >> 16), side.length - sideLength(tokens, 0)]);
  }
  return chunks;
}

/** Tokens and step of every chunk. */
async function chunksOf(bytes: Uint8Array): Promise<[tokens: number, step: number][]> {
  return (await detailsOf(bytes)).map(([tokens, step]) => [tokens, step]);
}

function errors(cache: KvCache, back: KvCache, begin: number, end: number): number {
  return relativeError(cache, back, "key", begin, end) + relativeError(cache, back, "value", begin, end);
}

Deno.test("the newest tokens have half the step, an eighth of the cache at most, and the error that goes with it", async () => {
  await using codec = await openCodec(profile);
  const cache = syntheticCache(1300, { seed: 4 });
  const all = await codec.compress(cache, { recent: 0 });
  assertEquals((await chunksOf(all.bytes)).map(([tokens]) => tokens), [512, 512, 275]);
  const [[, step]] = await chunksOf(all.bytes);
  for (const [options, recent, share] of [[{}, 128, 0.5], [{ recent: 400, recentStep: 0.25 }, 162, 0.25]] as const) {
    const { bytes } = await codec.compress(cache, options);
    const chunks = await chunksOf(bytes);
    assertEquals(chunks.map(([tokens]) => tokens), [512, 512, 275 - recent, recent]);
    for (const [i, [, found]] of chunks.entries()) assertAlmostEquals(found / step, i === 3 ? share : 1, 0.01);
    const { cache: back } = await codec.decompress(bytes);
    const { cache: plain } = await codec.decompress(all.bytes);
    assertEquals(back.slice(0, 1025).equals(plain.slice(0, 1025)), true);
    assert(errors(cache, back, 1300 - recent, 1300) < 0.8 * errors(cache, plain, 1300 - recent, 1300));
    assert(bytes.length > all.bytes.length);
  }
  assertEquals((await chunksOf((await codec.compress(cache.slice(0, 300))).bytes)).map(([tokens]) => tokens), [
    262,
    37,
  ]);
  assertEquals((await chunksOf((await codec.compress(cache.slice(0, 7))).bytes)).map(([tokens]) => tokens), [6]);
  for (const options of [{ recent: -1 }, { recent: 1.5 }, { recentStep: 2 }, { recentStep: 0 }]) {
    assertThrows(() => kvz.parseOptions(options), RangeError);
  }
});

Deno.test("any number of threads writes the same bytes, every backend the same chunks and steps", async () => {
  await using one = await openCodec(profile, { backend: "wasm" });
  await using three = await openCodec(profile, { backend: "wasm", threads: 3 });
  for (const tokens of [15, 16, 513, 585, 586, 587, 1300]) {
    const cache = syntheticCache(tokens, { seed: tokens });
    const { bytes } = await one.compress(cache);
    assertEquals((await three.compress(cache)).bytes, bytes, `${tokens} tokens`);
    assertEquals((await three.decompress(bytes)).cache.equals((await one.decompress(bytes)).cache), true);
  }
  const cache = syntheticCache(700, { seed: 8 });
  const wanted = await chunksOf((await one.compress(cache)).bytes);
  assertEquals(wanted.map(([tokens]) => tokens), [512, 100, 87]);
  for (const [name, options] of BACKENDS) {
    await using codec = await openCodec(profile, options);
    const { bytes } = await codec.compress(cache);
    assertEquals(await chunksOf(bytes), wanted, name);
    assertEquals((await codec.decompress(bytes)).cache.equals((await one.decompress(bytes)).cache), true, name);
  }
  for (const [name, options] of DEVICES.filter(([name]) => name === "webgpu" || name === "cuda")) {
    await using codec = await openCodec(profile, options);
    assertEquals(await chunksOf((await codec.compress(cache)).bytes), wanted, name);
  }
});

Deno.test("a chunk has the components that its step wants, whatever the others have", async () => {
  const components = async (bytes: Uint8Array) => (await detailsOf(bytes)).map(([, , components]) => components);
  const cache = syntheticCache(900, { seed: 9 });
  // Twelve components are not far below this step, rounded up to 16, and all 64 not far below a sixteenth of it.
  const options = { step: 0.3, recentStep: 1 / 16 };
  const wide = await smallKvzProfile(2);
  const all = 64;
  let wanted: KvCache | null = null;
  for (const [name, open] of DEVICES) {
    await using codec = await openCodec(wide, open);
    const { bytes } = await codec.compress(cache, options);
    assertEquals(await components(bytes), [512, 275, 112].map((tokens) => tokens === 112 ? all : 16), name);
    // Without finer tokens the file is of the coarse ones' alone, and their chunks are the same.
    const plain = (await codec.compress(cache, { ...options, recent: 0 })).bytes;
    assertEquals(await components(plain), [16, 16]);
    const restored = (await codec.decompress(bytes)).cache;
    const coarse = (await codec.decompress(plain)).cache.slice(0, 513);
    assert(restored.slice(0, 513).equals(coarse), name);
    if (name !== "webgpu" && name !== "cuda") assert((wanted ??= restored).equals(restored), name);
    // What is appended to a chunk has that chunk's, new chunks their own.
    const { bytes: more } = await codec.append(bytes, syntheticCache(700, { seed: 10, firstPosition: 900 }));
    const grown = await detailsOf(more);
    assertEquals(grown.map(([, , components]) => components), [16, 16, all, 16, 16, all].slice(0, grown.length), name);
    assert((await codec.decompress(more)).cache.slice(0, 900).equals(restored), name);
    for await (const { layer, key } of codec.layers(bytes)) {
      assertEquals(key, restored.sliceLayers(layer, layer + 1).read("key", 0, 900), name);
    }
  }
});

Deno.test("with a raw window the finer tokens are those before it", async () => {
  await using codec = await openCodec(profile);
  const cache = syntheticCache(400, { seed: 5 });
  const { bytes } = await codec.compress(cache, { window: 30 });
  assertEquals((await chunksOf(bytes)).map(([tokens]) => tokens), [319, 50]);
  assert((await codec.decompress(bytes)).cache.slice(370, 400).equals(cache.slice(370, 400)));
});

Deno.test("appended: what was coded stays, few tokens go on with the finer chunk, many get chunks of both kinds", async () => {
  await using codec = await openCodec(profile);
  const cache = syntheticCache(1500, { seed: 6 });
  const { bytes } = await codec.compress(cache.slice(0, 600));
  const old = (await codec.decompress(bytes)).cache;
  const [[, step]] = await chunksOf(bytes);
  const grown = async (end: number) => {
    const { bytes: more } = await codec.append(bytes, cache.slice(600, end));
    assert((await codec.decompress(more)).cache.slice(0, 600).equals(old));
    return (await chunksOf(more)).map(([tokens, found]) => [tokens, Number((found / step).toFixed(2))]);
  };
  assertEquals(await grown(660), [[512, 1], [12, 1], [75 + 60, 0.5]]);
  assertEquals(await grown(1500), [[512, 1], [12, 1], [75, 0.5], [512, 1], [260, 1], [128, 0.5]]);
});

Deno.test("property: any lengths restore, in parts too, to the same bits on every backend", async () => {
  await using reference = await openCodec(profile, { backend: "reference" });
  const codecs = await Promise.all(BACKENDS.slice(1).map(([, options]) => openCodec(profile, options)));
  try {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 700 }),
        fc.integer({ min: 0, max: 90 }),
        fc.double({ min: 1 / 16, max: 1, noNaN: true }),
        async (tokens, recent, recentStep) => {
          const cache = syntheticCache(tokens, { seed: tokens });
          const { bytes } = await reference.compress(cache, { recent, recentStep });
          const wanted = (await reference.decompress(bytes)).cache;
          assertEquals(wanted.tokens, tokens);
          const part = Math.max(0, tokens - (recent >> 1));
          for (const codec of codecs) {
            assert((await codec.decompress(bytes)).cache.equals(wanted));
            assert((await codec.decompress(bytes, { tokens: part })).cache.equals(wanted.slice(0, part)));
          }
        },
      ),
      { numRuns: 8 },
    );
  } finally {
    for (const codec of codecs) await codec[Symbol.asyncDispose]();
  }
});
