/**
 * Which channels of the keys each head keeps: ThinK.
 *
 * @module
 */
import type { CacheSource } from "../../cache/types.ts";
import { channelScores } from "../../stages/channels/think.ts";
import { headsOf, requireQueries } from "../../stages/tokens/attention.ts";
import { topIndices } from "../../stages/tokens/scores.ts";
import type { Selection } from "../recipe.ts";
import { selectSnap } from "./select_tokens.ts";
import type { ThinkOptions } from "./think.ts";

/**
 * Masks of the channels that are kept, [layers][kvHeads][keyDim], with the marks of SnapKV where it goes first: the keys
 * that scores are of are those it keeps. ⌊dim · prune⌋ channels go.
 */
export async function selectChannels(source: CacheSource, options: ThinkOptions): Promise<Selection> {
  const { model: { layers, kvHeads, keyDim }, tokens } = source;
  if (options.after === "snapkv" && options.recent > options.window) {
    throw new RangeError(
      `Cannot use option "recent": it is ${options.recent}, snapkv keeps the newest ${options.window} tokens for certain`,
    );
  }
  // No key will be pruned.
  if (tokens <= options.recent) return { plan: new Uint8Array(layers * kvHeads * keyDim).fill(1) };
  const { marks } = options.after === "snapkv" ? await selectSnap(source, options, "think") : {};
  const window = options.queries;
  const queries = await requireQueries(source, { recipe: "think", window });
  const plan = new Uint8Array(layers * kvHeads * keyDim);
  const kept = keyDim - Math.floor(keyDim * options.prune);
  for await (const head of headsOf(source, queries, window)) {
    const block = head.layer * kvHeads + head.head;
    const row = marks?.subarray(block * tokens, (block + 1) * tokens);
    const chosen = row === undefined ? undefined : Array.from(row.keys()).filter((t) => row[t] !== 0);
    const scores = channelScores(head.queries, head.keys, keyDim, chosen);
    for (const j of topIndices(scores, kept)) plan[block * keyDim + j] = 1;
  }
  return { ...(marks === undefined ? {} : { marks }), plan };
}
