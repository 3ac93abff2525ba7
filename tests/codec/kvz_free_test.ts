import { assert, assertEquals, assertGreater, assertLess, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { createWasmBackend } from "../../src/backend/wasm/create.ts";
import { toFloat32 } from "../../src/cache/elements.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { type Kind, KINDS, type ModelSpec } from "../../src/cache/types.ts";
import { openCodec } from "../../src/codec/open.ts";
import { KvzFormatError, KvzUnsupportedError } from "../../src/errors.ts";
import { kvzFree } from "../../src/recipes/kvz_free.ts";
import type { TaggedStream } from "../../src/recipes/recipe.ts";
import { SMALL_MODEL, syntheticCache } from "../synthetic.ts";
import { BACKENDS } from "./backends.ts";
import { relativeError } from "./helpers.ts";

const recipe = "kvz-free";
const MODELS: Readonly<Record<string, ModelSpec>> = {
  "keys wider than values, partial rotary": SMALL_MODEL,
  "values wider than keys": { ...SMALL_MODEL, layers: 2, kvHeads: 1, keyDim: 8, valueDim: 20 },
  "no rotation": { ...SMALL_MODEL, rope: null },
  "layers of several groups": { ...SMALL_MODEL, layers: 2, kvHeads: 5, keyDim: 64, valueDim: 48 },
};

/** Features [layer][head][i] of a token before RoPE in float64, straight from the definition of RoPE. */
function unrotated(cache: KvCache, kind: Kind, token: number): Float64Array {
  const { layers, kvHeads, keyDim, valueDim, rope } = cache.model;
  const dim = kind === "key" ? keyDim : valueDim;
  const x = Float64Array.from(toFloat32(cache.read(kind, token, token + 1), cache.dtype));
  if (kind === "value" || rope === null) return x;
  const half = rope.dim / 2;
  for (let block = 0; block < layers * kvHeads; block++) {
    for (let i = 0; i < half; i++) {
      const angle = -cache.positions[token] * rope.theta ** (-2 * i / rope.dim);
      const [a, b] = [x[block * dim + i], x[block * dim + half + i]];
      x[block * dim + i] = a * Math.cos(angle) - b * Math.sin(angle);
      x[block * dim + half + i] = b * Math.cos(angle) + a * Math.sin(angle);
    }
  }
  return x;
}

/** Root of the mean variance of the features of each layer of a kind over tokens [begin, end), float64. */
function spreads(cache: KvCache, kind: Kind, begin: number, end: number): Float64Array {
  const rows = Array.from({ length: end - begin }, (_, t) => unrotated(cache, kind, begin + t));
  const perLayer = rows[0].length / cache.model.layers;
  return Float64Array.from({ length: cache.model.layers }, (_, layer) => {
    let sum = 0;
    for (let f = layer * perLayer; f < (layer + 1) * perLayer; f++) {
      const mean = rows.reduce((s, row) => s + row[f], 0) / rows.length;
      sum += rows.reduce((s, row) => s + (row[f] - mean) ** 2, 0) / rows.length;
    }
    return Math.sqrt(sum / perLayer);
  });
}

Deno.test("no element moves by more than four steps of its layer's spread, whatever the geometry", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  for (const [name, model] of Object.entries(MODELS)) {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 9, max: 80 }),
        fc.nat(),
        fc.constantFrom(0.02, 0.2, 1),
        async (tokens, seed, step) => {
          const cache = syntheticCache(tokens, { model, seed, dtype: "f32", firstPosition: seed % 1000 });
          const { bytes } = await codec.compress(cache, { recipe, step, sinks: 0 });
          const { cache: back } = await codec.decompress(bytes);
          for (const kind of KINDS) {
            const spread = spreads(cache, kind, 0, tokens);
            for (let t = 0; t < tokens; t++) {
              const [a, b] = [unrotated(cache, kind, t), unrotated(back, kind, t)];
              const perLayer = a.length / model.layers;
              a.forEach((value, f) => {
                const error = Math.abs(value - b[f]);
                const unit = step * spread[Math.floor(f / perLayer)];
                assert(error <= 4 * unit + 1e-5 * Math.abs(value), `${name}, ${kind} ${f}: ${error} of ${unit}`);
              });
            }
          }
        },
      ),
      { numRuns: 6 },
    );
  }
});

Deno.test("the same bytes on every backend and thread count, and the same cache from them", async () => {
  for (const model of [SMALL_MODEL, MODELS["layers of several groups"]]) {
    const cache = syntheticCache(model === SMALL_MODEL ? 1100 : 60, { model, seed: 4 });
    const options = { recipe, sinks: 2, window: 3 };
    await using reference = await openCodec(null, { backend: "reference" });
    const { bytes } = await reference.compress(cache, options);
    const { cache: wanted } = await reference.decompress(bytes);
    assertEquals((await reference.compress(cache, options)).bytes, bytes);
    for (const [name, backend] of [...BACKENDS.slice(1), ["threads", { threads: 3 }] as const]) {
      await using codec = await openCodec(null, backend);
      assertEquals((await codec.compress(cache, options)).bytes, bytes, name);
      assert((await codec.decompress(bytes)).cache.equals(wanted), name);
    }
  }
});

Deno.test("errors and bytes go with the step", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = syntheticCache(400, { seed: 6 });
  let last = { bytes: Infinity, error: 0 };
  for (const step of [0.01, 0.05, 0.2, 0.8]) {
    const { bytes } = await codec.compress(cache, { recipe, step });
    const { cache: back } = await codec.decompress(bytes);
    const error = relativeError(cache, back, "key", 4, 400) + relativeError(cache, back, "value", 4, 400);
    assertLess(bytes.length, last.bytes);
    assertGreater(error, last.error);
    last = { bytes: bytes.length, error };
  }
});

Deno.test("option ratio hits the ratio of the whole file", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = syntheticCache(700, { model: MODELS["layers of several groups"], seed: 12 });
  for (const ratio of [4, 8]) {
    const { report } = await codec.compress(cache, { recipe, ratio });
    assertLess(Math.abs(Math.log(report.fileRatio / ratio)), 0.03);
  }
  await assertRejects(() => codec.compress(cache, { recipe, ratio: 6, step: 0.1 }), TypeError, "together");
});

Deno.test("options out of range or unknown are refused by name", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = syntheticCache(20);
  await assertRejects(() => codec.compress(cache, { recipe, step: 0 }), RangeError, `"step"`);
  await assertRejects(() => codec.compress(cache, { recipe, sinks: 1.5 }), RangeError, `"sinks"`);
  await assertRejects(() => codec.compress(cache, { recipe, window: -1 }), RangeError, `"window"`);
  await assertRejects(() => codec.compress(cache, { recipe, lambda: 1 } as object), RangeError, `"lambda"`);
});

Deno.test("no token, one, and no more than sinks and window: bit-exact", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  for (const tokens of [0, 1, 4, 9]) {
    const cache = syntheticCache(tokens, { inputIds: tokens > 0 });
    const { bytes } = await codec.compress(cache, { recipe, sinks: 4, window: 5 });
    assert((await codec.decompress(bytes)).cache.equals(cache), `${tokens} tokens`);
  }
  const one = syntheticCache(1);
  const { cache: back } = await codec.decompress((await codec.compress(one, { recipe, sinks: 0, step: 0.01 })).bytes);
  for (const kind of KINDS) assertLess(relativeError(one, back, kind, 0, 1), 0.05);
});

Deno.test("layers without any spread, and of nothing but zeros", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const source = syntheticCache(50, { model: { ...SMALL_MODEL, rope: null } });
  const { model, positions } = source;
  const constant = (length: number, value: number) => new Uint8Array(Uint16Array.from({ length }, () => value).buffer);
  const layers = Array.from({ length: model.layers }, (_, layer) => ({
    key: constant(model.kvHeads * 50 * model.keyDim, layer === 0 ? 0 : 0x3c00),
    value: constant(model.kvHeads * 50 * model.valueDim, layer === 0 ? 0 : 0xc500),
  }));
  const cache = new KvCache({ model, dtype: "f16", positions, layers });
  const { bytes } = await codec.compress(cache, { recipe, sinks: 0 });
  const { cache: back } = await codec.decompress(bytes);
  for (const kind of KINDS) {
    const [a, b] = [toFloat32(cache.read(kind, 0, 50), "f16"), toFloat32(back.read(kind, 0, 50), "f16")];
    a.forEach((value, i) => assert(Math.abs(value - b[i]) <= 1e-3 * Math.abs(value), `${kind} ${i}: ${b[i]}`));
  }
});

Deno.test("NaN and infinities are refused with their place", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = syntheticCache(40);
  const bytes = cache.read("value", 0, 40).slice();
  // Layer 2, head 1, token 17, dimension 5.
  const at = ((2 * 2 + 1) * 40 + 17) * 6 + 5;
  new DataView(bytes.buffer).setUint16(2 * at, 0x7e00, true);
  const { model, dtype, positions } = cache;
  const layers = Array.from({ length: 3 }, (_, layer) => ({
    key: cache.read("key", 0, 40).slice(layer * 2 * 40 * 10 * 2, (layer + 1) * 2 * 40 * 10 * 2),
    value: bytes.slice(layer * 2 * 40 * 6 * 2, (layer + 1) * 2 * 40 * 6 * 2),
  }));
  const bad = new KvCache({ model, dtype, positions, layers });
  await assertRejects(
    () => codec.compress(bad, { recipe }),
    KvzUnsupportedError,
    "value of layer 2, head 1, token 17, dimension 5 is NaN",
  );
});

Deno.test("appending leaves the tokens before as they were", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 2, maxLength: 4 }), async (parts) => {
      const total = parts.reduce((a, b) => a + b, 0);
      const cache = syntheticCache(total, { seed: total });
      let end = parts[0];
      let { bytes } = await codec.compress(cache.slice(0, end), { recipe });
      let old = (await codec.decompress(bytes)).cache;
      for (const part of parts.slice(1)) {
        const grown = await codec.append(bytes, cache.slice(end, end + part));
        const restored = (await codec.decompress(grown.bytes)).cache;
        // Fewer tokens than sinks are stored raw and become sinks when others follow.
        if (end > 4) assert(restored.slice(0, end).equals(old));
        for (const kind of KINDS) assertLess(relativeError(cache, restored, kind, end, end + part), 0.5);
        [bytes, old, end] = [grown.bytes, restored, end + part];
      }
    }),
    { numRuns: 6 },
  );
});

Deno.test("appended tokens too large for the chunk's step are refused", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = syntheticCache(60, { dtype: "f32" });
  const { bytes } = await codec.compress(cache, { recipe, step: 0.01 });
  const huge = (layer: number, dim: number) => {
    const size = 2 * 5 * dim;
    return new Uint8Array(Float32Array.from({ length: size }, (_, i) => 1e6 * Math.sin(i + layer)).buffer);
  };
  const { model, dtype } = cache;
  const layers = [0, 1, 2].map((layer) => ({ key: huge(layer, 10), value: huge(layer, 6) }));
  const positions = Int32Array.from([60, 61, 62, 63, 64]);
  const more = new KvCache({ model, dtype, positions, layers, inputIds: new Int32Array(5) });
  await assertRejects(() => codec.append(bytes, more), KvzUnsupportedError, "Cannot append: token 60");
});

Deno.test("prefixes, layers, other positions and element types", async () => {
  await using codec = await openCodec(null, { threads: 2 });
  const cache = syntheticCache(1200, { seed: 13 });
  const { bytes } = await codec.compress(cache, { recipe, window: 20 });
  const { cache: whole } = await codec.decompress(bytes);
  for (const tokens of [0, 1, 4, 5, 300, 1029, 1190, 1200]) {
    const { cache: part } = await codec.decompress(bytes, { tokens });
    assert(part.equals(whole.slice(0, tokens)), `${tokens} tokens`);
  }
  const { cache: layers } = await codec.decompress(bytes, { layers: [1, 3] });
  assert(layers.equals(whole.sliceLayers(1, 3)));
  for await (const { layer, key, value } of codec.layers(bytes)) {
    const one = whole.sliceLayers(layer, layer + 1);
    assertEquals(key, one.read("key", 0, 1200));
    assertEquals(value, one.read("value", 0, 1200));
  }
  const { cache: moved } = await codec.decompress(bytes, { firstPosition: 1000, dtype: "f32" });
  assertEquals([moved.dtype, moved.positions[0]], ["f32", 1000]);
  const there = syntheticCache(1200, { seed: 13, firstPosition: 1000 });
  assertLess(relativeError(there, moved, "key", 0, 1200), 0.2);
});

Deno.test("damaged and cut files are refused by typed errors", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const file = (await codec.compress(syntheticCache(200), { recipe })).bytes;
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
  const openBackend = () => createWasmBackend();
  const facts = { model: SMALL_MODEL, storedDType: "f16", dtype: "f16", openBackend } as const;
  using codec = await kvzFree.open(
    await createWasmBackend(),
    await kvzFree.planSetup(null, facts, kvzFree.parseOptions({})),
  );
  const cache = syntheticCache(40);
  const job = { region: "chunk", kinds: KINDS, tokens: 40, positions: cache.positions } as const;
  const data = KINDS.map((kind) => cache.read(kind, 0, 40));
  // Raw, so that changes reach the coder and not the inflater.
  const { inflateRaw } = await import("node:zlib");
  const plain = await Promise.all(
    (await codec.encode({ ...job, op: "encode", begin: 0, after: 0, data })).map((stream) =>
      new Promise<TaggedStream>((resolve, reject) => {
        if (stream.codec === "raw") return resolve(stream);
        inflateRaw(stream.bytes, (error, bytes) =>
          error ? reject(error) : resolve({
            ...stream,
            codec: "raw",
            bytes: new Uint8Array(bytes),
            rawLength: bytes.length,
          }));
      })
    ),
  );
  const decode = (streams: readonly TaggedStream[]) =>
    codec.decode({ ...job, op: "decode", targetPositions: cache.positions, layerBegin: 0, layerEnd: 3, streams });
  await decode(plain);
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.nat(2),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
      fc.nat(9),
      async (which, changes, cut) => {
        const changed = plain.map((stream, i) => {
          if (i !== which) return stream;
          const bytes = stream.bytes.slice(0, Math.max(0, stream.bytes.length - cut));
          for (const [at, value] of changes) if (bytes.length > 0) bytes[at % bytes.length] = value;
          return { ...stream, bytes, rawLength: bytes.length };
        });
        try {
          await decode(changed);
        } catch (error) {
          refused++;
          assert(error instanceof KvzFormatError, `${error}`);
        }
      },
    ),
    { numRuns: 300 },
  );
  assertGreater(refused, 100);
});
