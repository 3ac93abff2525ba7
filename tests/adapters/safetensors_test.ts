import { assert, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import {
  loadCache,
  openSafetensors,
  readSafetensors,
  type SafetensorsOptions,
} from "../../src/adapters/safetensors.ts";
import { formatRopeMetadata, parseRopeMetadata } from "../../src/adapters/safetensors_rope.ts";
import {
  SafetensorsSink,
  type SafetensorsWriteOptions,
  writeSafetensors,
} from "../../src/adapters/safetensors_sink.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { BYTES_PER_ELEMENT, type DType, type RopeSpec } from "../../src/cache/types.ts";
import { memorySource } from "../../src/container/bytes.ts";
import { KvzFormatError, KvzMismatchError, KvzUnsupportedError } from "../../src/errors.ts";

interface Tensor {
  name: string;
  dtype: string;
  shape: number[];
  /** Default: zeros of the right length. */
  data?: Uint8Array;
}

const SIZES: Record<string, number> = { F64: 8, I64: 8, F32: 4, I32: 4, F16: 2, BF16: 2, U8: 1, F8_E4M3: 1 };
const ROPE = JSON.stringify({ theta: 10000, dim: 4, pairing: "half-split", first_position: 0 });

/** Writes a safetensors file in the given order, independently of the library. */
function build(tensors: Tensor[], metadata?: Record<string, string>): Uint8Array<ArrayBuffer> {
  const header: Record<string, unknown> = metadata === undefined ? {} : { __metadata__: metadata };
  const data: Uint8Array[] = [];
  let at = 0;
  for (const { name, dtype, shape, data: bytes } of tensors) {
    const part = bytes ?? new Uint8Array(shape.reduce((a, b) => a * b, SIZES[dtype]));
    header[name] = { dtype, shape, data_offsets: [at, at + part.length] };
    data.push(part);
    at += part.length;
  }
  return assemble(JSON.stringify(header), data);
}

function assemble(header: string, data: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(header);
  const out = new Uint8Array(8 + json.length + data.reduce((sum, part) => sum + part.length, 0));
  new DataView(out.buffer).setBigUint64(0, BigInt(json.length), true);
  out.set(json, 8);
  let at = 8 + json.length;
  for (const part of data) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Two layers, two heads, five tokens, keys of 6 and values of 4 elements, every byte its own pattern. */
function sampleTensors(dtype = "F16", tokens = 5): Tensor[] {
  const tensors: Tensor[] = [];
  for (let layer = 0; layer < 2; layer++) {
    for (const [kind, dim] of [["key", 6], ["value", 4]] as const) {
      const data = new Uint8Array(2 * tokens * dim * SIZES[dtype]);
      data.forEach((_, i) => data[i] = (i * 37 + layer * 101 + dim) & 0x3b);
      tensors.push({ name: `past_key_values.${layer}.${kind}`, dtype, shape: [1, 2, tokens, dim], data });
    }
  }
  return tensors;
}

const MINIMAL: Tensor[] = [
  { name: "past_key_values.0.key", dtype: "F16", shape: [1, 1, 2, 4] },
  { name: "past_key_values.0.value", dtype: "F16", shape: [1, 1, 2, 4] },
];

function integers(values: number[]): Uint8Array {
  return new Uint8Array(Int32Array.from(values).buffer);
}

/** An arbitrary cache in memory. */
const cacheArbitrary: fc.Arbitrary<KvCache> = fc.record({
  dtype: fc.constantFrom<DType[]>("f32", "f16", "bf16"),
  layers: fc.integer({ min: 1, max: 3 }),
  kvHeads: fc.integer({ min: 1, max: 3 }),
  keyDim: fc.integer({ min: 2, max: 7 }),
  valueDim: fc.integer({ min: 1, max: 5 }),
  gaps: fc.array(fc.integer({ min: 1, max: 2 }), { maxLength: 6 }),
  rope: fc.boolean(),
  ids: fc.boolean(),
  queryTokens: fc.option(fc.nat(6)),
  seed: fc.nat(255),
}).map(({ dtype, layers, kvHeads, keyDim, valueDim, gaps, rope, ids, queryTokens, seed }) => {
  const tokens = gaps.length;
  let position = -1;
  const block = (length: number, salt: number) =>
    Uint8Array.from({ length }, (_, i) => (i * 31 + salt * 17 + seed) & 255);
  const bytes = kvHeads * tokens * BYTES_PER_ELEMENT[dtype];
  const w = Math.min(queryTokens ?? 0, tokens);
  return new KvCache({
    model: {
      id: "m",
      layers,
      kvHeads,
      keyDim,
      valueDim,
      rope: rope ? { theta: 10000, dim: keyDim & ~1, pairing: "half-split" } : null,
    },
    dtype,
    positions: Int32Array.from(gaps, (gap) => position += gap),
    ...(ids ? { inputIds: Int32Array.from(gaps, (_, i) => i * 7 - seed) } : {}),
    ...(queryTokens === null ? {} : {
      queries: {
        dtype: "f32",
        heads: kvHeads * 2,
        tokens: w,
        layers: Array.from({ length: layers }, (_, l) => block(kvHeads * 2 * w * keyDim * 4, l)),
      },
    }),
    layers: Array.from({ length: layers }, (_, l) => ({
      key: block(bytes * keyDim, l),
      value: block(bytes * valueDim, l + 50),
    })),
  });
});

Deno.test("safetensors: an independently written file is read with all its facts", async () => {
  const tensors: Tensor[] = [
    { name: "input_ids", dtype: "I32", shape: [1, 5], data: integers([5, 4, 3, 2, -1]) },
    ...sampleTensors(),
  ];
  const scaling = { type: "linear", factor: 2 };
  const rope = JSON.stringify({ theta: 5e5, dim: 4, pairing: "half-split", first_position: 9, scaling });
  const cache = await readSafetensors(build(tensors, { model: "M", architecture: "llama", rope, text: "t" }));
  assertEquals(cache.model, {
    id: "M",
    architecture: "llama",
    layers: 2,
    kvHeads: 2,
    keyDim: 6,
    valueDim: 4,
    rope: { theta: 5e5, dim: 4, pairing: "half-split", scaling: { type: "linear", factor: 2 } },
  });
  assertEquals([cache.dtype, cache.tokens, cache.ragged], ["f16", 5, false]);
  assertEquals([...cache.positions], [9, 10, 11, 12, 13]);
  assertEquals([...cache.inputIds!], [5, 4, 3, 2, -1]);
  for (const { name, data, shape } of sampleTensors()) {
    const [, layer, kind] = name.split(".");
    for (let head = 0; head < 2; head++) {
      const length = 5 * shape[3] * 2;
      const found = kind === "key" ? cache.key(Number(layer), head) : cache.value(Number(layer), head);
      assertEquals(found, data!.subarray(head * length, (head + 1) * length));
    }
  }
});

Deno.test("safetensors: ranges are read lazily and joined where they touch", async () => {
  const bytes = build(sampleTensors(), { rope: ROPE });
  const inner = memorySource(bytes);
  let reads = 0;
  const source = { size: inner.size, read: (at: number, n: number) => (reads++, inner.read(at, n)) };
  const cache = await openSafetensors(source);
  assertEquals(reads, 2);
  const whole = await cache.read("value", 0, 5);
  assertEquals(reads, 4, "one read a layer: the heads of a tensor touch");
  const part = await cache.read("value", 1, 3);
  assertEquals(reads, 8, "one read a layer and head");
  assertEquals(await cache.read("value", 2, 2), new Uint8Array(0));
  assertEquals(reads, 8);
  const expected = Array.from({ length: 4 }, (_, block) => [...whole.subarray(block * 40 + 8, block * 40 + 24)]);
  assertEquals([...part], expected.flat());
  whole.fill(0);
  assert((await cache.read("value", 0, 5)).some((byte) => byte !== 0), "results belong to the caller");
  for (const [begin, end] of [[-1, 2], [3, 2], [0, 6], [0.5, 1], [NaN, 1]]) {
    await assertRejects(() => cache.read("key", begin, end), RangeError, "outside [0, 5)");
  }
});

Deno.test("safetensors: what was written is read again, in either pairing", async () => {
  await fc.assert(fc.asyncProperty(cacheArbitrary, fc.boolean(), async (cache, adjacent) => {
    const options: SafetensorsWriteOptions = adjacent ? { pairing: "adjacent" } : {};
    const bytes = await writeSafetensors(cache, options);
    const back = await readSafetensors(bytes);
    assert(back.equals(cache));
    assertEquals(
      back.model.rope?.pairing,
      cache.model.rope === null ? undefined : adjacent ? "adjacent" : "half-split",
    );
    assertEquals(await writeSafetensors(back, options), bytes);
  }));
});

Deno.test("safetensors: files have the layout of the reference implementation", async () => {
  const tensors = [
    { name: "input_ids", dtype: "I32", shape: [1, 5], data: integers([1, 2, 3, 4, 5]) },
    ...sampleTensors(),
  ];
  const bytes = await writeSafetensors(await readSafetensors(build(tensors, { rope: ROPE, model: "M" })), {
    metadata: { text: "t" },
  });
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  assertEquals(length % 8, 0);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  assertEquals(header.__metadata__, { model: "M", text: "t", rope: ROPE });
  assertEquals(Object.keys(header), [
    "__metadata__",
    "input_ids",
    "past_key_values.0.key",
    "past_key_values.0.value",
    "past_key_values.1.key",
    "past_key_values.1.value",
  ]);
  assertEquals(header.input_ids, { dtype: "I32", shape: [1, 5], data_offsets: [0, 20] });
  assertEquals(header["past_key_values.0.key"], { dtype: "F16", shape: [1, 2, 5, 6], data_offsets: [20, 140] });
  assertEquals(bytes.subarray(8 + length), build(tensors).subarray(-420));
});

Deno.test("safetensors: keys in adjacent pairs become half-split, rotated dimensions only", async () => {
  const row = (values: number[]) => new Uint8Array(Uint16Array.from(values).buffer);
  const tensors: Tensor[] = [
    {
      name: "past_key_values.0.key",
      dtype: "BF16",
      shape: [1, 1, 2, 5],
      data: row([0, 1, 2, 3, 4, 10, 11, 12, 13, 14]),
    },
    { name: "past_key_values.0.value", dtype: "BF16", shape: [1, 1, 2, 1], data: row([7, 8]) },
    { name: "queries.0", dtype: "F16", shape: [1, 2, 1, 5], data: row([20, 21, 22, 23, 24, 30, 31, 32, 33, 34]) },
  ];
  const bytes = build(tensors, { rope: ROPE.replace("half-split", "adjacent") });
  const cache = await readSafetensors(bytes);
  assertEquals(cache.key(0, 0), row([0, 2, 1, 3, 4, 10, 12, 11, 13, 14]));
  assertEquals(cache.value(0, 0), row([7, 8]));
  assertEquals(cache.queries!.layers, [row([20, 22, 21, 23, 24, 30, 32, 31, 33, 34])]);
  assertEquals(cache.queries!.heads, 2);
  const written = await writeSafetensors(cache, { pairing: "adjacent" });
  assertEquals(written.subarray(-44), bytes.subarray(-44));
});

Deno.test("safetensors: a sink takes chunks of tokens and layers in any order", async () => {
  await fc.assert(fc.asyncProperty(cacheArbitrary, fc.nat(100), fc.boolean(), async (cache, seed, adjacent) => {
    const { model, tokens } = cache;
    const options = { pairing: adjacent ? "adjacent" : "half-split" } as const;
    let out = new Uint8Array(0);
    const sink = new SafetensorsSink({ writeAt: (at, bytes) => void out.set(bytes, at) }, cache, options);
    out = new Uint8Array(sink.byteLength);
    await sink.start();
    const cut = seed % (tokens + 1);
    const parts = [];
    for (const kind of ["key", "value"] as const) {
      for (const [begin, end] of [[cut, tokens], [0, cut]]) {
        const bytes = cache.read(kind, begin, end);
        const perLayer = bytes.length / model.layers;
        for (let layer = model.layers - 1; layer >= 0; layer--) {
          parts.push({
            kind,
            layer,
            begin,
            n: end - begin,
            bytes: bytes.slice(layer * perLayer, (layer + 1) * perLayer),
          });
        }
      }
    }
    for (const { kind, layer, begin, n, bytes } of parts) {
      const before = bytes.slice();
      await sink.write(kind, layer, begin, n, bytes);
      assertEquals(bytes, before, "the caller's bytes are left as they are");
    }
    sink.finish();
    assertEquals(out, await writeSafetensors(cache, options));
  }));
});

Deno.test("safetensors: a sink refuses chunks that do not fit, and an incomplete cache", async () => {
  const cache = await readSafetensors(build(sampleTensors(), { rope: ROPE }));
  const sink = new SafetensorsSink({ writeAt() {} }, cache);
  await sink.start();
  const layer = 2 * 5 * 4 * 2;
  for (
    const [layerBegin, begin, n, length] of [
      [0, 0, 5, layer + 1],
      [0, 0, 6, layer / 5 * 6],
      [0, 1, 5, layer],
      [1, 0, 5, 2 * layer],
      [0, 0, 0, 8],
      [-1, 0, 5, layer],
      [0, 0.5, 1, layer / 5],
    ]
  ) {
    await assertRejects(
      () => sink.write("value", layerBegin, begin, n, new Uint8Array(length)),
      RangeError,
      "Cannot write",
    );
  }
  await sink.write("value", 0, 0, 5, new Uint8Array(2 * layer));
  assertThrows(() => sink.finish(), Error, `${2 * 2 * 5 * 6 * 2} bytes of the cache have not been written`);
  assertThrows(() => new SafetensorsSink({ writeAt() {} }, cache, { metadata: { rope: "x" } }), TypeError, "rope");
  const head = { key: new Uint8Array(12), value: new Uint8Array(8), positions: Int32Array.of(0) };
  const other = { ...head, positions: new Int32Array(0), key: new Uint8Array(0), value: new Uint8Array(0) };
  const model = { ...cache.model, layers: 1 };
  const ragged = KvCache.ragged({ model, dtype: "f16", blocks: [[head, other]] });
  await assertRejects(() => writeSafetensors(ragged), KvzUnsupportedError, "ragged");
});

Deno.test("safetensors: positions come from the tensor, the metadata or the options", async () => {
  const positions = (values: number[]) => ({ name: "positions", dtype: "I32", shape: [1, 2], data: integers(values) });
  const read = async (
    tensors: Tensor[],
    rope: string,
    options?: SafetensorsOptions,
  ) => [...(await readSafetensors(build([...tensors, ...MINIMAL], { rope }), options)).positions];
  assertEquals(await read([], ROPE.replace(":0}", ":41}")), [41, 42]);
  assertEquals(await read([], ROPE, { firstPosition: 7 }), [7, 8]);
  assertEquals(await read([positions([3, 9])], ROPE.replace(":0}", ":3}")), [3, 9]);
  assertEquals(await read([positions([3, 9])], "null"), [3, 9]);
  assertEquals(await read([], "null"), [0, 1]);
  await assertRejects(() => read([positions([3, 9])], ROPE), KvzFormatError, "begin at 3, first_position is 0");
  await assertRejects(
    () => read([positions([0, 0])], ROPE),
    KvzFormatError,
    "position of token 1 is 0, expected more than 0",
  );
  await assertRejects(() => read([positions([-1, 0])], ROPE), KvzFormatError, "position of token 0 is -1");
  await assertRejects(() => read([], ROPE.replace(":0}", ":2147483647}")), KvzFormatError, "exceed 2^31");
  await assertRejects(() => read([], ROPE, { firstPosition: -1 }), RangeError, "first position is -1");
});

Deno.test("safetensors: the rotation must be known, and options win over metadata", async () => {
  const plain = build(MINIMAL, { model: "M" });
  const error = await assertRejects(() => readSafetensors(plain), KvzMismatchError, "no rope metadata");
  assert(error.message.includes("option `rope`"));
  const rope: RopeSpec = { theta: 1e6, dim: 2, pairing: "adjacent" };
  const cache = await readSafetensors(plain, { rope, modelId: "N", architecture: "qwen2" });
  assertEquals([cache.model.rope, cache.model.id, cache.model.architecture], [rope, "N", "qwen2"]);
  assertEquals((await readSafetensors(build(MINIMAL, { rope: ROPE }), { rope: null })).model.rope, null);
  await assertRejects(() => readSafetensors(plain, { rope: { ...rope, dim: 6 } }), RangeError, "RoPE dimension is 6");
  const unknown = build(MINIMAL, { rope: '{"theta":1,"type":"new"}' });
  await assertRejects(() => readSafetensors(unknown), KvzFormatError, "first_position is absent");
  assertEquals((await readSafetensors(unknown, { rope, firstPosition: 1 })).positions[0], 1);
});

Deno.test("safetensors: rope metadata in the names of Hugging Face configurations", () => {
  const parse = (scaling: unknown) =>
    parseRopeMetadata(JSON.stringify({ ...JSON.parse(ROPE), scaling }), 64).rope?.scaling;
  const llama3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };
  const parsed = { type: "llama3", factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPosition: 8192 } as const;
  assertEquals(parse({ rope_type: "llama3", ...llama3 }), parsed);
  assertEquals(parse({ type: "llama3", rope_type: "llama3", ...llama3 }), parsed);
  assertEquals(parse(null), undefined);
  // Defaults of transformers' _compute_yarn_parameters.
  const yarn = parse({ type: "yarn", factor: 4, original_max_position_embeddings: 32768, attention_factor: null });
  assertEquals(yarn, {
    type: "yarn",
    factor: 4,
    originalMaxPosition: 32768,
    betaFast: 32,
    betaSlow: 1,
    attentionFactor: 0.1 * Math.log(4) + 1,
    truncate: true,
  });
  for (const scaling of [parsed, yarn!, { type: "linear", factor: 3 } as const, undefined]) {
    const rope: RopeSpec = { theta: 5e5, dim: 64, pairing: "adjacent", ...(scaling ? { scaling } : {}) };
    assertEquals(parseRopeMetadata(formatRopeMetadata(rope, 3), 64), { rope, firstPosition: 3 });
  }
  assertEquals(parseRopeMetadata(formatRopeMetadata(null, 0), 64), { rope: null });
  const wrong: [unknown, string][] = [
    [{ type: "llama3", ...llama3, high_freq_factor: 1 }, "scaling.highFreqFactor is 1, expected a number above"],
    [{ type: "llama3", ...llama3, low_freq_factor: null }, "low_freq_factor is missing"],
    [{ type: "linear", factor: 0 }, "scaling.factor is 0, expected a number above 0"],
    [{ type: "linear", factor: "2" }, "factor is of type string, expected number"],
    ["yarn", 'scaling is "yarn", expected an object'],
  ];
  for (const [scaling, message] of wrong) assertThrows(() => parse(scaling), KvzFormatError, message);
  assertThrows(() => parse({ type: "longrope", factor: 4 }), KvzUnsupportedError, 'RoPE scaling "longrope"');
  const types = fc.constantFrom("linear", "llama3", "yarn");
  fc.assert(fc.property(fc.jsonValue(), types, fc.constantFrom("factor", "beta_fast", "x"), (value, type, name) => {
    for (
      const json of [value, { ...JSON.parse(ROPE), scaling: value }, {
        ...JSON.parse(ROPE),
        scaling: { type, ...llama3, [name]: value },
      }]
    ) {
      try {
        parseRopeMetadata(JSON.stringify(json), 64);
      } catch (error) {
        assert(error instanceof KvzFormatError || error instanceof KvzUnsupportedError, `${error}`);
      }
    }
  }));
  for (
    const text of ["", "[", "1", '"x"', "[]", "{}", ROPE.replace('"dim":4', '"dim":66'), ROPE.replace("}", ',"x":1}')]
  ) {
    assertThrows(() => parseRopeMetadata(text, 64), KvzFormatError, "rope metadata");
  }
});

Deno.test("safetensors: caches of another kind are refused by name", async () => {
  const replaced = (name: string, change: Partial<Tensor> | null) =>
    sampleTensors().flatMap((t) =>
      t.name !== name ? [t] : change === null ? [] : [{ ...t, data: undefined, ...change }]
    );
  const key0 = "past_key_values.0.key";
  const cases: [Tensor[], typeof KvzFormatError | typeof KvzUnsupportedError, string][] = [
    [[], KvzFormatError, "no tensor past_key_values.0.key"],
    [replaced(key0, null), KvzFormatError, "layer 0 has values but no keys"],
    [replaced("past_key_values.1.value", null), KvzUnsupportedError, "layer 1 has keys but no values"],
    [
      sampleTensors().filter(({ name }) => name.endsWith("key")),
      KvzUnsupportedError,
      "multi-head latent attention (MLA)",
    ],
    [sampleTensors().filter(({ name }) => name.includes("1")), KvzFormatError, "layer 0 of 2 is missing"],
    [replaced(key0, { shape: [2, 2, 5, 6] }), KvzUnsupportedError, `${key0} holds a batch of 2 sequences, expected 1`],
    [replaced(key0, { shape: [2, 5, 6] }), KvzUnsupportedError, `${key0} has shape [2, 5, 6]`],
    [replaced(key0, { shape: [1, 0, 5, 6] }), KvzUnsupportedError, "expected 1 to 4096 heads"],
    [replaced(key0, { shape: [1, 2, 4, 6] }), KvzUnsupportedError, "past_key_values.0.value has 5 tokens, expected 4"],
    [replaced("past_key_values.1.key", { shape: [1, 3, 5, 6] }), KvzUnsupportedError, "has 3 heads, expected 2"],
    [
      replaced("past_key_values.1.key", { shape: [1, 2, 5, 8] }),
      KvzUnsupportedError,
      "has 8 dimensions a head, expected 6",
    ],
    [replaced("past_key_values.1.value", { dtype: "BF16" }), KvzUnsupportedError, "past_key_values.1.value is BF16"],
    [replaced(key0, { dtype: "F8_E4M3" }), KvzUnsupportedError, `${key0} has element type F8_E4M3`],
    [
      [...sampleTensors(), { name: "conv_states.0", dtype: "F16", shape: [1, 2] }],
      KvzUnsupportedError,
      "conv_states.0",
    ],
    [
      [...sampleTensors(), { name: "past_key_values.01.key", dtype: "F16", shape: [1] }],
      KvzUnsupportedError,
      ".01.key",
    ],
    [
      [...sampleTensors(), { name: "past_key_values.99999.key", dtype: "F16", shape: [1] }],
      KvzUnsupportedError,
      "99999",
    ],
    [
      [...sampleTensors(), { name: "input_ids", dtype: "I32", shape: [1, 4] }],
      KvzUnsupportedError,
      "input_ids has shape [1, 4]",
    ],
    [
      [...sampleTensors(), { name: "input_ids", dtype: "F32", shape: [1, 5] }],
      KvzUnsupportedError,
      "input_ids has element type F32",
    ],
    [
      [...sampleTensors(), { name: "queries.0", dtype: "F16", shape: [1, 2, 1, 6] }],
      KvzUnsupportedError,
      "queries.1 is missing",
    ],
    [
      [...sampleTensors(), ...[0, 1, 2].map((n) => ({ name: `queries.${n}`, dtype: "F16", shape: [1, 2, 1, 6] }))],
      KvzUnsupportedError,
      "queries.2 but only 2 layers",
    ],
    [
      [...sampleTensors(), ...[0, 1].map((n) => ({ name: `queries.${n}`, dtype: "F16", shape: [1, 3, 1, 6] }))],
      KvzUnsupportedError,
      "expected a multiple of 2 heads",
    ],
  ];
  for (const [tensors, type, message] of cases) {
    await assertRejects(() => readSafetensors(build(tensors, { rope: ROPE })), type, message);
  }
});

Deno.test("safetensors: token ids in 64 bits, where they fit 32", async () => {
  const wide = (values: bigint[]) => ({
    name: "input_ids",
    dtype: "I64",
    shape: [1, 2],
    data: new Uint8Array(BigInt64Array.from(values).buffer),
  });
  const cache = await readSafetensors(build([wide([49151n, -100n]), ...MINIMAL], { rope: ROPE }));
  assertEquals([...cache.inputIds!], [49151, -100]);
  const tooWide = build([wide([0n, 2n ** 31n]), ...MINIMAL], { rope: ROPE });
  await assertRejects(() => readSafetensors(tooWide), KvzFormatError, "input_ids of token 1 is 2147483648");
});

Deno.test("safetensors: broken files are refused: header, types, sizes, holes, overlaps, tails, repeated keys", async () => {
  const tensor = (begin: number, end: number, shape = [end - begin], dtype: unknown = "U8") =>
    JSON.stringify({ dtype, shape, data_offsets: [begin, end] });
  const eight = [new Uint8Array(8)];
  const cases: [Uint8Array, string][] = [
    [new Uint8Array(9), "expected at least 10"],
    [assemble(" {}", []), "does not begin with a JSON object"],
    [assemble("[1]", []), "does not begin with a JSON object"],
    [assemble("{]", []), "is not JSON"],
    [assemble("\ufeff{}", []), "is not JSON"],
    [assemble(`{"a":${tensor(0, 8)},"a":${tensor(0, 8)}}`, eight), "repeats a key"],
    [assemble(`{"a":{"dtype":"U8","dtype":"U8","shape":[8],"data_offsets":[0,8]}}`, eight), "repeats a key"],
    [assemble(`{"a":${tensor(0, 8)},"b":${tensor(4, 8)}}`, eight), 'tensor "b" begins at'],
    [assemble(`{"a":${tensor(0, 4)},"b":${tensor(5, 8)}}`, eight), 'tensor "b" begins at'],
    [assemble(`{"a":${tensor(1, 8)}}`, eight), 'tensor "a" begins at'],
    [assemble(`{"a":${tensor(0, 7)}}`, eight), "tensors end at"],
    [assemble(`{"a":${tensor(0, 9)}}`, eight), "tensors end at"],
    [assemble(`{"a":${tensor(0, 8, [7])}}`, eight), "has 8 bytes, expected 7"],
    [assemble(`{"a":${tensor(0, 8, [1e300, 1e300, 0])}}`, eight), "valid shape"],
    [assemble(`{"a":${tensor(0, 8, [2 ** 52, 2 ** 52, 0])}}`, eight), "has 8 bytes, expected 0"],
    [assemble(`{"a":${tensor(0, 8, [-8])}}`, eight), "valid shape"],
    [assemble(`{"a":${tensor(8, 0, [8])}}`, eight), "valid data_offsets"],
    [assemble(`{"a":${tensor(0, 8, [8], "F4")}}`, eight), 'element type "F4"'],
    [assemble(`{"a":${tensor(0, 8, [8], "toString")}}`, eight), 'element type "toString"'],
    [assemble(`{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8],"x":1}}`, eight), 'unknown field "x"'],
    [assemble(`{"a":7}`, []), "is not described by an object"],
    [assemble(`{"__metadata__":{"a":7}}`, []), "is not a text"],
    [assemble(`{"__metadata__":[]}`, []), "is not an object"],
  ];
  for (const [bytes, message] of cases) await assertRejects(() => readSafetensors(bytes), KvzFormatError, message);
  const huge = build(MINIMAL, { rope: ROPE });
  new DataView(huge.buffer).setBigUint64(0, 2n ** 60n, true);
  await assertRejects(() => readSafetensors(huge), KvzFormatError, "the limit is 104857600");
  new DataView(huge.buffer).setBigUint64(0, 100n << 20n, true);
  await assertRejects(() => readSafetensors(huge), KvzFormatError, "the file has");
});

Deno.test("safetensors: every truncation is refused; arbitrary bytes and damage give typed errors only", async () => {
  const bytes = build([
    { name: "input_ids", dtype: "I64", shape: [1, 2] },
    ...MINIMAL,
    { name: "queries.0", dtype: "F32", shape: [1, 2, 1, 4] },
  ], { rope: ROPE, model: "M" });
  await readSafetensors(bytes);
  for (let length = 0; length < bytes.length; length++) {
    await assertRejects(() => readSafetensors(bytes.slice(0, length)), KvzFormatError);
  }
  const headerLength = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const hostile = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.jsonValue().map((value) => assemble(JSON.stringify(value), [])),
    fc.array(fc.tuple(fc.nat(8 + headerLength), fc.nat(255)), { minLength: 1, maxLength: 4 }).map((changes) => {
      const out = bytes.slice();
      for (const [at, value] of changes) out[at] = value;
      return out;
    }),
    // Digits in the header changed: sizes, offsets, positions.
    fc.array(fc.tuple(fc.nat(200), fc.nat(9)), { minLength: 1, maxLength: 3 }).map((changes) => {
      const out = bytes.slice();
      const digits = [...out.keys()].filter((i) => i >= 8 && i < 8 + headerLength && out[i] >= 48 && out[i] <= 57);
      for (const [at, digit] of changes) out[digits[at % digits.length]] = 48 + digit;
      return out;
    }),
  );
  await fc.assert(
    fc.asyncProperty(hostile, async (data) => {
      try {
        await readSafetensors(data);
      } catch (error) {
        const typed = [KvzFormatError, KvzUnsupportedError, KvzMismatchError].some((type) => error instanceof type);
        assert(typed, `${error}`);
      }
    }),
    { numRuns: 2000 },
  );
});

Deno.test("safetensors: a cache without tokens", async () => {
  const tensors = MINIMAL.map((tensor) => ({ ...tensor, shape: [1, 1, 0, 4] }));
  const file = await openSafetensors(memorySource(build(tensors, { rope: ROPE })));
  assertEquals([file.tokens, file.positions.length], [0, 0]);
  assertEquals(await file.read("key", 0, 0), new Uint8Array(0));
  const cache = await loadCache(file);
  assert((await readSafetensors(await writeSafetensors(cache))).equals(cache));
});
