/**
 * The retrieval part of `kvz eval`: every task, context, text and setting, kept in the journal as it is done.
 *
 * @module
 */
import type { DType } from "../../src/cache/types.ts";
import type { LanguageModel } from "../../src/eval/language_model.ts";
import type { Method } from "../../src/eval/method.ts";
import type { RetrievalPoint } from "../../src/eval/point.ts";
import { buildRetrieval, RETRIEVAL_CONTEXTS } from "../../src/eval/retrieval.ts";
import { RETRIEVAL_TASKS } from "../../src/eval/retrieval_facts.ts";
import {
  evaluateRetrievalPrompt,
  type RetrievalOutcome,
  retrievalTokens,
  summarizeRetrieval,
} from "../../src/eval/retrieval_run.ts";
import { sequenceHash } from "../../src/profile/shingles.ts";
import { type Journal, resultKey } from "./journal.ts";
import type { EvalText } from "./texts.ts";

/** What is asked of the retrieval tasks. */
export interface RetrievalRequest {
  readonly model: LanguageModel;
  readonly texts: readonly EvalText[];
  /** Tokens of cache; true for those that SmolLM2 can do. */
  readonly contexts: readonly number[] | true;
  /** Prompts built of each text, with other facts. */
  readonly prompts: number;
  readonly methods: readonly Method[];
  readonly dtype: DType;
  readonly journal: Journal;
  /** Facts that all results of a method depend on. */
  readonly common: (method: Method) => Readonly<Record<string, unknown>>;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: { readonly done: number; readonly total: number; readonly stage: string }) => void;
}

/** Runs what the journal does not hold yet; returns the scores over all texts and prompts. */
export async function evaluateRetrieval(request: RetrievalRequest): Promise<RetrievalPoint[]> {
  const { model, texts, methods, journal, common, dtype, signal } = request;
  const contexts = request.contexts === true ? RETRIEVAL_CONTEXTS : request.contexts;
  const seeds = Array.from({ length: request.prompts }, (_, seed) => seed);
  const jobs = RETRIEVAL_TASKS.flatMap((task) =>
    contexts.flatMap((context) =>
      texts.flatMap(({ text }) =>
        seeds.map((seed) => {
          const prompt = buildRetrieval(model, task, { text, context, seed });
          const asked = prompt.questions.map(({ ask, answer }) => [...ask, -1, ...answer]);
          const ids = [prompt.prompt, ...asked].map((list) => sequenceHash(list).toString(16));
          const keys = methods.map((method) =>
            resultKey({ ...common(method), task, ids, method: method.name, options: method.options })
          );
          const missing = methods.filter((_, i) => journal.get(keys[i]) === undefined);
          return { task, prompt, keys, missing };
        })
      )
    )
  );
  const total = jobs.reduce(
    (sum, job) => sum + (job.missing.length === 0 ? 0 : retrievalTokens(job.prompt, job.missing.length)),
    0,
  );
  let done = 0;
  for (const { task, prompt, keys, missing } of jobs) {
    if (missing.length === 0) continue;
    await evaluateRetrievalPrompt(model, task, prompt, {
      dtype,
      methods: missing,
      signal,
      onTokens: (tokens) => request.onProgress({ done: done += tokens, total, stage: "retrieval" }),
      onOutcome: async (outcome) => {
        const i = methods.findIndex(({ name, setting }) => name === outcome.method && setting === outcome.setting);
        await journal.add(keys[i], outcome);
      },
    });
  }
  return summarizeRetrieval(jobs.flatMap(({ keys }) => keys.map((key) => journal.get(key) as RetrievalOutcome)));
}
