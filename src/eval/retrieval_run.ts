/**
 * One retrieval prompt put through every method, and the means over prompts.
 *
 * @module
 */
import { castCache } from "../cache/cast.ts";
import type { DType } from "../cache/types.ts";
import { KvzUnsupportedError } from "../errors.ts";
import { prefillWithQueries, withQueries } from "./capture.ts";
import { loadRestored, sharedCache } from "./evaluate.ts";
import type { LanguageModel } from "./language_model.ts";
import { anyNeedsQueries, type Method } from "./method.ts";
import type { RetrievalPoint } from "./point.ts";
import { type RetrievalAnswer, type RetrievalPrompt, scoreRetrieval } from "./retrieval.ts";
import type { RetrievalTask } from "./retrieval_facts.ts";

/** What one method made of one prompt. */
export interface RetrievalOutcome {
  /** The task. */
  readonly task: RetrievalTask;
  /** Tokens of the cache. */
  readonly context: number;
  /** Name of the method. */
  readonly method: string;
  /** Its setting. */
  readonly setting: string;
  /** The whole file's ratio; null for controls. */
  readonly fileRatio: number | null;
  /** Answers after the original cache, by question. */
  readonly before: readonly RetrievalAnswer[];
  /** Answers after the restored cache, by question. */
  readonly after: readonly RetrievalAnswer[];
}

/** Options of {@linkcode evaluateRetrievalPrompt}. */
export interface RetrievalRunOptions {
  /** Element type in which the cache is compressed. */
  readonly dtype: DType;
  /** What to compare. */
  readonly methods: readonly Method[];
  /** Last tokens whose queries are captured where a method needs some. Default: all of the prompt. */
  readonly queries?: number;
  /** Called after each method. */
  readonly onOutcome: (outcome: RetrievalOutcome) => void | Promise<void>;
  /** Called as work is done, in tokens run through the model since the last call. */
  readonly onTokens?: (tokens: number) => void;
  /** Ends the work between steps. */
  readonly signal?: AbortSignal;
}

/** Tokens that {@linkcode evaluateRetrievalPrompt} runs through the model; the unit of progress. */
export function retrievalTokens({ prompt, questions }: RetrievalPrompt, methods: number): number {
  return prompt.length + questionTokens(questions) * (methods + 1);
}

function questionTokens(questions: RetrievalPrompt["questions"]): number {
  return questions.reduce((sum, { ask, answer }) => sum + ask.length + answer.length - 1, 0);
}

/**
 * Prefills a prompt once and asks its questions after the cache itself and after what each method made of it.
 *
 * @throws {RangeError} the model has too few positions
 * @throws {KvzUnsupportedError} a method acts while the model reads on
 * @throws what the methods throw
 */
export async function evaluateRetrievalPrompt(
  model: LanguageModel,
  task: RetrievalTask,
  { prompt, questions }: RetrievalPrompt,
  options: RetrievalRunOptions,
): Promise<void> {
  const { dtype, methods, onOutcome, onTokens, signal } = options;
  const queries = await anyNeedsQueries(methods) ? options.queries ?? prompt.length : 0;
  const captured = await prefillWithQueries(model, prompt, { queries, onTokens, signal });
  const { past } = captured;
  const original = withQueries(await model.unload(past, prompt), captured.queries);
  const cache = castCache(original, dtype);
  const asked = questionTokens(questions);
  const before = await scoreRetrieval(model, past, questions, signal);
  onTokens?.(asked);
  for (const method of methods) {
    // As in evaluateText: the control goes without the rounding to `dtype`.
    const taken = method.name === "untouched" ? original : await sharedCache(model, method, prompt, options) ?? cache;
    const outcome = await method.run(taken, signal);
    if (outcome.running !== undefined) {
      throw new KvzUnsupportedError(
        `Cannot score retrieval of ${method.name} ${method.setting}: questions are read at once, and it would act while they are`,
      );
    }
    const after = await scoreRetrieval(
      model,
      await loadRestored(model, method, outcome, past),
      questions,
      signal,
    );
    onTokens?.(asked);
    await onOutcome({
      task,
      context: prompt.length,
      method: method.name,
      setting: method.setting,
      fileRatio: outcome.ratios.file,
      before,
      after,
    });
  }
}

/** Means over the prompts, in the order in which task, context and setting first come up. */
export function summarizeRetrieval(outcomes: readonly RetrievalOutcome[]): RetrievalPoint[] {
  const groups = new Map<string, RetrievalOutcome[]>();
  for (const outcome of outcomes) {
    const { task, context, method, setting } = outcome;
    const key = JSON.stringify([task, context, method, setting]);
    const group = groups.get(key);
    if (group) group.push(outcome);
    else groups.set(key, [outcome]);
  }
  return [...groups.values()].map((group) => {
    const { task, context, method, setting } = group[0];
    const before = group.flatMap((outcome) => outcome.before);
    const after = group.flatMap((outcome) => outcome.after);
    const ratios = group.map(({ fileRatio }) => fileRatio).filter((ratio) => ratio !== null);
    return {
      task,
      context,
      method,
      setting,
      questions: before.length,
      before: shareFound(before),
      after: shareFound(after),
      logProbability: { before: meanLogProbability(before), after: meanLogProbability(after) },
      fileRatio: ratios.length === 0
        ? null
        : Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length),
    };
  });
}

function shareFound(answers: readonly RetrievalAnswer[]): number {
  return answers.filter(({ found }) => found).length / answers.length;
}

// Answers of one task have equal lengths in tokens (equal digits), so the mean of means is that over tokens.
function meanLogProbability(answers: readonly RetrievalAnswer[]): number {
  return answers.reduce((sum, { logProbability }) => sum + logProbability, 0) / answers.length;
}
