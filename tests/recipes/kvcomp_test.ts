import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { readSafetensors } from "../../src/adapters/safetensors.ts";
import { fromFloat32, toFloat32 } from "../../src/cache/elements.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { BYTES_PER_ELEMENT, type DType, type Kind, KINDS, type ModelSpec } from "../../src/cache/types.ts";
import { inspect } from "../../src/codec/inspect.ts";
import { openCodec } from "../../src/codec/open.ts";
import { KvzFormatError, KvzUnsupportedError } from "../../src/errors.ts";
import { unpackLengths } from "../../src/stages/entropy/huffman.ts";
import { decodeBlocks } from "../../src/stages/entropy/huffman_blocks.ts";
import { chunkLimits, decodeChunk, encodeChunk, packChunk, parseChunk } from "../../src/stages/kvcomp/coder.ts";
import { blockTokens, codedShape, codedTokens, type KvCompShape } from "../../src/stages/kvcomp/shape.ts";
import { alphabetOf } from "../../src/stages/quantize/relative.ts";
import { random, SMALL_MODEL, syntheticCache } from "../synthetic.ts";
import { maxDifference } from "../codec/helpers.ts";
import { checkRecipe } from "./recipe_checks.ts";
import { BLOCK_MODEL } from "./models.ts";
import { kvcomp as peer } from "./plain_kvcomp.ts";

checkRecipe({ recipe: "kvcomp", model: BLOCK_MODEL, error: 0.2, append: true, recent: 256, tokens: 400 });
checkRecipe({
  recipe: "kvcomp",
  options: { keyGroups: "channel", keyRel: 0.1, valueRel: 0.05, recentKeys: 64, recentValues: 128 },
  model: BLOCK_MODEL,
  error: 0.2,
  append: true,
  recent: 128,
  tokens: 300,
});

const RECENT = { key: 128, value: 256 } as const;
const sample = readSafetensors(await Deno.readFile("samples/smollm2-256.safetensors"));

Deno.test("raw tails have 64 to 127 tokens of keys and 128 to 255 of values, once there are so many", () => {
  for (let tokens = 0; tokens < 1000; tokens++) {
    for (const kind of KINDS) {
      const block = blockTokens(kind);
      const coded = codedTokens(tokens, block, RECENT[kind]);
      const tail = tokens - coded;
      assertEquals(coded % block, 0);
      if (coded > 0) assert(tail >= RECENT[kind] - block && tail < RECENT[kind], `${tokens}: ${tail}`);
      else assert(tokens < RECENT[kind], `${tokens} tokens, none coded`);
    }
  }
});

/** Values of one kind, [layers][heads][tokens][dim]. */
function values(cache: KvCache, kind: Kind): Float32Array {
  return toFloat32(cache.read(kind, 0, cache.tokens), cache.dtype);
}

for (const keyGroups of ["block", "channel"] as const) {
  Deno.test(`every element within half a relative step of its group, tails bit for bit: keys by ${keyGroups}`, async () => {
    await using codec = await openCodec(null, { threads: 1 });
    const [keyRel, valueRel] = keyGroups === "block" ? [0.05, 0.1] : [0.25, 0.1];
    for (const dtype of ["f16", "bf16", "f32"] as const) {
      const tokens = 2048 + 321;
      const cache = syntheticCache(tokens, { dtype });
      const { bytes } = await codec.compress(cache, { recipe: "kvcomp", keyGroups });
      const restored = (await codec.decompress(bytes)).cache;
      const { layers, kvHeads: heads } = cache.model;
      for (const kind of KINDS) {
        const [a, b] = [values(cache, kind), values(restored, kind)];
        const dim = kind === "key" ? cache.model.keyDim : cache.model.valueDim;
        const coded = codedTokens(tokens, blockTokens(kind), RECENT[kind]);
        const rel = kind === "key" ? keyRel : valueRel;
        const ranges = new Map<string, [low: number, high: number]>();
        const groupOf = (layer: number, head: number, t: number, i: number) =>
          kind === "value"
            ? `${layer} ${t}`
            : `${layer} ${Math.floor(t / 64)} ${keyGroups === "channel" ? `${head} ${i}` : ""}`;
        const visit = (of: (group: string, t: number, at: number) => void) => {
          for (let at = 0; at < a.length; at++) {
            const row = Math.floor(at / dim);
            const block = Math.floor(row / tokens);
            of(groupOf(Math.floor(block / heads), block % heads, row % tokens, at % dim), row % tokens, at);
          }
        };
        visit((group, _, at) => {
          const [low, high] = ranges.get(group) ?? [Infinity, -Infinity];
          ranges.set(group, [Math.min(low, a[at]), Math.max(high, a[at])]);
        });
        // Rounding of the scale, and of what comes back to the element type.
        const ulp = { f16: 2 ** -11, bf16: 2 ** -8, f32: 2 ** -24 }[dtype];
        visit((group, t, at) => {
          const [low, high] = ranges.get(group)!;
          const bound = rel * (high - low) / 2 * (1 + 2 ** -10) + Math.max(-low, high, 0) * 2 * ulp + 2 ** -24;
          if (t >= coded) assertEquals(b[at], a[at]);
          else if (!(Math.abs(b[at] - a[at]) <= bound)) {
            throw new Error(`${kind} ${group}: ${a[at]} → ${b[at]}, ± ${bound}`);
          }
        });
      }
      assertEquals(layers, restored.model.layers);
    }
  });
}

Deno.test("restored elements are those of an independent implementation, but for ties", async () => {
  const cache = await sample;
  await using codec = await openCodec(null, { threads: 1 });
  const { bytes } = await codec.compress(cache, { recipe: "kvcomp", keyRel: 0.05, valueRel: 0.1 });
  const restored = (await codec.decompress(bytes)).cache;
  const { layers, kvHeads: heads, keyDim: dim } = cache.model;
  for (const kind of KINDS) {
    const x = values(cache, kind);
    const end = codedTokens(cache.tokens, blockTokens(kind), RECENT[kind]);
    peer({ key: 0.05, value: 0.1 })({ kind, x, layers, heads, tokens: cache.tokens, dim }, 0, end);
    const wanted = toFloat32(fromFloat32(x, cache.dtype), cache.dtype);
    const found = values(restored, kind);
    let different = 0;
    for (let i = 0; i < wanted.length; i++) if (found[i] !== wanted[i]) different++;
    assert(different <= wanted.length * 1e-3, `${different} of ${wanted.length} ${kind}s differ`);
  }
});

/** The sample's streams of one kind with the codes of its layers. */
async function sampleChunk(kind: Kind, rel: number) {
  const cache = await sample;
  const { layers, kvHeads: heads, keyDim: dim } = cache.model;
  const grouping = kind === "key" ? "block" : "token";
  const shape: KvCompShape = { kind, layers, heads, dim, dtype: cache.dtype, grouping, alphabet: alphabetOf(rel) };
  return { shape, chunk: encodeChunk(cache.read(kind, 0, cache.tokens), shape, rel, cache.tokens, 0) };
}

Deno.test("control: Huffman takes at most a bit a symbol more than the entropy, and less than codes of one length", async () => {
  for (const kind of KINDS) {
    for (const rel of [0.0125, 0.05, 0.2]) {
      const { shape, chunk } = await sampleChunk(kind, rel);
      const coded = codedShape(shape, chunk.coded);
      const symbols = decodeBlocks(chunk.blocks, coded, chunk.lengths);
      const each = symbols.length / shape.layers;
      let entropy = 0;
      for (let layer = 0; layer < shape.layers; layer++) {
        const counts = new Float64Array(shape.alphabet);
        for (const symbol of symbols.subarray(layer * each, (layer + 1) * each)) counts[symbol]++;
        for (const count of counts) if (count > 0) entropy += count * Math.log2(each / count);
      }
      const vectors = chunk.blocks.vectors.length / 2;
      const bits = 8 * chunk.blocks.codes.length;
      assert(bits >= entropy, `${kind}: ${bits} bits, entropy ${entropy}`);
      assert(bits < entropy + symbols.length + 7 * vectors, `${kind}: ${bits} bits, entropy ${entropy}`);
      // The authors' bits of uncoded symbols.
      const fixed = Math.ceil(Math.log2(Math.ceil(1 / rel) + 1)) * symbols.length;
      assert(bits < 0.95 * fixed, `${kind} ${rel}: ${bits} bits, uncoded ${fixed}`);
    }
  }
});

Deno.test("control: a code of another layer's symbols costs more, and codes them all the same", async () => {
  const { shape, chunk } = await sampleChunk("key", 0.05);
  const coded = codedShape(shape, chunk.coded);
  const rolled = [...chunk.lengths.slice(1), chunk.lengths[0]];
  const symbols = decodeBlocks(chunk.blocks, coded, chunk.lengths);
  const { encodeBlocks } = await import("../../src/stages/entropy/huffman_blocks.ts");
  const other = encodeBlocks(symbols, coded, rolled);
  assertEquals(decodeBlocks(other, coded, rolled), symbols);
  assert(other.codes.length > chunk.blocks.codes.length);
});

Deno.test("layers, prefixes, positions and element types can be chosen", async () => {
  const cache = syntheticCache(700);
  await using codec = await openCodec(null, { threads: 1 });
  const { bytes } = await codec.compress(cache, { recipe: "kvcomp" });
  const whole = (await codec.decompress(bytes)).cache;
  const layers = (await codec.decompress(bytes, { layers: [1, 3] })).cache;
  assert(layers.equals(whole.sliceLayers(1, 3)));
  const prefix = (await codec.decompress(bytes, { tokens: 50 })).cache;
  assert(prefix.equals(whole.slice(0, 50)));
  const moved = (await codec.decompress(bytes, { firstPosition: 1000 })).cache;
  assertEquals(moved.positions[0], 1000);
  assertEquals(moved.value(2, 1), whole.value(2, 1));
  assert(maxDifference((await codec.decompress(bytes, { dtype: "f32" })).cache, whole) === 0);
  // Turned there and back.
  const { bytes: again } = await codec.compress(moved, { recipe: "lossless" });
  assert(maxDifference((await codec.decompress(again, { firstPosition: 0 })).cache, whole) < 0.01);
});

Deno.test("sinks stay raw, blocks and tails count from behind them", async () => {
  const cache = syntheticCache(404);
  await using codec = await openCodec(null, { threads: 1 });
  const whole = (await codec.decompress((await codec.compress(cache, { recipe: "kvcomp", sinks: 4 })).bytes)).cache;
  const rest = (await codec.decompress((await codec.compress(cache.slice(4, 404), { recipe: "kvcomp" })).bytes)).cache;
  assert(whole.slice(0, 4).equals(cache.slice(0, 4)));
  assert(whole.slice(4, 404).equals(rest));
});

Deno.test("appended tokens are coded with the codes that are there; what was coded stays", async () => {
  const cache = syntheticCache(2048 + 700);
  await using codec = await openCodec(null, { threads: 1 });
  const options = { recipe: "kvcomp" } as const;
  const whole = (await codec.decompress((await codec.compress(cache, options)).bytes)).cache;
  for (const cuts of [[1], [150, 300], [700, 2100], [2048], [2050, 2051]]) {
    let bytes = (await codec.compress(cache.slice(0, cuts[0]), options)).bytes;
    for (const [i, from] of cuts.entries()) {
      bytes = (await codec.append(bytes, cache.slice(from, cuts[i + 1] ?? cache.tokens))).bytes;
    }
    const restored = (await codec.decompress(bytes)).cache;
    // Full chunks stay as they are: what was raw in one when the file ended soon behind it is so still.
    const full = cuts.filter((cut) => cut >= 2048).length > 0;
    if (!full) assert(restored.equals(whole), cuts.join());
    for (const kind of KINDS) {
      const [found, coded, raw] = [restored, whole, cache].map((of) => values(of, kind));
      const different = found.findIndex((value, at) => value !== coded[at] && (!full || value !== raw[at]));
      assertEquals(different, -1, `${kind} after ${cuts}`);
    }
  }
});

Deno.test("short caches and small models: one token, one layer, one channel", async () => {
  const one: ModelSpec = { layers: 1, kvHeads: 1, keyDim: 1, valueDim: 1, rope: null };
  const dim130: ModelSpec = { layers: 1, kvHeads: 2, keyDim: 130, valueDim: 130, rope: null };
  await using codec = await openCodec(null, { threads: 1 });
  for (const model of [one, dim130, SMALL_MODEL]) {
    for (const tokens of [0, 1, 127, 128, 256, 400]) {
      const cache = syntheticCache(tokens, { model, inputIds: tokens > 0 });
      const { bytes } = await codec.compress(cache, { recipe: "kvcomp" });
      const restored = (await codec.decompress(bytes)).cache;
      assertEquals(restored.tokens, tokens);
      if (tokens < 128) assert(restored.equals(cache));
      else assert(maxDifference(cache, restored) < 2);
    }
  }
});

Deno.test("NaN, options out of range and damaged plans are refused with the reason", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = syntheticCache(300);
  const key = cache.read("key", 0, 300);
  new Uint16Array(key.buffer)[(2 * 2 * 300 + 7) * SMALL_MODEL.keyDim] = 0x7e00;
  const { layers: n, kvHeads, keyDim, valueDim } = SMALL_MODEL;
  const value = cache.read("value", 0, 300);
  const part = (bytes: Uint8Array, dim: number, layer: number) =>
    bytes.subarray(layer * kvHeads * 300 * dim * 2, (layer + 1) * kvHeads * 300 * dim * 2);
  const layers = Array.from({ length: n }, (_, l) => ({ key: part(key, keyDim, l), value: part(value, valueDim, l) }));
  const bad = new KvCache({ model: SMALL_MODEL, dtype: "f16", positions: cache.positions, layers });
  const error = await assertRejects(() => codec.compress(bad, { recipe: "kvcomp" }), KvzUnsupportedError);
  assertStringIncludes(error.message, "key of layer 2, head 0, token 7");
  for (const [name, value] of Object.entries({ keyRel: 0.001, valueRel: 2, recentKeys: 63, recentValues: 3 })) {
    await assertRejects(() => codec.compress(cache, { recipe: "kvcomp", [name]: value }), RangeError, name);
  }
  await assertRejects(
    () => codec.compress(cache, { recipe: "kvcomp", keyGroups: "head" as "block" }),
    RangeError,
    "expected block or channel",
  );
});

Deno.test("damaged and cut streams give typed errors or finite elements", () => {
  const shape: KvCompShape = {
    kind: "value",
    layers: 2,
    heads: 1,
    dim: 5,
    dtype: "f16" as DType,
    grouping: "token",
    alphabet: alphabetOf(0.1),
  };
  const next = random(3);
  const tokens = 140;
  const x = Float32Array.from({ length: 2 * tokens * 5 }, () => next() - next());
  const streams = packChunk(encodeChunk(fromFloat32(x, "f16"), shape, 0.1, 128, 0));
  const limits = chunkLimits(shape, tokens);
  streams.forEach((bytes, i) => assert(bytes.length <= limits[i]));
  const run = (changed: readonly Uint8Array[]) => {
    try {
      const elements = decodeChunk(parseChunk(changed, shape, tokens), shape);
      assertEquals(elements.length, 2 * tokens * 5 * BYTES_PER_ELEMENT.f16);
    } catch (error) {
      assert(error instanceof KvzFormatError, String(error));
    }
  };
  fc.assert(
    fc.property(fc.nat(5), fc.nat(), fc.integer({ min: 1, max: 255 }), (stream, at, change) => {
      const bytes = streams[stream].slice();
      bytes[at % bytes.length] ^= change;
      run(streams.map((one, i) => i === stream ? bytes : one));
    }),
    { numRuns: 500 },
  );
  fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { minLength: 6, maxLength: 6 }), run));
  for (let stream = 0; stream < 6; stream++) {
    for (let cut = 0; cut < streams[stream].length; cut += stream === 4 ? 7 : 1) {
      const changed = streams.map((one, i) => i === stream ? one.subarray(0, cut) : one);
      // Fewer raw tokens than whole blocks leave is another chunk's.
      assertThrows(() => decodeChunk(parseChunk(changed, shape, tokens), shape), KvzFormatError);
    }
  }
  assertThrows(() => unpackLengths(new Uint8Array(6), 12), KvzFormatError);
});

Deno.test("the paper's ratio leaves codes and raw tokens out, the file's does not; every backend writes the same file", async () => {
  const cache = await sample;
  const files: Uint8Array[] = [];
  for (const backend of ["reference", "wasm"] as const) {
    await using codec = await openCodec(null, { backend, threads: 1 });
    const { bytes, report } = await codec.compress(cache, { recipe: "kvcomp" });
    files.push(bytes);
    const { streams } = report;
    const sum = (...tags: string[]) => tags.reduce((all, tag) => all + streams[tag], 0);
    const coded = sum("KGRP", "KBLK", "KVEC", "KCOD", "VGRP", "VBLK", "VVEC", "VCOD");
    // 192 keys and 128 values of 256 tokens are coded.
    const { layers, kvHeads, keyDim, valueDim } = cache.model;
    const raw = layers * kvHeads * 2 * (64 * keyDim + 128 * valueDim);
    assertEquals(sum("KTAI", "VTAI"), raw);
    assertEquals(report.paperRatio, (report.bytesIn - raw) / coded);
    assertEquals(sum("KHUF", "VHUF"), layers * (Math.ceil(alphabetOf(0.05) / 2) + Math.ceil(alphabetOf(0.1) / 2)));
    assert(report.fileRatio < report.bytesIn / (raw + coded));
    assertEquals((await inspect(bytes)).paperRatio, report.paperRatio);
  }
  assertEquals(files[0], files[1]);
});
