/**
 * One form of the cache, measured: the uninterrupted sequence, then the same tokens after every way of keeping its cache.
 *
 * @module
 */
import type { Codec } from "@kvz/kvz";
import { type Agreement, AgreementMeter } from "@kvz/kvz/eval";
import type { ContextForm, OpenSequence, Runtime } from "./runtime.ts";
import { compressState, giveState, restoreState, takeState } from "./session.ts";

/** fp16 and q8_0, with flash attention and without. */
export const FORMS: readonly ContextForm[] = [
  { cacheType: "f16", flashAttention: true },
  { cacheType: "f16", flashAttention: false },
  { cacheType: "q8_0", flashAttention: true },
  { cacheType: "q8_0", flashAttention: false },
];

/** What to measure. */
export interface MeasureTask {
  /** The prompt, the tokens after it, and the one that the last of them predicts. */
  readonly tokens: readonly number[];
  /** Tokens in the cache. */
  readonly prompt: number;
  /** Target ratios. */
  readonly ratios: readonly number[];
  /** Newest tokens kept bit-exact. */
  readonly window: number;
}

/** One way of keeping the cache. */
export interface MethodResult {
  /** "untouched" (the state itself), "lossless" (all in the window) or "kvtc". */
  readonly method: string;
  /** The three ratios; null where there is no file, and the paper ratio where nothing is coded. */
  readonly ratios: { readonly target: number | null; readonly paper: number | null; readonly file: number | null };
  /** Bytes that are kept: of the state, or of the .kvz file. */
  readonly bytes: number;
  /** Whether the state that the runtime got is the saved one, byte for byte. */
  readonly sameState: boolean;
  /** Mean and largest KL(uninterrupted ‖ restored) of the next-token distributions, nats. */
  readonly kl: number;
  readonly klMax: number;
  /** Share of tokens whose most likely next token is the same. */
  readonly topOne: number;
  readonly perplexity: number;
  /** Wall time: state → file, and file → state, checked and loaded; the codec is open and its plan made. */
  readonly seconds: { readonly compress: number | null; readonly restore: number };
}

/** One form of the cache. */
export interface FormResult extends ContextForm {
  /** Why llama.cpp makes no such context; then there is nothing else. */
  readonly refused?: string;
  /** Bytes of the state file. */
  readonly stateBytes?: number;
  /** Of the uninterrupted sequence. */
  readonly perplexity?: number;
  /** Wall time of the prompt's evaluation. */
  readonly secondsPrefill?: number;
  /** Mean KL(first form ‖ this form) of the uninterrupted sequences, nats: what the choice of a form does by itself. */
  readonly klOfForm?: number;
  readonly methods?: readonly MethodResult[];
}

/** A form's result and its uninterrupted logits, [tokens][vocabulary]; none where llama.cpp refuses the form. */
export interface MeasuredForm {
  readonly result: FormResult;
  readonly logits?: Float32Array;
}

/** Tokens of one call: their logits come as maps of the whole vocabulary, 3 MB each. */
const ROWS = 16;

/**
 * Raw logits after each of the tokens, [tokens][vocabulary]. The sampler's options leave them as they are: temperature 1,
 * no top-k, top-p or min-p (the defaults keep 40 tokens).
 *
 * @throws {Error} The runtime gives fewer logits than the vocabulary has tokens.
 */
export async function followTokens(
  { sequence }: OpenSequence,
  tokens: readonly number[],
  vocabulary: number,
): Promise<Float32Array> {
  const generateNext = { logits: true, options: { temperature: 1, topK: 0, topP: 1, minP: 0 } };
  const out = new Float32Array(tokens.length * vocabulary);
  for (let begin = 0; begin < tokens.length; begin += ROWS) {
    const part = tokens.slice(begin, begin + ROWS);
    const results = await sequence.controlledEvaluate(part.map((token) => [token, { generateNext }]));
    part.forEach((_, i) => {
      const logits = results[i]?.next.logits;
      if (logits?.size !== vocabulary) {
        throw new Error(`Cannot measure: the runtime gave ${logits?.size ?? 0} logits, expected ${vocabulary}`);
      }
      const row = (begin + i) * vocabulary;
      for (const [token, logit] of logits) out[row + token] = logit;
    });
  }
  return out;
}

async function timed<T>(work: () => Promise<T>): Promise<{ result: T; seconds: number }> {
  const begin = performance.now();
  const result = await work();
  return { result, seconds: (performance.now() - begin) / 1000 };
}

/** Measures one form; `first` are the uninterrupted logits of the form to compare it with. */
export async function measureForm(
  runtime: Runtime,
  codec: Codec,
  form: ContextForm,
  { tokens, prompt, ratios, window }: MeasureTask,
  first?: Float32Array,
): Promise<MeasuredForm> {
  const { gguf, vocabulary } = runtime;
  const size = tokens.length + 1;
  const follow = tokens.slice(prompt, -1);
  const targets = tokens.slice(prompt + 1);

  let original: OpenSequence;
  try {
    original = await runtime.open(size, form);
  } catch (error) {
    return { result: { ...form, refused: (error as Error).message } };
  }
  const prefill = await timed(() => original.sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(0, prompt)));
  const saved = await takeState(original);
  const before = await followTokens(original, follow, vocabulary);
  await original[Symbol.asyncDispose]();

  const agreement = (before: Float32Array, after: Float32Array): Agreement => {
    const meter = new AgreementMeter(vocabulary);
    meter.add(before, after, targets);
    return meter.result();
  };

  /** Loads a state into a new context and compares what follows. */
  const compare = async (makeState: (to: OpenSequence) => Promise<Uint8Array>) => {
    await using restored = await runtime.open(size, form);
    const { result: state, seconds } = await timed(async () => {
      const state = await makeState(restored);
      await giveState(restored, state);
      return state;
    });
    const after = await followTokens(restored, follow, vocabulary);
    const { kl, klMax, topOne, perplexityBefore, perplexityAfter } = agreement(before, after);
    const sameState = state.length === saved.length && state.every((byte, at) => byte === saved[at]);
    return { sameState, kl, klMax, topOne, perplexityBefore, perplexity: perplexityAfter, restore: seconds };
  };

  const methods: MethodResult[] = [];
  const { perplexityBefore, restore, ...control } = await compare(() => Promise.resolve(saved));
  methods.push({
    method: "untouched",
    ratios: { target: null, paper: null, file: null },
    bytes: saved.length,
    ...control,
    seconds: { compress: null, restore },
  });
  const ratio = ratios[0];
  const settings = [
    { method: "lossless", options: { ratio, window: prompt, exact: form.cacheType !== "f16" }, target: null },
    ...ratios.map((ratio) => ({ method: "kvtc", options: { ratio, window }, target: ratio })),
  ];
  for (const { method, options, target } of settings) {
    const { result: { bytes, report }, seconds: compress } = await timed(() =>
      compressState(saved, gguf, codec, options)
    );
    const { perplexityBefore: _, restore, ...figures } = await compare(async ({ facts }) =>
      (await restoreState(bytes, gguf, facts, codec)).state
    );
    methods.push({
      method,
      ratios: { target, paper: report.paperRatio, file: report.fileRatio },
      bytes: bytes.length,
      ...figures,
      seconds: { compress, restore },
    });
  }
  const result: FormResult = {
    ...form,
    stateBytes: saved.length,
    perplexity: perplexityBefore,
    secondsPrefill: prefill.seconds,
    ...(first === undefined ? {} : { klOfForm: agreement(first, before).kl }),
    methods,
  };
  return { result, logits: before };
}
