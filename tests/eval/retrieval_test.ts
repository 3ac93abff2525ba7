import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertThrows,
} from "deno-std/assert";
import fc from "fast-check";
import { castCache, mapHeads } from "../../src/cache/cast.ts";
import { fromFloat32, toFloat32 } from "../../src/cache/elements.ts";
import { KvzUnsupportedError } from "../../src/errors.ts";
import { prefill } from "../../src/eval/evaluate.ts";
import { CONTROLS, type Method } from "../../src/eval/method.ts";
import { buildKeyValue, buildNeedle, buildRetrieval, scoreRetrieval } from "../../src/eval/retrieval.ts";
import { drawFacts, FACT_FORMS, RETRIEVAL_TASKS } from "../../src/eval/retrieval_facts.ts";
import { placeFacts } from "../../src/eval/retrieval_prompt.ts";
import {
  evaluateRetrievalPrompt,
  type RetrievalOutcome,
  retrievalTokens,
  summarizeRetrieval,
} from "../../src/eval/retrieval_run.ts";
import { characters, lookupModel } from "./lookup_model.ts";

const TEXT = Array.from({ length: 200 }, (_, i) => `Sentence number ${i} says very little. `).join("");
const model = lookupModel();

Deno.test("a prompt has exactly the tokens wanted, and its facts lie between sinks and window", () => {
  fc.assert(fc.property(
    fc.constantFrom(...RETRIEVAL_TASKS),
    fc.integer({ min: 800, max: 3000 }),
    fc.integer({ min: 0, max: 1000 }),
    fc.integer({ min: 1, max: 5 }),
    fc.integer({ min: 0, max: 200 }),
    fc.integer({ min: 0, max: 40 }),
    (task, context, seed, questions, window, sinks) => {
      const built = buildRetrieval(model, task, { text: TEXT, context, seed, questions, window, sinks });
      assertEquals(built.prompt.length, context);
      assertEquals(built.questions.length, questions);
      let text = model.detokenize(built.prompt);
      const form = FACT_FORMS[task];
      const facts = drawFacts(TEXT, questions, form.digits, seed);
      facts.forEach((fact, i) => {
        const { ask, answer, depth } = built.questions[i];
        assertEquals(model.detokenize(ask), form.ask(fact.key));
        assertEquals(model.detokenize(answer), form.answer(fact.value));
        const begin = Math.round(depth * context);
        const stated = form.state(fact);
        assertEquals(model.detokenize(built.prompt.subarray(begin, begin + stated.length)), stated);
        assert(begin >= sinks);
        assert(begin + stated.length <= context - window);
        if (i > 0) assert(depth > built.questions[i - 1].depth);
        text = text.replace(stated, "");
      });
      // Without the facts it is the text's beginning, uncut.
      assert(TEXT.startsWith(text));
    },
  ));
});

Deno.test("facts are spread over the whole depth", () => {
  const { questions } = buildNeedle(model, { text: TEXT, context: 3000, questions: 5 });
  questions.forEach(({ depth }, i) => assertAlmostEquals(depth, i / 4 * (3000 - 128) / 3000, 0.06));
});

Deno.test("prompts depend on the seed and on nothing else", () => {
  const build = (seed: number) => buildKeyValue(model, { text: TEXT, context: 1000, seed });
  assertEquals(build(3), build(3));
  assertNotEquals(build(3), build(4));
  assertEquals(drawFacts("", 2, 5, 0), [{ key: "Naples", value: "87199" }, { key: "Dublin", value: "97298" }]);
});

Deno.test("keys and values differ from each other, and no key stands in the text", () => {
  fc.assert(fc.property(fc.integer({ min: 0 }), fc.integer({ min: 3, max: 9 }), (seed, digits) => {
    const facts = drawFacts("From Oslo to Lima.", 30, digits, seed);
    assertEquals(new Set(facts.map(({ key }) => key)).size, 30);
    assertEquals(new Set(facts.map(({ value }) => value)).size, 30);
    assert(facts.every(({ key, value }) => !["Oslo", "Lima"].includes(key) && /^[1-9]/.test(value)));
    assert(facts.every(({ value }) => value.length === digits));
  }));
});

Deno.test("answers are found where the past says them, and only there", async () => {
  for (const task of RETRIEVAL_TASKS) {
    const { prompt, questions } = buildRetrieval(model, task, { text: TEXT, context: 1000 });
    const passes: number[] = [];
    const counting = lookupModel({ onForward: (tokens) => passes.push(tokens) });
    const past = await prefill(counting, prompt);
    passes.length = 0;
    const answers = await scoreRetrieval(counting, past, questions);
    assertEquals(passes, questions.map(({ ask, answer }) => ask.length + answer.length - 1));
    // One logit of 10 among 128.
    const certain = 10 - Math.log(Math.exp(10) + 127);
    for (const { found, logProbability } of answers) {
      assert(found);
      assertAlmostEquals(logProbability, certain, 1e-6);
    }

    // The last digit of one fact changed: that answer is wrong in one token, the others stay.
    const changed = prompt.slice();
    const { answer } = questions[1];
    const value = model.detokenize(answer).trim();
    const text = model.detokenize(prompt);
    for (let at = text.indexOf(value); at >= 0; at = text.indexOf(value, at + 1)) {
      changed[at + value.length - 1] = value.endsWith("0") ? 0x31 : 0x30;
    }
    const wrong = await scoreRetrieval(model, await prefill(model, changed), questions);
    assertEquals(wrong.map(({ found }) => found), [true, false, true, true]);
    assertAlmostEquals(wrong[1].logProbability, certain - 10 / answer.length, 1e-6);

    // Nothing to look up: no answer.
    const without = await scoreRetrieval(model, await prefill(model, characters(TEXT.slice(0, 1000))), questions);
    assert(without.every(({ found }) => !found));
    assertEquals(without.length, 4);
  }
});

Deno.test("a prompt is asked once before and once after each method", async () => {
  const task = buildNeedle(model, { text: TEXT, context: 1000 });
  const text = model.detokenize(task.prompt);
  const first = model.detokenize(task.questions[0].answer).trim();
  // Loses the first fact's first digit, wherever it stands.
  const lossy: Method = {
    name: "lossy",
    setting: "one fact",
    options: {},
    usesProfile: false,
    run: (cache) => {
      const changed = mapHeads(cache, {}, (head) => {
        const values = toFloat32(head.value, cache.dtype);
        for (let at = text.indexOf(first); at >= 0; at = text.indexOf(first, at + 1)) values[2 * at] = 33;
        return { ...head, value: fromFloat32(values, cache.dtype) };
      });
      return Promise.resolve({
        cache: castCache(changed, "f16"),
        ratios: { target: 4, paper: 4, file: 3 },
        bytes: 1000,
        regions: { sinks: 0, coded: cache.tokens, window: 0 },
        seconds: { compress: 1, restore: 1 },
      });
    },
  };
  const outcomes: RetrievalOutcome[] = [];
  let tokens = 0;
  const methods = [...CONTROLS, lossy];
  await evaluateRetrievalPrompt(model, "needle", task, {
    dtype: "f16",
    methods,
    onOutcome: (outcome) => void outcomes.push(outcome),
    onTokens: (more) => tokens += more,
  });
  assertEquals(tokens, retrievalTokens(task, methods.length));
  const points = summarizeRetrieval([...outcomes, { ...outcomes[2], fileRatio: 27, after: outcomes[2].before }]);
  assertEquals(points.map(({ method, setting, questions }) => [method, setting, questions]), [
    ["untouched", "", 4],
    ["zeroed", "", 4],
    ["lossy", "one fact", 8],
  ]);
  assertEquals(points.map(({ before }) => before), [1, 1, 1]);
  assertEquals(points.map(({ after }) => after), [1, 0, 7 / 8]);
  assertEquals(points[0].fileRatio, null);
  assertAlmostEquals(points[2].fileRatio!, 9, 1e-12);
  assertEquals(points[0].logProbability.before, points[0].logProbability.after);
  assert(points[1].logProbability.after < -4);
});

Deno.test("what cannot be built is refused with the reason", () => {
  const refuse = (options: Partial<Parameters<typeof buildNeedle>[1]>, message: string) =>
    assertThrows(() => buildNeedle(model, { text: TEXT, context: 1000, ...options }), RangeError, message);
  refuse({ context: 200 }, "a context of 200 tokens is too small, 4 facts of");
  refuse({ context: 400.5 }, "its context is 400.5 tokens");
  refuse({ text: TEXT.slice(0, 500) }, "the text has 500 tokens, expected at least");
  refuse({ text: "word ".repeat(400) }, "0 sentences end between tokens 4 and");
  refuse({ questions: 0 }, "questions is 0, expected a whole number from 1 on");
  refuse({ window: -1 }, "window is -1, expected a whole number from 0 on");
  refuse({ questions: 40 }, "32 of 32 keys do not stand in the text, expected at least 40");
  assertThrows(() => drawFacts("Oslo, Lima", 31, 5, 0), RangeError, "30 of 32 keys do not stand in the text");
  const facts = [characters("A fact."), characters("Another.")];
  const room = { context: 60, sinks: 4, window: 10 };
  const one = "Only one sentence. " + "then no more ".repeat(10);
  assertThrows(
    () => placeFacts(characters, one, facts, room),
    RangeError,
    "1 sentences end between tokens 4 and 35 of the text, expected at least 2",
  );
});

Deno.test("a tokenizer that merges question and answer is refused", () => {
  // Characters, but a quotation mark and the digit after it are one token.
  const merging = lookupModel({ tokenize: (text) => characters(text.replaceAll(/"\d/g, "#")) });
  assertThrows(
    () => buildKeyValue(merging, { text: TEXT, context: 1000 }),
    KvzUnsupportedError,
    "Cannot build key-value task: the tokenizer merges the end of a question with the beginning of its answer",
  );
});

Deno.test("scoring stops when asked to", async () => {
  const { prompt, questions } = buildNeedle(model, { text: TEXT, context: 1000 });
  const past = await prefill(model, prompt);
  await assertRejects(() => scoreRetrieval(model, past, questions, AbortSignal.abort(new Error("enough"))), "enough");
});
