import { assert, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { fromTransformersJs, type TensorLike, toTransformersJs } from "../../src/adapters/transformers_js.ts";
import { fromFloat32, toFloat32 } from "../../src/cache/elements.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { convertPairing } from "../../src/cache/pairing.ts";
import type { ModelSpec } from "../../src/cache/types.ts";
import { KvzFormatError, KvzMismatchError, KvzUnsupportedError } from "../../src/errors.ts";
import { denseCaches } from "../cache/arbitrary.ts";

/** What Transformers.js makes of its constructor's arguments. */
class FakeTensor {
  constructor(readonly type: string, readonly data: ArrayBufferView, readonly dims: number[]) {}
}
const makeTensor = (type: string, data: ArrayBufferView, dims: number[]) => new FakeTensor(type, data, dims);

const MODEL: ModelSpec = {
  layers: 1,
  kvHeads: 2,
  keyDim: 4,
  valueDim: 3,
  rope: { theta: 10000, dim: 4, pairing: "half-split" },
};

function record(tokens = 2, heads = 2, batch = 1): Record<string, TensorLike> {
  const tensor = (dim: number, offset: number) => ({
    type: "float32",
    dims: [batch, heads, tokens, dim],
    data: Float32Array.from({ length: batch * heads * tokens * dim }, (_, i) => i + offset),
  });
  return { "past_key_values.0.key": tensor(4, 0), "past_key_values.0.value": tensor(3, 100) };
}

Deno.test("a Transformers.js record becomes a cache with the same elements", async () => {
  const ids = BigInt64Array.of(5n, 6n);
  const cache = await fromTransformersJs(record(), { model: MODEL, inputIds: ids, firstPosition: 7 });
  assertEquals(cache.dtype, "f32");
  assertEquals(cache.positions, Int32Array.of(7, 8));
  assertEquals(cache.inputIds, Int32Array.of(5, 6));
  assertEquals(toFloat32(cache.key(0, 1), "f32"), Float32Array.from({ length: 8 }, (_, i) => i + 8));
  assertEquals(toFloat32(cache.value(0, 1), "f32"), Float32Array.from({ length: 6 }, (_, i) => i + 106));
});

Deno.test("generate()'s sequences hold one id more than the cache", async () => {
  const cache = await fromTransformersJs(record(), { model: MODEL, inputIds: [1, 2, 3] });
  assertEquals(cache.inputIds, Int32Array.of(1, 2));
  for (const ids of [[1], [1, 2, 3, 4]]) {
    await assertRejects(
      () => fromTransformersJs(record(), { model: MODEL, inputIds: ids }),
      KvzMismatchError,
      `there are ${ids.length} token ids for 2 tokens`,
    );
  }
});

Deno.test("cache to record and back keeps every bit, in both pairings", async () => {
  await fc.assert(fc.asyncProperty(denseCaches, fc.boolean(), async (cache, adjacent) => {
    fc.pre(cache.dtype !== "bf16");
    const { rope } = cache.model;
    const model = rope && adjacent ? { ...cache.model, rope: { ...rope, pairing: "adjacent" as const } } : cache.model;
    const { dtype, positions, tokens } = cache;
    const first = 3;
    const plain = new KvCache({
      model,
      dtype,
      positions: positions.map((_, t) => t + first),
      ...(cache.inputIds ? { inputIds: cache.inputIds } : {}),
      layers: Array.from({ length: model.layers }, (_, n) => {
        const part = cache.sliceLayers(n, n + 1);
        return { key: part.read("key", 0, tokens), value: part.read("value", 0, tokens) };
      }),
    });
    const made = toTransformersJs(plain, { makeTensor });
    const tensor = made["past_key_values.0.key"];
    assertEquals(tensor.dims, [1, model.kvHeads, tokens, model.keyDim]);
    assertEquals(tensor.type, dtype === "f32" ? "float32" : "float16");
    const options = { model, firstPosition: first, ...(cache.inputIds ? { inputIds: cache.inputIds } : {}) };
    const back = await fromTransformersJs(made as never, options);
    assert(back.equals(plain));
    assertEquals(back.model.rope?.pairing, model.rope?.pairing);
    if (rope && adjacent) {
      const bytes = new Uint8Array(tensor.data.buffer);
      const shape = { dtype, dim: model.keyDim, rotaryDim: rope.dim };
      const key = plain.sliceLayers(0, 1).read("key", 0, tokens);
      assertEquals(convertPairing(bytes, shape, "adjacent", "half-split"), key);
    }
  }));
});

Deno.test("bf16 caches become float32, and the element type can be chosen", async () => {
  const values = Float32Array.of(1, -2, 0.5, 4, 8, 16, 32, 64, 1, 2, 3, 4, 5, 6, 7, 8);
  const cache = new KvCache({
    model: { ...MODEL, valueDim: 4 },
    dtype: "bf16",
    positions: Int32Array.of(0, 1),
    layers: [{ key: fromFloat32(values, "bf16"), value: fromFloat32(values, "bf16") }],
  });
  const asFloat = toTransformersJs(cache, { makeTensor })["past_key_values.0.value"];
  assertEquals(asFloat.type, "float32");
  assertEquals(asFloat.data, values);
  const asHalf = toTransformersJs(cache, { makeTensor, type: "float16" })["past_key_values.0.key"];
  assertEquals(asHalf.type, "float16");
  assertEquals(new Uint8Array(asHalf.data.buffer), fromFloat32(values, "f16"));
  const half = { type: "float16", dims: [1, 2, 2, 4], data: new Uint16Array(asHalf.data.buffer) }; // without Float16Array
  const back = await fromTransformersJs(
    { "past_key_values.0.key": half, "past_key_values.0.value": half },
    { model: cache.model },
  );
  assertEquals(toFloat32(back.read("key", 0, 2), "f16"), values);
});

Deno.test("tensors on a GPU are downloaded, through either library's getData()", async () => {
  const plain = record();
  const onGpu = Object.fromEntries(
    Object.entries(plain).map(([name, tensor], i) => {
      const getData = () => Promise.resolve(tensor.data);
      const remote = {
        type: tensor.type,
        dims: tensor.dims,
        location: "gpu-buffer",
        get data(): never {
          throw new Error("The data is not on CPU");
        },
      };
      return [
        name,
        Object.defineProperties(
          i === 0 ? { getData } : { ort_tensor: { getData } },
          Object.getOwnPropertyDescriptors(remote),
        ),
      ];
    }),
  ) as Record<string, TensorLike>;
  const wanted = await fromTransformersJs(plain, { model: MODEL });
  assert((await fromTransformersJs(onGpu, { model: MODEL })).equals(wanted));
  const lost = { type: "float32", dims: [1, 2, 2, 4], location: "texture" };
  await assertRejects(
    () => fromTransformersJs({ ...plain, "past_key_values.0.key": lost }, { model: MODEL }),
    KvzUnsupportedError,
    'past_key_values.0.key is at "texture" and has no getData()',
  );
});

Deno.test("an empty record of a model is refused, a cache without tokens is not", async () => {
  const cache = await fromTransformersJs(record(0), { model: MODEL });
  assertEquals(cache.tokens, 0);
  await assertRejects(
    () => fromTransformersJs({}, { model: MODEL }),
    KvzMismatchError,
    'lacks "past_key_values.0.key"',
  );
});

Deno.test("records that do not fit are refused, and the tensor is named", async () => {
  const key = "past_key_values.0.key";
  const value = "past_key_values.0.value";
  const refuse = (given: object, type: new (...args: never[]) => Error, message: string) =>
    assertRejects(() => fromTransformersJs(given as never, { model: MODEL }), type, message);
  const good = record();
  await refuse(record(2, 2, 3), KvzUnsupportedError, `${key} holds a batch of 3 sequences, expected 1`);
  await refuse(record(2, 3), KvzMismatchError, `${key} has shape [1, 3, 2, 4], expected [1, 2, 2, 4]`);
  await refuse(
    { ...good, [value]: record(3)[value] },
    KvzMismatchError,
    `${value} has shape [1, 2, 3, 3], expected [1, 2, 2, 3]`,
  );
  await refuse({ ...good, [key]: { ...good[key], dims: [2, 4] } }, KvzMismatchError, `${key} has shape [2, 4]`);
  await refuse({ ...good, [key]: { ...good[key], type: "int8" } }, KvzUnsupportedError, "tensors are int8");
  await refuse({ ...good, [value]: { ...good[value], type: "float16" } }, KvzFormatError, `${value} is float16`);
  await refuse({ ...good, "past_conv.0": good[key] }, KvzUnsupportedError, '"past_conv.0" is not a key or value');
  await refuse(
    { ...good, "past_key_values.0.decoder.key": good[key] },
    KvzUnsupportedError,
    '"past_key_values.0.decoder.key" is not a key or value',
  );
  await refuse({ ...good, "past_key_values.1.key": good[key] }, KvzMismatchError, "the model has 1 layers");
  await refuse(
    { ...good, [key]: { ...good[key], data: new Float32Array(15) } },
    KvzFormatError,
    `${key} has 60 bytes of data, expected 64`,
  );
  await refuse(
    { ...good, [key]: { ...good[key], data: [1, 2] } },
    KvzFormatError,
    `data of ${key} is not a typed array`,
  );
});

Deno.test("ragged caches have no Transformers.js form", () => {
  const block = (...positions: number[]) => ({
    key: new Uint8Array(16 * positions.length),
    value: new Uint8Array(12 * positions.length),
    positions: Int32Array.from(positions),
  });
  const ragged = KvCache.ragged({ model: MODEL, dtype: "f32", blocks: [[block(1), block(1, 2)]] });
  assertThrows(() => toTransformersJs(ragged, { makeTensor }), KvzUnsupportedError, "ragged");
});
