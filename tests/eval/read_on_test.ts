import { assert, assertAlmostEquals, assertEquals, assertRejects } from "deno-std/assert";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { openCodec } from "../../src/codec/open.ts";
import { KvzMismatchError, KvzUnsupportedError } from "../../src/errors.ts";
import { continueWith, evaluateText, evaluationTokens } from "../../src/eval/evaluate.ts";
import type { LanguageModel } from "../../src/eval/language_model.ts";
import { type Method, recipeMethod } from "../../src/eval/method.ts";
import type { EvalPoint } from "../../src/eval/point.ts";
import { readDecode } from "../../src/eval/decode_option.ts";
import { readOn } from "../../src/eval/read_on.ts";
import { evaluateRetrievalPrompt } from "../../src/eval/retrieval_run.ts";
import { pageParts } from "../../src/stages/diffkv/pages.ts";
import { PRECISIONS } from "../../src/stages/diffkv/presets.ts";
import type { RunningCache } from "../../src/recipes/running.ts";
import { SMALL_MODEL } from "../synthetic.ts";
import { TOY_VOCABULARY, toyIds, toyModel } from "./toy_session.ts";

const [CONTEXT, CONTINUATION] = [90, 40];
const ids = toyIds(CONTEXT + CONTINUATION + 1);
const [prompt, given] = [ids.subarray(0, CONTEXT), ids.subarray(CONTEXT, CONTEXT + CONTINUATION)];

/** Tokens of a cache that `holds` says each head holds, [layer][head]. */
function pick(cache: KvCache, holds: (position: number, head: number) => boolean): KvCache {
  const { model, positions } = cache;
  const blocks = Array.from({ length: model.layers }, (_, layer) =>
    Array.from({ length: model.kvHeads }, (_, head) => {
      const kept = Array.from(positions.keys()).filter((t) => holds(positions[t], head));
      const rows = (bytes: Uint8Array) => {
        const row = bytes.length / positions.length;
        const out = new Uint8Array(kept.length * row);
        kept.forEach((t, i) => out.set(bytes.subarray(t * row, (t + 1) * row), i * row));
        return out;
      };
      return {
        key: rows(cache.key(layer, head)),
        value: rows(cache.value(layer, head)),
        positions: Int32Array.from(kept, (t) => positions[t]),
      };
    }));
  return new KvCache({ model, dtype: "f32", blocks });
}

/**
 * A method that holds every token, then shows the model those that `holds` lets each head see. The toy's keys and values
 * follow from token and position alone, so that a whole cache has those of every token.
 */
function showing(whole: KvCache, holds: (position: number, head: number, next: number) => boolean): RunningCache {
  let next = CONTEXT;
  return {
    needsQueries: true,
    bytes: 0,
    append: (read) => {
      assertEquals([read.positions[0], read.queries?.tokens], [next, read.tokens]);
      for (let layer = 0; layer < SMALL_MODEL.layers; layer++) {
        const own = pick(whole, (position) => position >= next && position < next + read.tokens);
        assertEquals(read.key(layer, 1), own.key(layer, 1));
        assertEquals(read.value(layer, 0), own.value(layer, 0));
      }
      next += read.tokens;
    },
    cache: () => pick(whole, (position, head) => position < next && holds(position, head, next)),
  };
}

async function wholeCache(model: LanguageModel): Promise<KvCache> {
  const all = ids.subarray(0, CONTEXT + CONTINUATION);
  return await model.unload((await model.forward(all)).present, all);
}

Deno.test("a method that holds everything changes nothing, however often it is asked", async () => {
  const model = toyModel({ bias: true });
  const { present } = await model.forward(prompt);
  const wanted = await continueWith(model, present, given, {});
  const whole = await wholeCache(model);
  for (const every of [1, 7, CONTINUATION, 100]) {
    let tokens = 0;
    const running = { every, cache: showing(whole, () => true) };
    const found = await readOn(model, present, given, running, { onTokens: (n) => tokens += n });
    assertEquals(tokens, CONTINUATION);
    found.forEach((x, i) => assertAlmostEquals(x, wanted[i], 1e-5));
  }
});

Deno.test("what a method lets go is unseen from the next step on, head by head", async () => {
  const model = toyModel({ bias: true });
  const whole = await wholeCache(model);
  const every = 6;
  // The second head forgets all but 20 tokens; tokens that are read together see each other.
  const holds = (position: number, head: number, next: number) => head === 0 || position >= next - 20;
  const { present } = await model.forward(prompt);
  const found = await readOn(model, present, given, { every, cache: showing(whole, holds) }, {});
  for (let i = 0; i < CONTINUATION; i++) {
    const begin = CONTEXT + i - i % every;
    // Before the first step nothing was let go.
    const sees = (position: number, head: number) =>
      position < CONTEXT + i && (i < every || position >= begin || holds(position, head, begin));
    const { logits } = await model.forward(given.subarray(i, i + 1), { past: await model.load(pick(whole, sees)) });
    const row = found.subarray(i * TOY_VOCABULARY, (i + 1) * TOY_VOCABULARY);
    row.forEach((x, v) => assertAlmostEquals(x, logits[v], 1e-5));
  }
});

Deno.test("a method that lets the newest token go, and a model that does not give its newest tokens, are refused", async () => {
  const model = toyModel({ bias: true });
  const whole = await wholeCache(model);
  const { present } = await model.forward(prompt);
  const forgetful = showing(whole, (position, _, next) => position < next - 1);
  await assertRejects(
    () => readOn(model, present, given, { every: 8, cache: forgetful }, {}),
    KvzMismatchError,
    `ends before position ${CONTEXT + 7}, expected ${CONTEXT + 8}`,
  );
  const { spec, vocabulary } = model;
  const mute = { spec, vocabulary, forward: model.forward.bind(model) } as unknown as LanguageModel;
  await assertRejects(
    () => readOn(mute, present, given, { every: 8, cache: forgetful }, {}),
    KvzUnsupportedError,
    "does not give the keys and values",
  );
  for (const tokens of [0, CONTEXT + 1]) {
    await assertRejects(() => model.unloadNewest(present, tokens), RangeError, `the newest ${tokens} of ${CONTEXT}`);
  }
});

async function pointsOf(settings: readonly (readonly [string, Method["options"]])[]): Promise<EvalPoint[]> {
  await using codec = await openCodec(null, { threads: 1 });
  const points: EvalPoint[] = [];
  await evaluateText(toyModel({ bias: true }), "toy", ids, {
    ...{ context: CONTEXT, continuation: CONTINUATION, dtype: "f32" },
    methods: settings.map(([recipe, options]) => recipeMethod(codec, recipe, options)),
    onPoint: (point) => void points.push(point),
  });
  return points;
}

Deno.test("diffkv while the model reads on: nothing more is lost without thresholds, and more with them", async () => {
  const strict = { alphaHigh: 1.2, alphaLow: 0.9, buffer: 16 };
  const [all, allDecoding, some, someDecoding] = await pointsOf([
    ["diffkv", { alphaHigh: 0, alphaLow: 0, high: "k8v8" }],
    ["diffkv", { alphaHigh: 0, alphaLow: 0, high: "k8v8", decode: 8 }],
    ["diffkv", strict],
    ["diffkv", { ...strict, decode: 8 }],
  ]);
  assertEquals([all.decoded, some.decoded], [undefined, undefined]);
  // Eight bits of everything; of the prompt alone, or of what follows too.
  assert(all.agreement.kl < 1e-3 && allDecoding.agreement.kl < 2e-3, `${all.agreement.kl}`);
  assert(allDecoding.agreement.kl !== all.agreement.kl);
  const tokens = CONTEXT + CONTINUATION;
  const heads = SMALL_MODEL.layers * SMALL_MODEL.kvHeads;
  const shape = { keyDim: SMALL_MODEL.keyDim, valueDim: SMALL_MODEL.valueDim, precision: PRECISIONS.k8v8 };
  const bytes = heads * (4 * pageParts(shape, 32).length + pageParts(shape, 2).length);
  assertEquals(allDecoding.decoded, { every: 8, tokens, bytes, ratio: 2 * tokens * heads * 16 / bytes });
  assertEquals(someDecoding.setting, "alphaHigh 1.2, alphaLow 0.9, buffer 16, decode 8");
  // The prompt is the same to both; what comes after it goes on losing.
  assertEquals(someDecoding.bytes, some.bytes);
  assert(someDecoding.agreement.kl > 1.05 * some.agreement.kl, `${someDecoding.agreement.kl} ${some.agreement.kl}`);
  assert(someDecoding.decoded!.bytes < 0.8 * bytes);
});

Deno.test("streamingllm while the model reads on holds as many tokens as before, the sinks and the newest", async () => {
  const [prompt, decoding] = await pointsOf([
    ["streamingllm", { capacity: 24 }],
    ["streamingllm", { capacity: 24, decode: 10 }],
  ]);
  const heads = SMALL_MODEL.layers * SMALL_MODEL.kvHeads;
  assertEquals(decoding.decoded!.bytes, 24 * heads * 16 * 4);
  // By hand: the first step sees the file's tokens, the next ones a window that has moved on.
  const model = toyModel({ bias: true });
  const whole = await wholeCache(model);
  const held = (position: number, _: number, next: number) => position < 4 || position >= next - 20;
  const start = await model.load(pick(whole, (position, head) => position < CONTEXT && held(position, head, CONTEXT)));
  const by = (position: number, head: number, next: number) => position < next && held(position, head, next);
  const after = await readOn(model, start, given, { every: 10, cache: showing(whole, by) }, {});
  const before = await continueWith(model, (await model.forward(ids.subarray(0, CONTEXT))).present, given, {});
  let kl = 0;
  for (let i = 0; i < CONTINUATION; i++) {
    const row = (logits: Float32Array) => logits.subarray(i * TOY_VOCABULARY, (i + 1) * TOY_VOCABULARY);
    const normal = (logits: Float32Array) => {
      const all = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
      return Array.from(logits, (x) => x - all);
    };
    const [p, q] = [normal(row(before)), normal(row(after))];
    kl += p.reduce((sum, x, v) => sum + Math.exp(x) * (x - q[v]), 0) / CONTINUATION;
  }
  assertAlmostEquals(decoding.agreement.kl, kl, 1e-5);
  assert(decoding.agreement.kl > prompt.agreement.kl);
  await assertRejects(
    () => pointsOf([["streamingllm", { capacity: 24, code: "q8_0", decode: 10 }]]),
    KvzUnsupportedError,
  );
});

Deno.test("a method that cannot go on is told of, and the others are measured", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const stream = recipeMethod(codec, "streamingllm", { capacity: 24, decode: 10 });
  const broken: Method = {
    ...stream,
    async run(cache) {
      const outcome = await stream.run(cache);
      const { every, cache: running } = outcome.running!;
      let steps = 0;
      const append: RunningCache["append"] = (read) => {
        if (++steps === 3) throw new KvzUnsupportedError("Cannot go on: no more room");
        running.append(read);
      };
      return {
        ...outcome,
        running: { every, cache: { needsQueries: false, bytes: 0, append, cache: () => running.cache() } },
      };
    },
  };
  const told: string[] = [];
  let tokens = 0;
  const points: EvalPoint[] = [];
  await evaluateText(toyModel({ bias: true }), "toy", ids, {
    ...{ context: CONTEXT, continuation: CONTINUATION, dtype: "f32", methods: [broken, stream] },
    onPoint: (point) => void points.push(point),
    onTokens: (n) => tokens += n,
    onFailure: (method, error) => void told.push(`${method.setting}: ${error.message}`),
  });
  assertEquals(told, ["capacity 24, decode 10: Cannot go on: no more room"]);
  assertEquals([points.length, tokens], [1, evaluationTokens(CONTEXT, CONTINUATION, 2)]);
});

Deno.test("option decode: which recipes have a rule, its range, and no retrieval with it", async () => {
  for (const bad of [0, 513, 1.5, "often", true]) {
    await assertRejects(
      () => readDecode("diffkv", { decode: bad }),
      RangeError,
      "expected a whole number from 1 to 512",
    );
  }
  await assertRejects(() => readDecode("kvz", { decode: 8 }), RangeError, "diffkv, streamingllm do");
  assertEquals(await readDecode("kvz", { step: 1 }), { own: { step: 1 }, decode: null });
  await using codec = await openCodec(null, { threads: 1 });
  const question = { ask: given.subarray(0, 4), answer: given.subarray(4, 6), depth: 0.5 };
  await assertRejects(
    () =>
      evaluateRetrievalPrompt(toyModel({ bias: true }), "needle", { prompt, questions: [question] }, {
        dtype: "f32",
        methods: [recipeMethod(codec, "streamingllm", { capacity: 24, decode: 10 })],
        onOutcome: () => {},
      }),
    KvzUnsupportedError,
    "Cannot score retrieval of streamingllm capacity 24, decode 10",
  );
});
