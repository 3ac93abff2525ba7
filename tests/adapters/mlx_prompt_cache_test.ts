import { assert, assertEquals, assertRejects, assertStringIncludes } from "deno-std/assert";
import fc from "fast-check";
import { openCache } from "../../cli/cache_input.ts";
import {
  isMlxPromptCache,
  type MlxPromptCacheLayout,
  openMlxPromptCache,
  writeMlxPromptCache,
} from "../../src/adapters/mlx_prompt_cache.ts";
import { loadCache, type SafetensorsOptions } from "../../src/adapters/safetensors.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { fromFloat32 } from "../../src/cache/elements.ts";
import { BYTES_PER_ELEMENT, type DType, type RopeSpec } from "../../src/cache/types.ts";
import { memorySource } from "../../src/container/bytes.ts";
import { KvzFormatError, KvzMismatchError, KvzUnsupportedError } from "../../src/errors.ts";
import golden from "./mlx_golden.json" with { type: "json" };

const ROPE: RopeSpec = { theta: 10000, dim: 4, pairing: "half-split" };
const LAYOUTS: MlxPromptCacheLayout[] = ["0.21", "0.32"];
const SIZES: Record<string, number> = { F64: 8, I64: 8, F32: 4, I32: 4, U32: 4, F16: 2, BF16: 2 };

interface Tensor {
  dtype: string;
  shape: number[];
  data?: Uint8Array;
}

type Parts = { tensors: Record<string, Tensor>; metadata: Record<string, string> };

/** A safetensors file as MLX writes it: no padding, tensors in any order. Independent of the library. */
function build({ tensors, metadata }: Parts): Uint8Array<ArrayBuffer> {
  let at = 0;
  const data: Uint8Array[] = [];
  const header: Record<string, unknown> = { __metadata__: metadata };
  for (const [name, { dtype, shape, data: bytes }] of Object.entries(tensors).reverse()) {
    const part = bytes ?? new Uint8Array(shape.reduce((a, b) => a * b, SIZES[dtype]));
    header[name] = { data_offsets: [at, at + part.length], dtype, shape };
    data.push(part);
    at += part.length;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const out = new Uint8Array(8 + json.length + at);
  new DataView(out.buffer).setUint32(0, json.length, true);
  let to = 8;
  for (const part of [json, ...data]) {
    out.set(part, to);
    to += part.length;
  }
  return out;
}

/** The parts of a file, for tests that look at or change what was written. */
function takeApart(bytes: Uint8Array): Parts {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const { __metadata__: metadata, ...entries } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const tensors = Object.fromEntries(
    Object.entries(entries as Record<string, Tensor & { data_offsets: number[] }>).map(([name, entry]) => {
      const [begin, end] = entry.data_offsets.map((offset) => offset + 8 + length);
      return [name, { dtype: entry.dtype, shape: entry.shape, data: bytes.slice(begin, end) }];
    }),
  );
  return { tensors, metadata };
}

/** Two layers of two heads, five tokens (room for seven from 0.32 on), keys of 4 and values of 2. */
function sample(layout: MlxPromptCacheLayout, metadata: Record<string, string> = {}): Parts {
  const room = layout === "0.21" ? 5 : 7;
  const user = layout === "0.21" ? "1" : "0";
  const parts: Parts = { tensors: {}, metadata: {} };
  for (const [name, text] of Object.entries(metadata)) parts.metadata[`${user}.${name}`] = text;
  if (layout === "0.32") parts.metadata["2.0"] = "";
  for (const layer of [0, 1]) {
    for (const [i, dim] of [4, 2].entries()) {
      const data = new Uint8Array(2 * room * dim * 2);
      data.forEach((_, at) => data[at] = (at * 37 + layer * 101 + dim) & 0x3b);
      parts.tensors[`${layer}.${i}`] = { dtype: "F16", shape: [1, 2, room, dim], data };
    }
    if (layout === "0.21") {
      parts.metadata[`0.${layer}`] = "";
      parts.metadata[`2.${layer}`] = "KVCache";
    } else {
      parts.tensors[`${layer}.2`] = { dtype: "I32", shape: [], data: Uint8Array.of(5, 0, 0, 0) };
      parts.metadata[`1.${layer}`] = "KVCache";
      parts.metadata[`2.${layer + 1}.0`] = `${layer}.2`;
      parts.metadata[`2.${layer + 1}.1`] = "scalar";
    }
  }
  return parts;
}

function decode(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

async function read(bytes: Uint8Array, options: SafetensorsOptions = { rope: ROPE }): Promise<KvCache> {
  return await loadCache(await openMlxPromptCache(memorySource(bytes), options));
}

/** A sample with changes, which has to be refused. */
async function refuses(
  layout: MlxPromptCacheLayout,
  change: (parts: Parts) => void,
  type: typeof KvzFormatError | typeof KvzUnsupportedError,
  text: string,
): Promise<void> {
  const parts = sample(layout);
  change(parts);
  await assertRejects(() => read(build(parts)), type, text);
}

Deno.test("mlx-lm: files that mlx-lm wrote are read element by element", async () => {
  for (const [release, files] of Object.entries(golden)) {
    for (const dtype of ["f16", "bf16", "f32"] as const) {
      const bytes = decode(files[dtype]);
      const file = await openMlxPromptCache(memorySource(bytes), { rope: ROPE, architecture: "llama" });
      assertEquals(file.metadata, dtype === "f32" ? {} : { model: "org/model", tokenizer_config: "{}" }, release);
      const cache = await loadCache(file);
      assertEquals(cache.model, {
        architecture: "llama",
        ...(dtype === "f32" ? {} : { id: "org/model" }),
        ...{ layers: 2, kvHeads: 2, keyDim: 4, valueDim: 2, rope: ROPE },
      });
      assertEquals([cache.dtype, cache.tokens, [...cache.positions]], [dtype, 5, [0, 1, 2, 3, 4]]);
      assertEquals(cache.inputIds, undefined);
      for (let layer = 0; layer < 2; layer++) {
        for (let head = 0; head < 2; head++) {
          const wanted = (base: number, dim: number) =>
            Float32Array.from(
              { length: 5 * dim },
              (_, i) => base + layer * 64 + head * 16 + Math.floor(i / dim) * 2 + i % dim * 0.25,
            );
          assertEquals(cache.key(layer, head), fromFloat32(wanted(0, 4), dtype));
          assertEquals(cache.value(layer, head), fromFloat32(wanted(32, 2), dtype));
        }
      }
    }
  }
});

Deno.test("mlx-lm: quantized and rotating caches that mlx-lm wrote are refused by name", async () => {
  for (const { quantized, rotating } of Object.values(golden)) {
    for (const [text, name] of [[quantized, "QuantizedKVCache"], [rotating, "RotatingKVCache"]]) {
      await assertRejects(() => read(decode(text)), KvzUnsupportedError, `layer 0 is a ${name}, only KVCache`);
    }
  }
});

Deno.test("mlx-lm: token ranges leave out the room after the last token", async () => {
  for (const layout of LAYOUTS) {
    const parts = sample(layout);
    const cache = await openMlxPromptCache(memorySource(build(parts)), { rope: ROPE });
    const room = layout === "0.21" ? 5 : 7;
    for (const [kind, i, row] of [["key", 0, 8], ["value", 1, 4]] as const) {
      for (const [begin, end] of [[0, 5], [1, 3], [4, 5], [2, 2]]) {
        const wanted = [0, 1].flatMap((layer) =>
          [0, 1].flatMap((head) => [
            ...parts.tensors[`${layer}.${i}`].data!.subarray((head * room + begin) * row, (head * room + end) * row),
          ])
        );
        assertEquals([...await cache.read(kind, begin, end)], wanted);
      }
      await assertRejects(async () => await cache.read(kind, 0, 6), RangeError, "outside [0, 5)");
    }
  }
});

Deno.test("mlx-lm: names of tensors tell prompt caches from other files", () => {
  assert(isMlxPromptCache(["0.0", "0.1", "1.0", "1.1", "0.2"]));
  assert(isMlxPromptCache(["0.0.0", "0.1.2"]), "of other classes too, which are refused by name");
  for (const names of [[], ["past_key_values.0.key"], ["0.0", "input_ids"], ["0"], ["0."], ["0.a"], ["0.0 "]]) {
    assert(!isMlxPromptCache(names), names.join());
  }
});

Deno.test("mlx-lm: commands tell prompt caches from other files", async () => {
  for (const layout of LAYOUTS) {
    const bytes = build(sample(layout));
    const source = memorySource(bytes);
    const input = { path: "a.safetensors", source, streamed: true, [Symbol.asyncDispose]: () => Promise.resolve() };
    const { cache, streamed } = await openCache(input, { rope: { rope: ROPE }, modelId: "m" });
    assertEquals([cache.model.id, cache.tokens, streamed], ["m", 5, true]);
    assertEquals(await cache.read("key", 0, 5), await (await read(bytes)).read("key", 0, 5));
    await assertRejects(() => openCache(input, {}), KvzMismatchError, "option `rope`");
  }
});

Deno.test("mlx-lm: what the caller has to say, and what the file may", async () => {
  for (const layout of LAYOUTS) {
    const plain = build(sample(layout));
    await assertRejects(() => read(plain, {}), KvzMismatchError, "option `rope`");
    await assertRejects(() => read(plain, { rope: ROPE, firstPosition: 3 }), RangeError, "first position is 3");
    assertEquals((await read(plain, { rope: null, firstPosition: 0 })).model.rope, null);
    assertEquals((await read(build(sample(layout, { model: "org/m" })))).model.id, "org/m");
    assertEquals((await read(build(sample(layout, { model: "org/m" })), { rope: ROPE, modelId: "m" })).model.id, "m");
    const rope = (first: number) => JSON.stringify({ ...ROPE, first_position: first });
    assertEquals((await read(build(sample(layout, { rope: rope(0) })), {})).model.rope, ROPE);
    await assertRejects(() => read(build(sample(layout, { rope: rope(2) })), {}), KvzFormatError, "first_position 2");
    const said = await read(build(sample(layout, { rope: "not JSON" })));
    assertEquals(said.model.rope, ROPE, "options win over metadata that another program may have written");
  }
});

Deno.test("mlx-lm: adjacent pairing is made half-split, and written again on demand", async () => {
  for (const layout of LAYOUTS) {
    const rope: RopeSpec = { ...ROPE, pairing: "adjacent" };
    const parts = sample(layout);
    const adjacent = await read(build(parts), { rope });
    const stored = await read(build(parts));
    const order = [0, 2, 1, 3];
    const key = new Uint16Array(stored.key(1, 1).slice().buffer);
    const wanted = key.map((_, i) => key[i - i % 4 + order[i % 4]]);
    assertEquals(new Uint16Array(adjacent.key(1, 1).slice().buffer), wanted);
    assertEquals(adjacent.value(1, 1), stored.value(1, 1));
    const again = takeApart(await writeMlxPromptCache(adjacent, { layout, pairing: "adjacent" }));
    const direct = takeApart(await writeMlxPromptCache(stored, { layout }));
    for (const name of ["0.0", "0.1", "1.0", "1.1"]) assertEquals(again.tensors[name], direct.tensors[name]);
    assertStringIncludes(again.metadata[layout === "0.21" ? "1.rope" : "0.rope"], '"pairing":"adjacent"');
  }
});

Deno.test("mlx-lm: written files have exactly the tree that load_prompt_cache unflattens", async () => {
  const rope = JSON.stringify({ ...ROPE, first_position: 0 });
  const user = { tokenizer_config: '{"a":1}', model: "org/model", rope, "näme": "x\n" };
  for (const layout of LAYOUTS) {
    const cache = await read(build(sample(layout)));
    const metadata = { tokenizer_config: '{"a":1}', "näme": "x\n", model: "org/model" };
    const written = takeApart(await writeMlxPromptCache(cache, { layout, metadata }));
    const wanted = sample(layout, user);
    // The room for more tokens is not written.
    for (const [name, tensor] of Object.entries(wanted.tensors)) {
      if (tensor.shape.length === 0) continue;
      const [, , room, dim] = tensor.shape;
      const data = tensor.data!.filter((_, i) => Math.floor(i / (dim * 2)) % room < 5);
      wanted.tensors[name] = { ...tensor, shape: [1, 2, 5, dim], data };
    }
    assertEquals(written, wanted);
  }
  const cache = await read(build(sample("0.32")), { rope: ROPE, modelId: "m", architecture: "llama" });
  const { metadata } = takeApart(await writeMlxPromptCache(cache));
  assertEquals(metadata["1.0"], "KVCache", "0.32 is the default");
  assertEquals([metadata["0.model"], metadata["0.architecture"], metadata["0.tokenizer_config"]], ["m", "llama", "{}"]);
});

const cacheArbitrary: fc.Arbitrary<KvCache> = fc.record({
  dtype: fc.constantFrom<DType[]>("f32", "f16", "bf16"),
  layers: fc.integer({ min: 1, max: 12 }),
  kvHeads: fc.integer({ min: 1, max: 3 }),
  keyDim: fc.integer({ min: 2, max: 7 }),
  valueDim: fc.integer({ min: 1, max: 5 }),
  tokens: fc.nat(6),
  rope: fc.boolean(),
  seed: fc.nat(255),
}).map(({ dtype, layers, kvHeads, keyDim, valueDim, tokens, rope, seed }) => {
  const bytes = kvHeads * tokens * BYTES_PER_ELEMENT[dtype];
  const block = (length: number, salt: number) =>
    Uint8Array.from({ length }, (_, i) => (i * 31 + salt * 17 + seed) & 255);
  return new KvCache({
    model: {
      ...{ id: "m", architecture: "llama", layers, kvHeads, keyDim, valueDim },
      rope: rope ? { theta: 5e5, dim: keyDim & ~1, pairing: "half-split" } : null,
    },
    dtype,
    positions: Int32Array.from({ length: tokens }, (_, i) => i),
    layers: Array.from({ length: layers }, (_, l) => ({
      key: block(bytes * keyDim, l),
      value: block(bytes * valueDim, l + 50),
    })),
  });
});

/** Names that survive Python's tree_unflatten: no dots, no numbers. */
const nameArbitrary = fc.string({ unit: "grapheme", minLength: 1, maxLength: 8 }).map((name) =>
  `k${name.replaceAll(".", "")}`
).filter((name) => !["model", "architecture", "rope"].includes(name));

Deno.test("mlx-lm: what was written is read again, whatever the metadata", async () => {
  await fc.assert(fc.asyncProperty(
    cacheArbitrary,
    fc.dictionary(nameArbitrary, fc.string({ unit: "grapheme" }), { maxKeys: 4 }),
    fc.constantFrom(...LAYOUTS),
    async (cache, metadata, layout) => {
      const bytes = await writeMlxPromptCache(cache, { layout, metadata });
      const file = await openMlxPromptCache(memorySource(bytes));
      assert((await loadCache(file)).equals(cache));
      assertEquals(file.model, cache.model);
      const { tokenizer_config, model, architecture, rope: _, ...rest } = file.metadata;
      assertEquals([tokenizer_config, model, architecture], ["{}", "m", "llama"]);
      assertEquals(Object.entries(rest).sort(), Object.entries(metadata).sort());
      assertEquals(await writeMlxPromptCache(await loadCache(file), { layout, metadata }), bytes);
    },
  ));
});

Deno.test("mlx-lm: a metadata name __proto__ is a name like any other", async () => {
  const cache = await read(build(sample("0.32")));
  const metadata = Object.fromEntries([["__proto__", "x"]]);
  const file = await openMlxPromptCache(memorySource(await writeMlxPromptCache(cache, { metadata })));
  assertEquals(Object.getOwnPropertyDescriptor(file.metadata, "__proto__")?.value, "x");
});

Deno.test("mlx-lm: writing refuses what mlx-lm could not use", async () => {
  const cache = await read(build(sample("0.32")));
  for (const name of ["", "a.b", "7", " +1_0 ", "٣", "-2"]) {
    await assertRejects(() => writeMlxPromptCache(cache, { metadata: { [name]: "x" } }), TypeError, "metadata name");
  }
  for (const name of ["rope", "architecture"]) {
    await assertRejects(() => writeMlxPromptCache(cache, { metadata: { [name]: "x" } }), TypeError, "from the cache");
  }
  await assertRejects(() => writeMlxPromptCache(cache.slice(2, 5)), KvzUnsupportedError, "token 0 has position 2");
  await assertRejects(
    () => writeMlxPromptCache({ ...sourceOf(cache), ragged: true }),
    KvzUnsupportedError,
    "the cache is ragged",
  );
  await assertRejects(
    () => writeMlxPromptCache(cache, { layout: "0.30" as MlxPromptCacheLayout }),
    RangeError,
    "layout is 0.30",
  );
});

function sourceOf(cache: KvCache) {
  const { model, dtype, tokens, positions, ragged } = cache;
  return { model, dtype, tokens, positions, ragged, read: cache.read.bind(cache) };
}

Deno.test("mlx-lm: other classes are refused by name, in any layer", async () => {
  const others = ["QuantizedKVCache", "RotatingKVCache", "ArraysCache", "MambaCache", "ChunkedKVCache", "CacheList"];
  for (const name of [...others, "", "__proto__", "constructor"]) {
    for (const [layout, section] of [["0.21", "2"], ["0.32", "1"]] as const) {
      await refuses(
        layout,
        ({ metadata }) => metadata[`${section}.1`] = name,
        KvzUnsupportedError,
        `layer 1 is a ${name}, only KVCache and ConcatenateKVCache are read`,
      );
    }
  }
});

Deno.test("mlx-lm: ConcatenateKVCache fills its tensors", async () => {
  for (const layout of LAYOUTS) {
    const parts = sample(layout);
    for (const layer of [0, 1]) {
      parts.metadata[`${layout === "0.21" ? 2 : 1}.${layer}`] = "ConcatenateKVCache";
      delete parts.tensors[`${layer}.2`];
    }
    if (layout === "0.32") { for (const name of ["2.1.0", "2.1.1", "2.2.0", "2.2.1"]) delete parts.metadata[name]; }
    const cache = await read(build(parts));
    assertEquals(cache.tokens, layout === "0.21" ? 5 : 7);
    assertEquals(cache.value(0, 1), parts.tensors["0.1"].data!.slice(cache.tokens * 4));
  }
});

Deno.test("mlx-lm: batches, missing parts and mixtures are refused by name", async () => {
  const F = KvzFormatError;
  const U = KvzUnsupportedError;
  for (const layout of LAYOUTS) {
    const room = layout === "0.21" ? 5 : 7;
    const key = (shape: number[], dtype = "F16") => ({ tensors }: Parts) => void (tensors["1.0"] = { dtype, shape });
    await refuses(layout, key([2, 2, room, 4]), U, "1.0 holds a batch of 2 sequences");
    await refuses(layout, key([1, 3, room, 4]), U, "1.0 has 3 heads, expected 2 as in layer 0");
    await refuses(layout, key([1, 2, room + 1, 4]), U, `1.0 has ${room + 1} tokens, expected ${room}`);
    await refuses(layout, key([2, room, 4]), U, "1.0 has shape [2, ");
    await refuses(layout, key([1, 2, room, 4], "F32"), U, "1.0 is F32 and 0.0 F16");
    await refuses(layout, key([1, 2, room, 4], "U32"), U, "1.0 has element type U32");
    await refuses(layout, ({ tensors }) => delete tensors["1.1"], U, "layer 1 has keys but no values");
    await refuses(layout, ({ tensors }) => delete tensors["0.0"], F, "layer 0 has values but no keys");
    await refuses(layout, ({ tensors }) => tensors["1.3"] = { dtype: "F16", shape: [] }, U, '"1.3" is not part');
    await refuses(layout, ({ tensors }) => tensors["x"] = { dtype: "F16", shape: [] }, F, "names such as 0.0");
    await refuses(layout, ({ metadata }) => delete metadata["2.0"], F, "metadata 2.0 is missing");
    await refuses(layout, ({ metadata }) => metadata["format"] = "mlx", F, 'metadata "format"');
    const classes = layout === "0.21" ? 2 : 1;
    await refuses(
      layout,
      ({ metadata }) => metadata[`${classes}.2`] = "KVCache",
      F,
      "tensors of 2 layers and classes of 3",
    );
    await refuses(
      layout,
      ({ metadata }) => {
        delete metadata[`${classes}.1`];
        metadata[`${classes}.5`] = "KVCache";
      },
      F,
      `metadata ${classes}.1, the class of layer 1, is missing`,
    );
    await refuses(
      layout,
      ({ tensors, metadata }) => {
        for (const name of ["0.0", "0.1", "0.2"]) delete tensors[name];
        for (const name of ["2.1.0", "2.1.1"]) delete metadata[name];
        if (layout === "0.32") Object.assign(metadata, { "2.1.0": "1.2", "2.1.1": "scalar" });
        delete metadata["2.2.0"];
        delete metadata["2.2.1"];
      },
      F,
      "layer 0 of 2 is missing",
    );
  }
  await refuses("0.21", ({ metadata }) => metadata["0.1"] = "7", U, "layer 1 is a KVCache with unknown state");
});

Deno.test("mlx-lm 0.32: numbers of tokens have to be there, whole and equal", async () => {
  const F = KvzFormatError;
  const count = (...data: number[]) => ({ tensors }: Parts) =>
    void (tensors["1.2"] = { dtype: "I32", shape: [], data: Uint8Array.from(data) });
  await refuses("0.32", count(4, 0, 0, 0), KvzUnsupportedError, "layer 1 has 4 tokens, expected 5 as in layer 0");
  await refuses("0.32", count(8, 0, 0, 0), F, "layer 1 says that it has 8 tokens, its tensors have room for 7");
  await refuses("0.32", count(255, 255, 255, 255), F, "layer 1 says that it has -1 tokens");
  await refuses("0.32", ({ tensors }) => tensors["1.2"] = { dtype: "F32", shape: [] }, F, "1.2 is F32 []");
  await refuses("0.32", ({ tensors }) => tensors["1.2"] = { dtype: "I32", shape: [1] }, F, "1.2 is I32 [1]");
  await refuses("0.32", ({ metadata }) => metadata["2.2.1"] = "string", F, "of type string, expected I32 [] of type");
  await refuses("0.32", ({ metadata }) => metadata["2.2.0"] = "9.2", F, 'a tensor "9.2" that is not there');
  await refuses("0.32", ({ metadata }) => metadata["2.2.0"] = "0.2", F, "name each tensor once");
  await refuses("0.32", ({ metadata }) => delete metadata["2.2.0"], F, "metadata 2.");
  await refuses("0.32", ({ metadata }) => metadata["2.7"] = "", F, "metadata 2.");
  const none = ({ tensors, metadata }: Parts) => {
    tensors["1.0"] = { dtype: "F32", shape: [0] };
    Object.assign(metadata, { "2.3.0": "1.0", "2.3.1": "none" });
  };
  await refuses("0.32", none, KvzUnsupportedError, 'tensor 1.0 stands for "none", the cache is empty');
  await refuses(
    "0.32",
    ({ tensors, metadata }) => {
      delete tensors["1.2"];
      delete metadata["2.2.0"];
      delete metadata["2.2.1"];
    },
    F,
    "tensor 1.2, the tokens of layer 1, is missing",
  );
});

Deno.test("mlx-lm: truncations and damage give typed errors or a cache, nothing else", async () => {
  for (const layout of LAYOUTS) {
    const bytes = build(sample(layout));
    for (let length = 0; length < bytes.length; length++) {
      await assertRejects(() => read(bytes.subarray(0, length)), KvzFormatError);
    }
    const header = 8 + new DataView(bytes.buffer).getUint32(0, true);
    let refused = 0;
    for (let bit = 0; bit < header * 8; bit++) {
      const damaged = bytes.slice();
      damaged[bit >> 3] ^= 1 << (bit & 7);
      try {
        const cache = await read(damaged);
        assertEquals(cache.model.layers, 2);
      } catch (error) {
        assert(error instanceof KvzFormatError || error instanceof KvzUnsupportedError, `bit ${bit}: ${error}`);
        refused++;
      }
    }
    assert(refused > header * 8 * 0.9, `${refused} of ${header * 8} flips were refused`);
  }
});
