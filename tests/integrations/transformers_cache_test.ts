import { assert, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import { fromTransformersJs, toTransformersJs } from "../../src/adapters/transformers_js.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import type { ModelSpec } from "../../src/cache/types.ts";
import { inspect } from "../../src/codec/inspect.ts";
import { openCodec } from "../../src/codec/open.ts";
import { KvzBackendError, KvzFormatError, KvzLimitError, KvzMismatchError, KvzUnsupportedError } from "../../mod.ts";
import { restoreCache, type RestoreCacheOptions, saveCache, type SaveCacheOptions } from "../../transformers.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";
import { FakeDevice, FakeDynamicCache, FakeOrtTensor, FakeTensor } from "./transformers_fakes.ts";

const SPEC: ModelSpec = {
  architecture: "llama",
  id: "fake-model",
  layers: 2,
  kvHeads: 2,
  keyDim: 8,
  valueDim: 8,
  rope: { theta: 10000, dim: 8, pairing: "half-split" },
};
const CONFIG = {
  model_type: "llama",
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  hidden_size: 32,
  rope_theta: 10000,
  vocab_size: 1000,
  max_position_embeddings: 512,
  _name_or_path: "/some/path/of/the/trainer",
};
const model = { config: CONFIG };
const profile = syntheticProfile(SPEC);
const transformers = { DynamicCache: FakeDynamicCache, Tensor: FakeTensor };
const tokenizer = { get_vocab: () => new Map([["a", 0], ["b", 1]]) };

const sample = (tokens: number, dtype: "f32" | "f16" = "f32") => syntheticCache(tokens, { model: SPEC, dtype });

/** A DynamicCache in main memory. */
const onCpu = (cache: KvCache) =>
  new FakeDynamicCache(toTransformersJs(cache, { makeTensor: (type, data, dims) => new FakeTensor(type, data, dims) }));

/** A DynamicCache on a device, as a WebGPU session of onnxruntime leaves it. */
function onGpu(cache: KvCache, device: FakeDevice): FakeDynamicCache {
  return new FakeDynamicCache(toTransformersJs(cache, {
    makeTensor: (dataType, data, dims) => {
      const bytes = new Uint8Array(data.buffer as ArrayBuffer);
      const buffer = device.createBuffer({ size: Math.ceil(bytes.length / 16) * 16, usage: 0x8c });
      buffer.bytes.set(bytes);
      const download = () =>
        Promise.resolve(new (dataType === "float32" ? Float32Array : Uint16Array)(bytes.slice().buffer));
      return FakeTensor.around(
        FakeOrtTensor.fromGpuBuffer(buffer, { dataType, dims, download, dispose: () => buffer.destroy() }),
      );
    },
  }));
}

const save = (cache: FakeDynamicCache, options: Partial<SaveCacheOptions> = {}) =>
  saveCache({ ...cache }, { model, profile, lossless: true, ...options });
const restore = (bytes: Uint8Array, options: Partial<RestoreCacheOptions<FakeDynamicCache>> = {}) =>
  restoreCache(bytes, { model, profile, transformers, ...options });
/** The tensors' bits, wherever they are. */
const read = (cache: FakeDynamicCache) => fromTransformersJs({ ...cache }, { model: SPEC });

Deno.test("a lossless cache comes back bit for bit, with ids, pending token and user data", async () => {
  const source = sample(150);
  const ids = [...source.inputIds!, 77];
  const { bytes, report } = await save(onCpu(source), {
    inputIds: BigInt64Array.from(ids, BigInt),
    user: { title: "x" },
  });
  assertEquals(report.paperRatio, null); // all is window
  const restored = await restore(bytes);
  assertEquals(restored.tokens, 150);
  assertEquals(restored.pastKeyValues.get_seq_length(), 150);
  assertEquals(restored.user, { title: "x" });
  assertEquals(restored.inputIds, Int32Array.from(ids));
  assertEquals((await read(restored.pastKeyValues)).read("key", 0, 150), source.read("key", 0, 150));
  assertEquals((await read(restored.pastKeyValues)).read("value", 0, 150), source.read("value", 0, 150));

  const { input_ids, attention_mask, past_key_values } = restored.generateInputs([5, 6n]);
  assertEquals((input_ids as FakeTensor).data, BigInt64Array.from([...ids, 5, 6], BigInt));
  assertEquals((input_ids as FakeTensor).dims, [1, 153]);
  assertEquals((attention_mask as FakeTensor).data, new BigInt64Array(153).fill(1n));
  assert(past_key_values === restored.pastKeyValues);
});

Deno.test("a compressed cache: sinks and codes within bounds, the window bit-exact; f16 storage halves it", async () => {
  const source = sample(300);
  await using codec = await openCodec(profile);
  const options = { codec, profile: undefined, lossless: false, ratio: 4, window: 64 };
  const { bytes, report } = await save(onCpu(source), options);
  assert(report.paperRatio! > 2);
  const back = await read((await restore(bytes, { codec, profile: undefined })).pastKeyValues);
  assertEquals(back.dtype, "f32");
  assertEquals(back.slice(236, 300).read("value", 0, 64), source.slice(236, 300).read("value", 0, 64));
  const [a, b] = [source, back].map((cache) => new Float32Array(cache.read("key", 0, 236).buffer));
  const norm = (x: Float32Array) => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0));
  const error = norm(a.map((v, i) => v - b[i])) / norm(a);
  assert(error > 0 && error < 0.2, `${error}`);

  const half = await save(onCpu(source), { ...options, dtype: "f16" });
  const raw = (streams: Readonly<Record<string, number>>) => streams["KRAW"] + streams["VRAW"];
  assert(raw(half.report.streams) < 0.6 * raw(report.streams));
  const halfBack = await restore(half.bytes, { codec, profile: undefined });
  assertEquals(halfBack.pastKeyValues["past_key_values.0.key"].type, "float16");
});

Deno.test("the element type is what the model's session takes", async () => {
  const { bytes } = await save(onCpu(sample(20)));
  const taking = (type: string) => ({
    config: CONFIG,
    sessions: {
      model: { inputMetadata: [{ name: "input_ids", type: "int64" }, { name: "past_key_values.0.key", type }] },
    },
  });
  const typeOf = async (options: object) =>
    (await restore(bytes, options)).pastKeyValues["past_key_values.1.value"].type;
  assertEquals(await typeOf({}), "float32");
  assertEquals(await typeOf({ model: taking("float16") }), "float16");
  assertEquals(await typeOf({ model: taking("float16"), type: "float32" }), "float32");
  await assertRejects(() => restore(bytes, { model: taking("int8") }), KvzUnsupportedError, "takes it as int8");
});

Deno.test("tensors on a GPU without a device: moved to main memory, GPU memory freed, cache usable", async () => {
  const device = new FakeDevice();
  const source = sample(40);
  const cache = onGpu(source, device);
  const { bytes } = await save(cache);
  assertEquals(device.live, 0);
  assertEquals(cache["past_key_values.0.key"].location, "cpu");
  assert((await read(cache)).equals(await read((await restore(bytes)).pastKeyValues)));
  assertEquals((await save(cache)).bytes, bytes);
});

Deno.test("tensors on a GPU with its device: read where they are, and placed there", async () => {
  for (const dtype of ["f32", "f16"] as const) {
    const device = new FakeDevice();
    const source = sample(21, dtype);
    const cache = onGpu(source, device);
    const before = device.live;
    const { bytes } = await save(cache, { device });
    assertEquals(device.live, before);
    assert(Object.values(cache).every(({ location }) => location === "gpu-buffer"));

    const { pastKeyValues } = await restore(bytes, { device });
    const tensors = Object.values(pastKeyValues);
    assertEquals(tensors.length, 4);
    for (const { location, dims } of tensors) {
      assertEquals(location, "gpu-buffer");
      assertEquals(dims, [1, 2, 21, 8]);
    }
    assertEquals((await save(pastKeyValues, { device })).bytes, bytes);
    tensors[0].dispose();
    tensors.slice(1).forEach((tensor) => tensor.dispose());
    assertEquals(device.live, before);
    // A tensor placed by kvz also answers onnxruntime's own download.
    const again = await restore(bytes, { device });
    assertEquals((await read(again.pastKeyValues)).read("key", 0, 21), source.read("key", 0, 21));
  }
});

Deno.test("an odd number of float16 elements goes through GPU buffers whole", async () => {
  const odd: ModelSpec = { architecture: "opt", layers: 1, kvHeads: 1, keyDim: 5, valueDim: 5, rope: null };
  const options = {
    model: { config: { model_type: "opt", num_hidden_layers: 1, num_attention_heads: 1, hidden_size: 5 } },
    profile: syntheticProfile(odd),
    device: new FakeDevice(),
  };
  const source = syntheticCache(3, { model: odd, dtype: "f16" });
  const { bytes } = await save(onCpu(source), options);
  const { pastKeyValues } = await restore(bytes, options);
  assertEquals((await save(pastKeyValues, options)).bytes, bytes);
  const back = await fromTransformersJs({ ...pastKeyValues }, { model: odd });
  for (const kind of ["key", "value"] as const) assertEquals(back.read(kind, 0, 3), source.read(kind, 0, 3));
});

Deno.test("what the GPU refuses is an error, not zeros, and leaves nothing behind", async () => {
  const source = sample(40);
  const cache = onGpu(source, new FakeDevice());
  const other = new FakeDevice();
  await assertRejects(() => save(cache, { device: other }), KvzBackendError, "buffer of another device");
  assertEquals(other.live, 0);
  const { bytes } = await save(onCpu(source));
  const small = new FakeDevice(6000);
  await assertRejects(() => restore(bytes, { device: small }), KvzBackendError, "Cannot place the cache on the GPU");
  assertEquals(small.live, 0);
  class Plain {
    constructor(readonly type: string) {}
  }
  await assertRejects(
    () => restore(bytes, { device: other, transformers: { ...transformers, Tensor: Plain } }),
    TypeError,
    "no fromGpuBuffer()",
  );
});

Deno.test("the caller can make the tensors", async () => {
  const { bytes } = await save(onCpu(sample(10)));
  const made: string[] = [];
  const { pastKeyValues } = await restore(bytes, {
    makeTensor: (type, data, dims) => {
      made.push(`${type} ${dims}`);
      return Promise.resolve(new FakeTensor(type, data, dims));
    },
  });
  assertEquals(pastKeyValues.get_seq_length(), 10);
  assertEquals(made, Array(4).fill("float32 1,2,10,8"));
});

Deno.test("caches that cannot be saved are refused by name", async () => {
  const cache = onCpu(sample(10));
  const refuse = (
    options: Partial<SaveCacheOptions>,
    type: new (...a: never[]) => Error,
    message: string,
    from = cache,
  ) => assertRejects(() => save(from, options), type, message);
  const disposed = onGpu(sample(10), new FakeDevice());
  disposed["past_key_values.1.value"].dispose();
  await refuse({}, KvzUnsupportedError, "past_key_values.1.value is disposed", disposed);
  const batch = new FakeTensor("float32", new Float32Array(2 * 2 * 10 * 8), [2, 2, 10, 8]);
  const two = new FakeDynamicCache({ ...cache, "past_key_values.0.key": batch });
  await refuse({}, KvzUnsupportedError, "past_key_values.0.key holds a batch of 2 sequences", two);
  await refuse({ inputIds: [1, 2, 3] }, KvzMismatchError, "there are 3 token ids for 10 tokens");
  await refuse(
    { inputIds: [...Array(9).fill(1), 1000] },
    KvzMismatchError,
    "token 9 has id 1000, the model's vocabulary",
  );
  await refuse({ modelId: "another-model" }, KvzMismatchError, 'id is "another-model" in the cache');
  await refuse(
    { model: { config: { ...CONFIG, num_hidden_layers: 3 } } },
    KvzMismatchError,
    'the record lacks "past_key_values.2.key"',
  );
  await refuse({ model: { config: { ...CONFIG, rope_theta: 5000 } } }, KvzMismatchError, '"theta":5000');
  await refuse({ model: { config: { ...CONFIG, is_encoder_decoder: true } } }, KvzUnsupportedError, "encoder-decoder");
  await refuse(
    { model: { config: { ...CONFIG, max_position_embeddings: 8 } } },
    KvzLimitError,
    "the model's context 8",
  );
  await refuse({ user: { transformersJs: 1 } }, TypeError, '"transformersJs" is reserved');
  await refuse({ window: 4 }, TypeError, '"lossless" and "window" together');
  await refuse({ profile: undefined }, TypeError, 'neither "codec" nor "profile"');
  await refuse({ dtype: "bf16" as never }, TypeError, "expected f32 or f16");
});

Deno.test("files of another model, profile, tokenizer or prompt are refused by name", async () => {
  const source = sample(30);
  const ids = [...source.inputIds!];
  const { bytes } = await save(onCpu(source), { inputIds: [...ids, 9], tokenizer });
  const refuse = (
    options: Partial<RestoreCacheOptions<FakeDynamicCache>>,
    type: new (...a: never[]) => Error,
    message: string,
  ) => assertRejects(() => restore(bytes, options), type, message);
  await refuse({ model: { config: { ...CONFIG, num_hidden_layers: 3 } } }, KvzMismatchError, "layers is 2 in the file");
  await refuse({ model: { config: { ...CONFIG, rope_theta: 5000 } } }, KvzMismatchError, "of different models");
  await refuse({ modelId: "another-model" }, KvzMismatchError, 'id is "fake-model" in the file');
  assertEquals((await restore(bytes, { modelId: "fake-model" })).tokens, 30);
  await refuse({ profile: syntheticProfile(SPEC, 98) }, KvzMismatchError, "the profile given is");
  await refuse(
    { model: { config: { ...CONFIG, vocab_size: 300 } } },
    KvzMismatchError,
    "the model's vocabulary has 300",
  );
  await refuse({ model: { config: { ...CONFIG, max_position_embeddings: 29 } } }, KvzLimitError, "it has 30 tokens");
  const foreign = { get_vocab: () => new Map([["a", 1], ["b", 0]]) };
  await refuse({ tokenizer: foreign }, KvzMismatchError, "of a tokenizer with vocabulary");
  assertEquals((await restore(bytes, { tokenizer })).tokens, 30);
  const changed = ids.with(7, 3);
  await refuse({ inputIds: [...changed, 4] }, KvzMismatchError, `token 7 is ${ids[7]} in the file, 3 in inputIds`);
  await refuse({ inputIds: ids.slice(0, 20) }, KvzMismatchError, "it has 30 tokens, inputIds only 20");
  await refuse({ inputIds: [...ids, 1000] }, KvzMismatchError, "token 30 has id 1000");
  await refuse({ transformers: {} as never }, TypeError, "DynamicCache and Tensor");
  await refuse({ device: new FakeDevice(), makeTensor: () => null }, TypeError, '"device" and "makeTensor"');
});

Deno.test("truncated and damaged files are refused", async () => {
  const { bytes } = await save(onCpu(sample(30)));
  for (let length = 0; length < bytes.length; length += 97) {
    await assertRejects(() => restore(bytes.subarray(0, length)), KvzFormatError);
  }
  const damaged = bytes.slice();
  damaged[Math.floor(bytes.length / 2)] ^= 1;
  await assertRejects(() => restore(damaged), KvzFormatError);
});

Deno.test("a prefix, other positions, and ids that only the caller has", async () => {
  const source = sample(30);
  const ids = [...source.inputIds!];
  const { bytes } = await save(onCpu(source), { inputIds: [...ids, 9] });
  const prefix = await restore(bytes, { tokens: 12, inputIds: [...ids.slice(0, 12), 500] });
  assertEquals(prefix.tokens, 12);
  assertEquals((prefix.generateInputs().input_ids as FakeTensor).dims, [1, 13]);
  // The token that was pending after all 30 does not follow the first 12.
  assertEquals((await restore(bytes, { tokens: 12 })).inputIds, Int32Array.from(ids.slice(0, 12)));

  const secret = await save(onCpu(source), { inputIds: [...ids, 9], tokenIds: false });
  const { tokenIds, header } = await inspect(secret.bytes);
  assertEquals(tokenIds, false);
  assertEquals(header.user, { transformersJs: { pendingIds: [] } }); // the last one neither
  const unknown = await restore(secret.bytes);
  assertEquals(unknown.inputIds, null);
  assertThrows(() => unknown.generateInputs([1]), TypeError, "the file has no token ids");
  const known = await restore(secret.bytes, { inputIds: [...ids, 3] });
  assertEquals((known.generateInputs().input_ids as FakeTensor).dims, [1, 31]);

  const whole = await restore(bytes, { inputIds: ids });
  assertThrows(() => whole.generateInputs(), RangeError, "the cache holds all 30 tokens");
  assertThrows(() => whole.generateInputs([1000]), KvzMismatchError, "id 1000");

  const moved = await save(onCpu(syntheticCache(30, { model: SPEC, dtype: "f32", firstPosition: 5 })), {
    firstPosition: 5,
  });
  const back = await read((await restore(moved.bytes)).pastKeyValues);
  const [a, b] = [source, back].map((cache) => new Float32Array(cache.read("key", 0, 30).buffer));
  assert(a.every((x, i) => Math.abs(x - b[i]) < 1e-4), "keys are where a cache from position 0 has them");
});

Deno.test("a cache with gaps in its positions is refused, as generate() would number tokens wrongly", async () => {
  await using codec = await openCodec(profile);
  const gapped = syntheticCache(30, { model: SPEC, positions: Int32Array.from({ length: 30 }, (_, i) => 2 * i) });
  const { bytes } = await codec.compress(gapped);
  await assertRejects(() => restore(bytes), KvzUnsupportedError, "its 30 tokens span 59 positions");
});

Deno.test("a file that saveCache did not write restores; a malformed note does not", async () => {
  await using codec = await openCodec(profile);
  const plain = sample(20);
  const { bytes } = await codec.compress(plain, { user: { by: "kvz compress" } });
  const restored = await restore(bytes);
  assertEquals(restored.user, { by: "kvz compress" });
  assertEquals(restored.inputIds, plain.inputIds);
  for (
    const transformersJs of [{}, { pendingIds: [1, 2] }, { pendingIds: ["1"] }, { pendingIds: [], vocabulary: "x" }, 7]
  ) {
    const bad = await codec.compress(plain, { user: { transformersJs } });
    await assertRejects(() => restore(bad.bytes), KvzFormatError, "is malformed");
  }
});
