/**
 * DiffKV's classes of a whole cache.
 *
 * @module
 */
import type { CacheSource } from "../../cache/types.ts";
import { CLASSES, classify, SCORED_QUERIES } from "../../stages/diffkv/classes.ts";
import { attentionSums, headsOf, requireQueries } from "../../stages/tokens/attention.ts";
import type { Selection } from "../recipe.ts";
import type { DiffKvOptions } from "./diffkv.ts";

/**
 * Marks of all heads, and in `plan` their scores, f32 [layers][kvHeads][tokens]: they go into the pages, not into the file's
 * plan. A cache of at most `buffer` tokens is all high, whatever attention it has: without queries its scores are 0.
 *
 * @throws {KvzUnsupportedError} The cache has no queries of its last 64 tokens.
 */
export async function selectClasses(source: CacheSource, options: DiffKvOptions): Promise<Selection> {
  const { model: { layers, kvHeads }, tokens } = source;
  const marks = new Uint8Array(layers * kvHeads * tokens).fill(CLASSES.high);
  const scores = new Float32Array(marks.length);
  const plan = new Uint8Array(scores.buffer);
  const window = Math.min(SCORED_QUERIES, tokens);
  if (tokens === 0 || (tokens <= options.buffer && await queriesOf(source) < window)) return { marks, plan };
  const queries = await requireQueries(source, { recipe: "diffkv", window });
  for await (const head of headsOf(source, queries, window)) {
    const at = (head.layer * kvHeads + head.head) * tokens;
    const sums = head.queries.map((of) => attentionSums(of, head));
    classify(sums, options, marks.subarray(at, at + tokens), scores.subarray(at, at + tokens));
  }
  return { marks, plan };
}

async function queriesOf(source: CacheSource): Promise<number> {
  return (source.queries ?? await source.readQueries?.())?.tokens ?? 0;
}
