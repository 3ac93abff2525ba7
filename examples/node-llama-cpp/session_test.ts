/**
 * Sequences through .kvz files and back, in the real runtime. Run it with this folder's deno.json (deno task test), in a
 * process of its own: should a bad state slip through, llama.cpp ends that process.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  type Codec,
  KvzFormatError,
  KvzLimitError,
  KvzMismatchError,
  KvzUnsupportedError,
  loadProfile,
  openCodec,
} from "@kvz/kvz";
import { type Agreement, AgreementMeter } from "@kvz/kvz/eval";
import { readTokens, SAMPLE_PROFILE } from "./arguments.ts";
import { installRuntime } from "./install.ts";
import { followTokens, FORMS } from "./measure_form.ts";
import { type ContextForm, findModel, openRuntime, type OpenSequence, type Runtime } from "./runtime.ts";
import { compressState, giveState, restoreState, takeState } from "./session.ts";

const PROMPT = 160;
const FOLLOW = 32;
const CONTEXT = 256;
const FLASH: ContextForm = FORMS[0];

/** What every test starts from; contexts are opened by the tests. */
interface Bench {
  readonly runtime: Runtime;
  readonly codec: Codec;
  /** Token ids of the sample. */
  readonly tokens: number[];
}

let opened: Promise<Bench> | undefined;

function bench(): Promise<Bench> {
  return opened ??= (async () => {
    const model = findModel();
    await installRuntime();
    const runtime = await openRuntime(model);
    const codec = await openCodec(await loadProfile(await Deno.readFile(SAMPLE_PROFILE)), { threads: 1 });
    return { runtime, codec, tokens: await readTokens(runtime, undefined) };
  })();
}

/** A test over the shared runtime, which lives on: its threads are no leak of the test. */
function runtimeTest(name: string, fn: (bench: Bench) => Promise<void>): void {
  Deno.test({ name, sanitizeOps: false, sanitizeResources: false, fn: async () => await fn(await bench()) });
}

/** Checks that work fails with an error of a type and a message. */
async function refuses(
  work: () => Promise<unknown>,
  type: new (message: string) => Error,
  message: string,
): Promise<void> {
  const error = await work().then(() => undefined, (error: Error) => error);
  assert(error instanceof type, `${error} is no ${type.name}`);
  assert(error.message.includes(message), `"${error.message}" does not say "${message}"`);
}

/** The state after the prompt, and the logits of the tokens that follow. */
async function uninterrupted(
  { runtime, tokens }: Bench,
  form: ContextForm,
): Promise<{ state: Uint8Array; logits: Float32Array }> {
  await using open = await runtime.open(CONTEXT, form);
  await open.sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(0, PROMPT));
  const state = await takeState(open);
  return { state, logits: await follow({ runtime, tokens }, open) };
}

async function follow({ runtime, tokens }: Omit<Bench, "codec">, open: OpenSequence): Promise<Float32Array> {
  return await followTokens(open, tokens.slice(PROMPT, PROMPT + FOLLOW), runtime.vocabulary);
}

function agreement({ runtime, tokens }: Bench, before: Float32Array, after: Float32Array): Agreement {
  const meter = new AgreementMeter(runtime.vocabulary);
  meter.add(before, after, tokens.slice(PROMPT + 1, PROMPT + FOLLOW + 1));
  return meter.result();
}

runtimeTest("the logits that KL is computed from are those of the whole vocabulary at temperature 1", async (all) => {
  const { runtime, tokens } = all;
  await using open = await runtime.open(CONTEXT, FLASH);
  const options = { temperature: 1, topK: 0, topP: 1, minP: 0 };
  const [result] = await open.sequence.controlledEvaluate([[tokens[0], {
    generateNext: { logits: true, probabilities: true, options },
  }]]);
  const { logits, probabilities } = result!.next;
  assert.deepEqual([logits?.size, probabilities?.size], [runtime.vocabulary, runtime.vocabulary]);
  const max = Math.max(...logits!.values());
  let sum = 0;
  for (const logit of logits!.values()) sum += Math.exp(logit - max);
  for (const [token, logit] of logits!) {
    // The runtime sums 49,152 terms in float32, which is off by 1e-4; KL is computed from the logits, in float64.
    const expected = Math.exp(logit - max) / sum;
    assert(Math.abs(probabilities!.get(token)! - expected) < 5e-4 * expected + 1e-30, `token ${token}`);
  }
});

for (const form of FORMS.slice(0, 3)) {
  const name = `${form.cacheType} ${form.flashAttention ? "with" : "without"} flash attention`;
  runtimeTest(
    `${name}: a lossless file gives the same state and the same logits, a coded one close ones`,
    async (all) => {
      const { runtime, codec, tokens } = all;
      const { state, logits } = await uninterrupted(all, form);
      const restored = async (options: { window: number; exact: boolean }) => {
        const { bytes } = await compressState(state, runtime.gguf, codec, { ratio: 32, ...options });
        await using open = await runtime.open(CONTEXT, form);
        const { state: back } = await restoreState(bytes, runtime.gguf, open.facts, codec);
        await giveState(open, back);
        assert.deepEqual(open.sequence.nextTokenIndex, PROMPT);
        return { back, ...agreement(all, logits, await follow({ runtime, tokens }, open)) };
      };
      const lossless = await restored({ window: PROMPT, exact: form.cacheType !== "f16" });
      assert(lossless.back.every((byte, at) => byte === state[at]));
      assert.deepEqual([lossless.kl, lossless.topOne], [0, 1]);
      const coded = await restored({ window: 32, exact: false });
      assert(coded.kl > 1e-4 && coded.kl < 0.2, `KL of a file coded at 32× is ${coded.kl}`);
      assert(coded.topOne > 0.7, `top-1 agreement is ${coded.topOne}`);
    },
  );
}

runtimeTest("llama.cpp's reason is told where it takes no quantized values", async ({ runtime }) => {
  await refuses(() => runtime.open(CONTEXT, FORMS[3]), Error, "quantized V cache requires flash_attn");
});

runtimeTest("a file saved in one form goes on in any other", async (all) => {
  const { runtime, codec, tokens } = all;
  const { state, logits } = await uninterrupted(all, FLASH);
  const { bytes } = await compressState(state, runtime.gguf, codec, { ratio: 32, window: PROMPT });
  for (const form of FORMS.slice(1, 3)) {
    await using open = await runtime.open(CONTEXT, form);
    const { state: other } = await restoreState(bytes, runtime.gguf, open.facts, codec);
    await giveState(open, other);
    const { kl } = agreement(all, logits, await follow({ runtime, tokens }, open));
    assert(kl > 0 && kl < 0.02, `KL after the change to ${form.cacheType} is ${kl}`);
  }
});

runtimeTest("no damaged state reaches the runtime, and the sequence stays usable", async (all) => {
  const { runtime, tokens } = all;
  for (const form of FORMS.slice(0, 3)) {
    const { state, logits } = await uninterrupted(all, form);
    await using open = await runtime.open(CONTEXT, form);
    // Every byte of head and cells, then steps through the tensors (a prime, so that they hit every field), and the end.
    const cuts = Array.from({ length: 3000 }, (_, length) => length);
    for (let length = 3001; length < state.length; length += 49_999) cuts.push(length);
    for (const length of [...cuts, state.length - 1]) {
      const error = await giveState(open, state.subarray(0, length)).catch((error) => error);
      assert(
        error instanceof KvzFormatError || error instanceof KvzUnsupportedError,
        `cut at ${length} of ${state.length}: ${error}`,
      );
    }
    for (const extra of [1, 12, 100]) {
      const longer = new Uint8Array(state.length + extra);
      longer.set(state);
      await refuses(() => giveState(open, longer), KvzFormatError, `${extra} bytes follow the cache`);
    }
    await giveState(open, state);
    assert.deepEqual(agreement(all, logits, await follow({ runtime, tokens }, open)).kl, 0);
  }
});

runtimeTest("states of other contexts and models are refused by name", async (all) => {
  const { runtime, codec } = all;
  const { state } = await uninterrupted(all, FLASH);
  const refused = async (form: ContextForm, type: new (message: string) => Error, message: string, size = CONTEXT) => {
    await using open = await runtime.open(size, form);
    await refuses(() => giveState(open, state), type, message);
  };
  await refused(
    FORMS[1],
    KvzMismatchError,
    "its values lie in rows (flash attention), those of the context transposed",
  );
  await refused(FORMS[2], KvzMismatchError, "key of layer 0 is f16, expected q8_0");
  await refused(FLASH, KvzLimitError, `it has ${PROMPT} tokens, the context takes at most ${PROMPT - 1}`, PROMPT - 1);

  await using open = await runtime.open(CONTEXT, FLASH);
  const model = { ...runtime.gguf.model, kvHeads: 9 };
  const other = { sequence: open.sequence, facts: { ...open.facts, model } };
  await refuses(
    () => giveState({ ...other, [Symbol.asyncDispose]: () => Promise.resolve() }, state),
    KvzMismatchError,
    "key of layer 0 has 384 bytes of f16 a cell in the file, 1152 in the model (9 heads of 64)",
  );
  const { bytes } = await compressState(state, runtime.gguf, codec, { ratio: 32 });
  const gguf = {
    ...runtime.gguf,
    model: { ...runtime.gguf.model, rope: { ...runtime.gguf.model.rope!, theta: 10000 } },
  };
  await refuses(
    () => restoreState(bytes, gguf, open.facts, codec),
    KvzMismatchError,
    "Cannot restore state: the file is of",
  );
  await refuses(
    () => restoreState(bytes, { ...runtime.gguf, name: "another" }, open.facts, codec),
    KvzMismatchError,
    "the model is another",
  );
});
