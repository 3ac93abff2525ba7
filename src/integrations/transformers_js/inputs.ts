/**
 * Token ids around a restored cache.
 *
 * @module
 */
import type { KvCache } from "../../cache/kv_cache.ts";
import { KvzMismatchError } from "../../errors.ts";
import { requireVocabulary } from "./facts.ts";
import type { ModelLike } from "./types.ts";

/**
 * Ids of all tokens so far: the caller's where given, otherwise those of the cache and what was pending.
 *
 * @throws {KvzMismatchError} The cache's ids are not the beginning of the caller's.
 */
export function knownIds(
  { inputIds: own, tokens }: Pick<KvCache, "inputIds" | "tokens">,
  pending: readonly number[],
  given: ArrayLike<number | bigint> | undefined,
): Int32Array | null {
  if (given === undefined) return own ? Int32Array.of(...own, ...pending) : null;
  if (given.length < tokens) {
    throw new KvzMismatchError(
      `Cannot restore cache: it has ${tokens} tokens, inputIds only ${given.length}; option "tokens" restores fewer`,
    );
  }
  const ids = Int32Array.from(given as ArrayLike<number>, Number);
  for (let t = 0; own && t < tokens; t++) {
    if (own[t] !== ids[t]) {
      throw new KvzMismatchError(
        `Cannot restore cache: token ${t} is ${own[t]} in the file, ${ids[t]} in inputIds; ` +
          "it is of another prompt or tokenizer",
      );
    }
  }
  return ids;
}

/** `input_ids` and `attention_mask` for ids that begin with those of a cache of `cached` tokens. */
export function makeInputs(
  Tensor: new (...args: never[]) => unknown,
  cached: number,
  ids: Int32Array | null,
  more: ArrayLike<number | bigint>,
  model: ModelLike,
): { readonly input_ids: unknown; readonly attention_mask: unknown } {
  if (ids === null) {
    throw new TypeError('Cannot continue: the file has no token ids; pass those of the sequence as option "inputIds"');
  }
  const added = Int32Array.from(more as ArrayLike<number>, Number);
  requireVocabulary(added, model, "continue the");
  const all = BigInt64Array.from([...ids, ...added], BigInt);
  if (all.length <= cached) {
    throw new RangeError(
      `Cannot continue: the cache holds all ${cached} tokens, generate() needs at least one more; pass it`,
    );
  }
  const make = Tensor as new (type: string, data: BigInt64Array, dims: number[]) => unknown;
  const dims = [1, all.length];
  return {
    input_ids: new make("int64", all, dims),
    attention_mask: new make("int64", new BigInt64Array(all.length).fill(1n), [...dims]),
  };
}
