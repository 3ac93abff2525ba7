/**
 * Which tokens each head keeps: StreamingLLM, H2O, SnapKV, PyramidKV.
 *
 * @module
 */
import type { CacheSource } from "../../cache/types.ts";
import { attentionSums, type HeadAttention, headsOf, requireQueries } from "../../stages/tokens/attention.ts";
import { authorsBudgets, kvpressBudgets } from "../../stages/tokens/budgets.ts";
import { markRange, poolScores, topIndices } from "../../stages/tokens/scores.ts";
import type { Selection } from "../recipe.ts";
import type { Budget } from "./evicting.ts";
import type { PyramidKvOptions } from "./pyramidkv.ts";
import type { SnapKvOptions } from "./snapkv.ts";
import type { StreamingLlmOptions } from "./streamingllm.ts";

/** Tokens that a head keeps of so many: at least one, as in kvpress. */
export function capacityOf({ capacity, keep }: Budget, tokens: number): number {
  return capacity === null ? Math.max(1, Math.floor(tokens * keep!)) : Math.min(capacity, tokens);
}

/** StreamingLLM: every head keeps the first `sinks` tokens and the newest. */
export function selectStreaming(source: CacheSource, options: StreamingLlmOptions): Selection {
  const { model: { layers, kvHeads }, tokens } = source;
  const capacity = capacityOf(options, tokens);
  if (tokens <= capacity) return {};
  if (options.sinks >= capacity) throw tooFew("sinks", options.sinks, capacity);
  const row = new Uint8Array(tokens);
  markRange(row, 0, options.sinks);
  markRange(row, tokens - (capacity - options.sinks), tokens);
  const marks = new Uint8Array(layers * kvHeads * tokens);
  for (let block = 0; block < layers * kvHeads; block++) marks.set(row, block * tokens);
  return { marks };
}

/**
 * H2O after the prompt: the newest half of the capacity, and of the tokens before it those with the largest attention, summed
 * over all captured queries and the query heads of the group. With queries of the whole prompt that is H2O's accumulated
 * score; with those of its last tokens only what they saw counts.
 */
export async function selectHeavy(source: CacheSource, options: Budget): Promise<Selection> {
  const { tokens } = source;
  const capacity = capacityOf(options, tokens);
  if (tokens <= capacity) return {};
  const recent = capacity >> 1;
  return await mark(source, { recipe: "h2o", window: "all" }, (head, row) => {
    const scores = new Float64Array(tokens);
    for (const queries of head.queries) attentionSums(queries, head).forEach((sum, t) => scores[t] += sum);
    for (const t of topIndices(scores.subarray(0, tokens - recent), capacity - recent)) row[t] = 1;
    markRange(row, tokens - recent, tokens);
  });
}

/** SnapKV: the window, and of the tokens before it those with the largest score. */
export async function selectSnap(source: CacheSource, options: SnapKvOptions, recipe = "snapkv"): Promise<Selection> {
  const { model: { layers }, tokens } = source;
  const capacity = capacityOf(options, tokens);
  return await selectByBudgets(source, Array(layers).fill(capacity), options, recipe);
}

/** PyramidKV: SnapKV with the budget of each layer. */
export async function selectPyramid(source: CacheSource, options: PyramidKvOptions): Promise<Selection> {
  const { model: { layers }, tokens } = source;
  const { window, beta } = options;
  const capacity = capacityOf(options, tokens);
  if (tokens <= capacity) return {};
  const shape = { layers, tokens, window, beta };
  const budgets = options.budgets === "authors"
    ? authorsBudgets(shape, capacity)
    : kvpressBudgets(shape, options.keep ?? capacity / tokens);
  return await selectByBudgets(source, budgets, options, "pyramidkv");
}

async function selectByBudgets(
  source: CacheSource,
  budgets: readonly number[],
  options: SnapKvOptions,
  recipe: string,
): Promise<Selection> {
  const { tokens } = source;
  const { window } = options;
  if (budgets.every((budget) => tokens <= budget)) return {};
  const least = Math.min(...budgets);
  if (least < window) throw tooFew("window", window, least);
  return await mark(source, { recipe, window }, (head, row) => {
    const scores = snapScores(head, options);
    for (const t of topIndices(scores, Math.min(scores.length, budgets[head.layer] - window))) row[t] = 1;
    markRange(row, tokens - window, tokens);
  });
}

/**
 * SnapKV's scores of the tokens before the window: attention summed over the queries, pooled for each query head, mean over
 * the query heads of the group (kvpress; the authors' code chooses for each query head, which no GQA cache can hold).
 */
export function snapScores(head: HeadAttention, { pooling, kernel }: SnapKvOptions): Float64Array {
  const { tokens, window, queries } = head;
  const scores = new Float64Array(tokens - window);
  for (const rows of queries) {
    poolScores(attentionSums(rows, head), tokens - window, pooling, kernel)
      .forEach((score, t) => scores[t] += score / queries.length);
  }
  return scores;
}

async function mark(
  source: CacheSource,
  need: { recipe: string; window: number | "all" },
  choose: (head: HeadAttention, row: Uint8Array) => void,
): Promise<Selection> {
  const { model: { layers, kvHeads }, tokens } = source;
  const queries = await requireQueries(source, need);
  const marks = new Uint8Array(layers * kvHeads * tokens);
  for await (const head of headsOf(source, queries, need.window)) {
    const block = head.layer * kvHeads + head.head;
    choose(head, marks.subarray(block * tokens, (block + 1) * tokens));
  }
  return { marks };
}

export function tooFew(name: string, value: number, budget: number): RangeError {
  return new RangeError(
    `Cannot use option "${name}": it is ${value}, a head keeps ${budget} tokens, expected at most as many${
      name === "sinks" ? " less one" : ""
    }`,
  );
}
