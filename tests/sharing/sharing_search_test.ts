import { assert, assertAlmostEquals, assertEquals, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { toFloat32 } from "../../src/cache/elements.ts";
import type { LanguageModel } from "../../src/eval/language_model.ts";
import {
  type LayerPair,
  measureLayers,
  searchSharing,
  type SharingSearchOptions,
  type TriedPair,
} from "../../src/eval/sharing_search.ts";
import { KvzUnsupportedError } from "../../src/errors.ts";
import { SMALL_MODEL } from "../synthetic.ts";
import { TOY_VOCABULARY, toyIds, toyModel } from "../eval/toy_session.ts";

const SPEC = { ...SMALL_MODEL, layers: 6 };
const sentence = (length: number, seed: number) => ({ name: `s${seed}`, ids: toyIds(length, seed) });
const SENTENCES = [sentence(9, 1), sentence(12, 2), sentence(5, 3)];

/** Cells 9 to 20 of the authors' test_internlm.ipynb, in their own terms. */
function notebook(
  pairs: readonly LayerPair[],
  layers: number,
  shareLayers: number,
  accepts: (map: number[]) => boolean,
) {
  let map: Record<number, number> = {};
  for (let i = 0; i < layers; i++) map[i] = i;
  const shared: number[] = [];
  for (const { layer, source } of pairs) {
    if (shared.length >= shareLayers) break;
    if (shared.includes(layer)) continue;
    const tentative = { ...map, [layer]: source };
    const reMapped: Record<number, number> = {};
    for (let key = 0; key < layers; key++) {
      reMapped[key] = tentative[key] === key ? key : reMapped[tentative[key]];
    }
    if (accepts(Object.values(reMapped))) {
      map = reMapped;
      shared.push(layer);
    }
  }
  return { map: Object.values(map), shared };
}

/** A model of which only the cosine of its hidden states is known: a whim of the map. */
function whimsicalModel(
  layers: number,
  salt: number,
): { model: LanguageModel; cosine: (map: readonly number[]) => number } {
  const cosine = (map: readonly number[]) => {
    let hash = salt;
    for (const source of map) hash = Math.imul(hash ^ source, 0x01000193) >>> 0;
    return 2 * (hash % 1009) / 1008 - 1;
  };
  const model = {
    spec: { ...SPEC, layers },
    forward: (_: Int32Array, { layerSource }: { layerSource?: ArrayLike<number> }) => {
      const s = layerSource === undefined ? 1 : cosine(Array.from(layerSource));
      return Promise.resolve({ hidden: Float32Array.of(3 * s, 3 * Math.sqrt(1 - s * s)) });
    },
  };
  return { model: model as unknown as LanguageModel, cosine };
}

Deno.test("the search decides as the authors' code does", () =>
  fc.assert(fc.asyncProperty(
    fc.integer({ min: 2, max: 9 }),
    fc.nat(),
    fc.integer({ min: 1, max: 6 }),
    fc.double({ min: -0.9, max: 0.9, noNaN: true }),
    async (layers, salt, shared, threshold) => {
      const { model, cosine } = whimsicalModel(layers, salt);
      const all = Array.from({ length: layers }, (_, layer) =>
        Array.from({ length: layer }, (_, source) => ({ layer, source, distance: 0 }))).flat();
      const pairs = fc.sample(fc.shuffledSubarray(all, { minLength: all.length }), { seed: salt, numRuns: 1 })[0];
      const hidden = [Float32Array.of(3, 0), Float32Array.of(3, 0)];
      const { map, tried } = await searchSharing(model, SENTENCES.slice(0, 2), { pairs, hidden }, {
        shared,
        threshold,
      });
      const expected = notebook(pairs, layers, shared, (map) =>
        cosine(map) > threshold + 1e-6);
      // A cosine at the threshold itself is float32's to decide.
      fc.pre(tried.every(({ similarity }) => similarity === null || Math.abs(similarity - threshold) > 1e-5));
      assertEquals(map, expected.map);
      assertEquals(tried.filter(({ accepted }) => accepted).map(({ layer }) => layer), expected.shared);
    },
  )));

Deno.test("distances are those of the mean keys and values, the most dissimilar pair first", async () => {
  const model = toyModel({ spec: SPEC, bias: true });
  const { pairs, hidden } = await measureLayers(model, SENTENCES);
  assertEquals(pairs.length, 15);
  assertEquals(hidden.map(({ length }) => length), SENTENCES.map(({ ids }) => ids.length * 6 * 2 * 6));
  const caches = await Promise.all(SENTENCES.map(async ({ ids }) => model.unload((await model.forward(ids)).present)));
  const distance = (kind: "key" | "value", a: number, b: number) => {
    const dim = kind === "key" ? 10 : 6;
    let sum = 0;
    for (let head = 0; head < 2; head++) {
      for (let t = 0; t < 12; t++) {
        const there = caches.filter(({ tokens }) => tokens > t);
        const mean = (layer: number, i: number) =>
          there.reduce((sum, cache) => sum + toFloat32(cache[kind](layer, head), "f32")[t * dim + i], 0) / there.length;
        sum += Math.hypot(...Array.from({ length: dim }, (_, i) => mean(a, i) - mean(b, i)));
      }
    }
    return sum / 24;
  };
  for (const pair of pairs) {
    const { layer, source } = pair;
    assert(source < layer);
    assertAlmostEquals(pair.distance, (distance("key", layer, source) + distance("value", layer, source)) / 2, 1e-9);
  }
  assert(pairs.every((pair, i) => i === 0 || pair.distance <= pairs[i - 1].distance));
});

async function search(options: SharingSearchOptions) {
  const model = toyModel({ spec: SPEC, bias: true });
  return await searchSharing(model, SENTENCES, await measureLayers(model, SENTENCES), { threshold: -1, ...options });
}

// The positive control: the order is what makes it KVSharer.
Deno.test("most dissimilar, most similar and random orders begin where they say", async () => {
  const model = toyModel({ spec: SPEC, bias: true });
  const { pairs } = await measureLayers(model, SENTENCES);
  const first = async (options: SharingSearchOptions) => {
    const { layer, source } = (await search({ shared: 1, ...options })).tried[0];
    return { layer, source };
  };
  const at = (i: number) => ({ layer: pairs[i].layer, source: pairs[i].source });
  assertEquals(await first({}), at(0));
  assertEquals(await first({ order: "similar" }), at(14));
  const random = await Promise.all([0, 1, 2, 3, 4, 5].map((seed) => first({ order: "random", seed })));
  assert(new Set(random.map((pair) => JSON.stringify(pair))).size > 2);
  assertEquals(random[0], await first({ order: "random" }));
});

Deno.test("what is accepted exceeds the threshold on the model; what is given up does not", async () => {
  const model = toyModel({ spec: SPEC, bias: true });
  const measured = await measureLayers(model, SENTENCES);
  const all: TriedPair[] = [];
  const every = await searchSharing(model, SENTENCES, measured, {
    shared: 5,
    threshold: -1,
    onTried: (p) => all.push(p),
  });
  assertEquals(every.tried, all);
  assertEquals(every.map.filter((source, layer) => source !== layer).length, 5);
  const threshold = [...all].map(({ similarity }) => similarity!).sort((a, b) => a - b)[2];
  const some = await searchSharing(model, SENTENCES, measured, { shared: 5, threshold });
  assert(some.tried.some(({ accepted }) => !accepted));
  for (const { accepted, similarity } of some.tried) {
    if (accepted) assert(similarity! > threshold);
    else assert(similarity === null || similarity <= threshold);
  }
  // The map in force is the one whose states were compared last.
  const wanted = measured.hidden.map((h, i) => ({ h, ids: SENTENCES[i].ids }));
  let sum = 0;
  for (const { h, ids } of wanted) {
    const { hidden } = await model.forward(ids, { hidden: true, layerSource: some.map });
    const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, i) => sum + x * b[i], 0);
    sum += dot(h, hidden!) / Math.sqrt(dot(h, h) * dot(hidden!, hidden!)) / 3;
  }
  const last = some.tried.filter(({ accepted }) => accepted).at(-1)!;
  assertAlmostEquals(sum, last.similarity!, 1e-5);
});

Deno.test("models without hidden states or sources of layers, and no sentences, are refused", async () => {
  await assertRejects(
    () => measureLayers(toyModel({ spec: SPEC }), SENTENCES),
    KvzUnsupportedError,
    'no output "final_hidden"; use the capture graph',
  );
  await assertRejects(() => measureLayers(toyModel({ spec: SPEC, bias: true }), []), RangeError, "no sentences");
  const ids = toyIds(4);
  const layerSource = [0, 0, 1, 2, 3, 4];
  await assertRejects(
    () => toyModel({ spec: SPEC }).forward(ids, { layerSource }),
    KvzUnsupportedError,
    "takes no layer_source",
  );
  const model = toyModel({ spec: SPEC, bias: true });
  const { present } = await model.forward(ids);
  await assertRejects(() => model.forward(ids, { past: present, layerSource }), TypeError, "has sources of its layers");
});

Deno.test("hidden states are those of the rows of logits; sources hold for what follows", async () => {
  const model = toyModel({ spec: SPEC, bias: true });
  const ids = toyIds(8);
  const layerSource = [0, 0, 1, 3, 3, 4];
  const whole = await model.forward(ids, { hidden: true, layerSource });
  const last = await model.forward(ids, { hidden: true, logits: "last", layerSource });
  const width = whole.hidden!.length / 8;
  assertEquals(last.hidden, whole.hidden!.slice(7 * width));
  const begun = await model.forward(ids.subarray(0, 5), { layerSource });
  const rest = await model.forward(ids.subarray(5), { past: begun.present });
  assertEquals(rest.logits, whole.logits.slice(5 * TOY_VOCABULARY));
});
