import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import { openOnnxModel } from "../../src/adapters/onnx_model.ts";
import { castCache, mapHeads } from "../../src/cache/cast.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { KvzMismatchError, KvzUnsupportedError } from "../../src/errors.ts";
import { SMALL_MODEL, syntheticCache } from "../synthetic.ts";
import { makeTensor, TOY_POSITIONS, TOY_VOCABULARY, toyIds, toyModel, toySession } from "./toy_session.ts";

const ids = toyIds(24);

Deno.test("a prompt in two passes gives what one pass gives", async () => {
  const model = toyModel();
  const whole = await model.forward(ids);
  const first = await model.forward(ids.subarray(0, 10), { logits: "last" });
  const second = await model.forward(ids.subarray(10), { past: first.present });
  assertEquals(first.logits, whole.logits.slice(9 * TOY_VOCABULARY, 10 * TOY_VOCABULARY));
  assertEquals(second.logits, whole.logits.slice(10 * TOY_VOCABULARY));
  assertEquals(second.present.tokens, 24);
  assertEquals(second.present.nextPosition, 24);
});

Deno.test("the last row is cut out where the graph computes all", async () => {
  const { logits } = await toyModel({ keepLogits: false }).forward(ids, { logits: "last" });
  assertEquals(logits, (await toyModel().forward(ids, { logits: "last" })).logits);
});

Deno.test("a cache unloaded and loaded again continues equally", async () => {
  const model = toyModel();
  const { present } = await model.forward(ids.subarray(0, 20));
  const cache = await model.unload(present, ids.subarray(0, 20));
  assertEquals([cache.dtype, cache.tokens, cache.inputIds], ["f32", 20, ids.subarray(0, 20)]);
  const again = await model.load(cache);
  assertEquals(
    (await model.forward(ids.subarray(20), { past: again })).logits,
    (await model.forward(ids.subarray(20), { past: present })).logits,
  );
});

Deno.test("a cache of positions further on continues from there", async () => {
  const model = toyModel();
  const loaded = await model.load(castCache(syntheticCache(5, { firstPosition: 100 }), "f32"));
  assertEquals(loaded.nextPosition, 105);
});

Deno.test("evicted tokens are as if they had never been", async () => {
  const model = toyModel({ bias: true });
  const { present } = await model.forward(ids.subarray(0, 12));
  const cache = await model.unload(present);
  const { kvHeads, layers, keyDim, valueDim } = SMALL_MODEL;
  const keep = (kept: readonly number[]) => {
    const rows = (bytes: Uint8Array, dim: number) => {
      const out = new Uint8Array(kept.length * dim * 4);
      kept.forEach((t, i) => out.set(bytes.subarray(t * dim * 4, (t + 1) * dim * 4), i * dim * 4));
      return out;
    };
    return (layer: number, head: number) => ({
      key: rows(cache.key(layer, head), keyDim),
      value: rows(cache.value(layer, head), valueDim),
      positions: Int32Array.from(kept),
    });
  };
  const of = (choose: (layer: number, head: number) => readonly number[]) =>
    KvCache.ragged({
      model: SMALL_MODEL,
      dtype: "f32",
      blocks: Array.from({ length: layers }, (_, l) =>
        Array.from({ length: kvHeads }, (_, h) => keep(choose(l, h))(l, h))),
    });
  // All heads without tokens 3 to 5: a dense cache with a gap, which needs no bias.
  const gap = [0, 1, 2, 6, 7, 8, 9, 10, 11];
  const dense = of(() => gap);
  assertEquals(dense.ragged, false);
  // The same, but one head of the last layer keeps all, whose extra tokens are hidden by weight: layer 2, head 1.
  const all = Array.from({ length: 12 }, (_, t) => t);
  const ragged = of((layer, head) => layer === 2 && head === 1 ? all : gap);
  assert(ragged.ragged);
  const tail = ids.subarray(12, 16);
  const a = (await model.forward(tail, { past: await model.load(dense) })).logits;
  const b = (await model.forward(tail, { past: await model.load(ragged) })).logits;
  const full = (await model.forward(tail, { past: present })).logits;
  // The toy's layers do not feed each other, so the logits are sums over heads: only that head's share differs.
  const headless = of((layer, head) => layer === 2 && head === 1 ? gap : all);
  const c = (await model.forward(tail, { past: await model.load(headless) })).logits;
  for (let i = 0; i < a.length; i++) assertAlmostEquals(b[i] - a[i], full[i] - c[i], 1e-5);
  assert(a.some((value, i) => Math.abs(value - b[i]) > 1e-3));
  await assertRejects(
    () => toyModel().load(ragged),
    KvzUnsupportedError,
    "it is ragged (its heads hold different tokens), and this graph takes no attention_bias",
  );
  // A second pass keeps what the bias hides hidden.
  const step = await model.forward(tail.subarray(0, 2), { past: await model.load(ragged) });
  const rest = await model.forward(tail.subarray(2), { past: step.present });
  assertEquals(rest.logits, b.slice(2 * TOY_VOCABULARY));
});

Deno.test("shared layers attend to the source, in the past and in what follows", async () => {
  const model = toyModel({ bias: true });
  const { present } = await model.forward(ids.subarray(0, 12));
  const cache = await model.unload(present);
  const own = await model.load(cache, { layerSource: [0, 1, 2] });
  const shared = await model.load(cache, { layerSource: [0, 0, 2] });
  const tail = ids.subarray(12, 16);
  const plain = await model.forward(tail, { past: present });
  assertEquals((await model.forward(tail, { past: own })).logits, plain.logits);
  const whole = await model.forward(tail, { past: shared });
  assert(whole.logits.some((x, i) => Math.abs(x - plain.logits[i]) > 1e-3));
  // Copying the past alone is not sharing: the new tokens' keys and values count as well.
  const copied = mapHeads(
    cache,
    {},
    (head, layer, h) =>
      layer === 1 ? { key: cache.key(0, h), value: cache.value(0, h), positions: head.positions } : head,
  );
  const copy = await model.forward(tail, { past: await model.load(copied) });
  assert(copy.logits.some((x, i) => Math.abs(x - whole.logits[i]) > 1e-4));
  const first = await model.forward(tail.subarray(0, 2), { past: shared });
  const rest = await model.forward(tail.subarray(2), { past: first.present });
  assertEquals(rest.logits, whole.logits.slice(2 * TOY_VOCABULARY));
  await assertRejects(
    () => model.load(cache, { layerSource: [0, 2, 2] }),
    RangeError,
    "layer 1 would attend to layer 2, expected 0 to 1",
  );
  await assertRejects(
    () => model.load(cache, { layerSource: [0] }),
    RangeError,
    "sources of 1 layers, the model has 3",
  );
  await assertRejects(() => toyModel().load(cache, { layerSource: [0, 1, 2] }), KvzUnsupportedError, "no layer_source");
});

Deno.test("wrong input is named", async () => {
  const model = toyModel();
  const { present } = await model.forward(ids.subarray(0, 4));
  await assertRejects(() => model.forward(new Int32Array(0)), RangeError, "there are no tokens");
  await assertRejects(
    () => model.forward(Int32Array.of(1, TOY_VOCABULARY)),
    RangeError,
    `token 1 has id ${TOY_VOCABULARY}, the vocabulary has ${TOY_VOCABULARY}; the ids may be of another tokenizer`,
  );
  await assertRejects(
    () => model.forward(toyIds(TOY_POSITIONS), { past: present }),
    RangeError,
    `need ${TOY_POSITIONS + 4} positions, the model has ${TOY_POSITIONS}`,
  );
  await assertRejects(() => toyModel().forward(ids, { past: present }), TypeError, "loaded by another model");
  await assertRejects(
    () => model.load(syntheticCache(4, { model: { ...SMALL_MODEL, id: "another" } })),
    KvzMismatchError,
    "they are of different models",
  );
  await assertRejects(() => model.unload(present, Int32Array.of(1)), KvzMismatchError, "1 token ids for 4 tokens");
});

Deno.test("graphs that are no decoders with a cache are refused", () => {
  const session = toySession();
  const parts = {
    makeTensor,
    tokenizer: { encode: () => [], decode: () => "" },
    spec: SMALL_MODEL,
    vocabulary: 1,
    maxPositions: 1,
  };
  assertThrows(
    () => openOnnxModel({ ...parts, session: { ...session, inputNames: [...session.inputNames, "pixel_values"] } }),
    KvzUnsupportedError,
    'its graph has the input "pixel_values"',
  );
  assertThrows(
    () => openOnnxModel({ ...parts, session: { ...session, inputNames: ["input_ids"] } }),
    KvzUnsupportedError,
    'its graph lacks the input "past_key_values.0.key"',
  );
});
