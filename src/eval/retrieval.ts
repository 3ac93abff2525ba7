/**
 * Retrieval: facts stand in a text, and after the text the model is asked for them. What perplexity hides, a lost
 * detail, shows here. Prompts are built of the evaluation's own texts and depend on nothing but text, seed and
 * tokenizer.
 *
 * @module
 */
import { KvzUnsupportedError } from "../errors.ts";
import { argmax } from "./agreement.ts";
import type { LanguageModel, LoadedCache } from "./language_model.ts";
import { drawFacts, FACT_FORMS, type RetrievalTask } from "./retrieval_facts.ts";
import { placeFacts } from "./retrieval_prompt.ts";

/**
 * Tokens of cache at which SmolLM2-135M finds most answers (docs/retrieval.md), and at which kvz measures where nothing
 * else is asked for.
 */
export const RETRIEVAL_CONTEXTS: readonly number[] = [512, 1024];

/** Options of {@linkcode buildRetrieval}. */
export interface RetrievalOptions {
  /** What the facts stand in; the prompt begins where it begins. */
  readonly text: string;
  /** Tokens of the prompt. */
  readonly context: number;
  /** Draws keys and values. Default 0. */
  readonly seed?: number;
  /** Facts in the prompt; each is asked for. Default 4. */
  readonly questions?: number;
  /** First tokens without facts. Default 4, the sinks of recipe kvtc. */
  readonly sinks?: number;
  /** Last tokens without facts. Default 128, the raw window of recipe kvtc. */
  readonly window?: number;
}

/** One question about a prompt. */
export interface RetrievalQuestion {
  /** Tokens that follow the prompt and ask. */
  readonly ask: Int32Array;
  /** Tokens that have to follow. */
  readonly answer: Int32Array;
  /** First token of the fact ÷ tokens of the prompt. */
  readonly depth: number;
}

/** A prompt with the questions about it. */
export interface RetrievalPrompt {
  /** Token ids, exactly `context` of them. */
  readonly prompt: Int32Array;
  /** In the order of the facts. */
  readonly questions: readonly RetrievalQuestion[];
}

/** How a question was answered. */
export interface RetrievalAnswer {
  /** Whether greedy decoding gives the whole answer. */
  readonly found: boolean;
  /** Mean log-probability of the answer's tokens, each given those before it, nats a token. */
  readonly logProbability: number;
}

/** A prompt of the key–value task: lines of keys and values between sentences. See {@linkcode buildRetrieval}. */
export function buildKeyValue(model: LanguageModel, options: RetrievalOptions): RetrievalPrompt {
  return buildRetrieval(model, "key-value", options);
}

/** A prompt of the needle task: sentences that tell a number. See {@linkcode buildRetrieval}. */
export function buildNeedle(model: LanguageModel, options: RetrievalOptions): RetrievalPrompt {
  return buildRetrieval(model, "needle", options);
}

/**
 * Builds a prompt and its questions.
 *
 * @throws {RangeError} The context is too small for the facts, the text is too short or has too few sentences, it names
 * too many of the keys, or an option is no whole number in its range.
 * @throws {KvzUnsupportedError} The tokenizer merges the end of a question with the beginning of its answer.
 */
export function buildRetrieval(model: LanguageModel, task: RetrievalTask, options: RetrievalOptions): RetrievalPrompt {
  const { text, context, seed = 0, questions: count = 4, sinks = 4, window = 128 } = options;
  for (const [name, value, least] of [["questions", count, 1], ["sinks", sinks, 0], ["window", window, 0]] as const) {
    if (!Number.isInteger(value) || value < least) {
      throw new RangeError(`Cannot build ${task} task: ${name} is ${value}, expected a whole number from ${least} on`);
    }
  }
  if (!Number.isInteger(context)) throw new RangeError(`Cannot build ${task} task: its context is ${context} tokens`);
  // A token has rarely more than 16 characters; a whole book need not be searched for keys.
  const filler = text.slice(0, 16 * context);
  const form = FACT_FORMS[task];
  const facts = drawFacts(filler, count, form.digits, seed);
  const stated = facts.map((fact) => model.tokenize(form.state(fact)));
  const { ids, begins } = placeFacts((piece) => model.tokenize(piece), filler, stated, { context, sinks, window });
  const questions = facts.map(({ key, value }, i) => {
    const ask = model.tokenize(form.ask(key));
    const whole = model.tokenize(form.ask(key) + form.answer(value));
    if (whole.length <= ask.length || ask.some((id, j) => id !== whole[j])) {
      throw new KvzUnsupportedError(
        `Cannot build ${task} task: the tokenizer merges the end of a question with the beginning of its answer`,
      );
    }
    return { ask, answer: whole.slice(ask.length), depth: begins[i] / context };
  });
  return { prompt: ids, questions };
}

/**
 * Asks all questions after a past; one forward pass each. The answer's own tokens are fed in turn, which finds exactly
 * what greedy decoding finds: the first wrong token makes the answer wrong either way.
 *
 * @param signal ends the work between questions
 * @throws what the model throws
 */
export async function scoreRetrieval(
  model: LanguageModel,
  past: LoadedCache,
  questions: readonly RetrievalQuestion[],
  signal?: AbortSignal,
): Promise<RetrievalAnswer[]> {
  const answers: RetrievalAnswer[] = [];
  for (const { ask, answer } of questions) {
    signal?.throwIfAborted();
    const ids = new Int32Array(ask.length + answer.length - 1);
    ids.set(ask);
    ids.set(answer.subarray(0, -1), ask.length);
    const { logits } = await model.forward(ids, { past });
    const width = model.vocabulary;
    let found = true;
    let sum = 0;
    answer.forEach((token, i) => {
      const at = (ask.length - 1 + i) * width;
      const row = logits.subarray(at, at + width);
      const top = argmax(row);
      found &&= top === token;
      sum += logProbability(row, top, token);
    });
    answers.push({ found, logProbability: sum / answer.length });
  }
  return answers;
}

/** The log-probability of `token` in float64; `top` is the most likely one, which keeps the sum finite. */
function logProbability(logits: Float32Array, top: number, token: number): number {
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - logits[top]);
  return logits[token] - logits[top] - Math.log(sum);
}
