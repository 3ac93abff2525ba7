/**
 * Facts that decide whether a cache, a model and a tokenizer belong together.
 *
 * @module
 */
import { parseHfModel } from "../../cache/hf_config.ts";
import type { ModelSpec } from "../../cache/types.ts";
import { KvzLimitError, KvzMismatchError, KvzUnsupportedError } from "../../errors.ts";
import { configOf, type ModelLike, type TokenizerLike } from "./types.ts";

/**
 * Geometry and RoPE of a loaded model. Its name comes from `modelId` alone: `_name_or_path` of published configurations
 * is often a path on the machine that trained it.
 *
 * @throws {KvzUnsupportedError} An encoder-decoder, or attention that `parseHfModel` refuses.
 * @throws {KvzFormatError} A field of the configuration is missing or out of range.
 */
export function modelSpec(model: ModelLike, modelId: string | undefined): ModelSpec {
  const config = configOf(model);
  if (config.is_encoder_decoder === true) {
    throw new KvzUnsupportedError("Cannot use model: it is an encoder-decoder, expected a decoder-only model");
  }
  return parseHfModel({ ...config, _name_or_path: undefined }, modelId);
}

function count(model: ModelLike, field: string): number | undefined {
  const value = configOf(model)[field];
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? value : undefined;
}

/** @throws {KvzMismatchError} A token id is not in the model's vocabulary. */
export function requireVocabulary(ids: ArrayLike<number>, model: ModelLike, task: string): void {
  const size = count(model, "vocab_size");
  if (size === undefined) return;
  for (let t = 0; t < ids.length; t++) {
    if (!(ids[t] >= 0 && ids[t] < size)) {
      throw new KvzMismatchError(
        `Cannot ${task} cache: token ${t} has id ${ids[t]}, the model's vocabulary has ${size} entries; ` +
          "the ids are of another tokenizer",
      );
    }
  }
}

/** @throws {KvzLimitError} The tokens exceed the model's context. */
export function requireContext(tokens: number, model: ModelLike, task: string): void {
  const length = count(model, "max_position_embeddings");
  if (length !== undefined && tokens > length) {
    throw new KvzLimitError(`Cannot ${task} cache: it has ${tokens} tokens, the model's context ${length}`);
  }
}

/** Fingerprint of a tokenizer's vocabulary: SHA-256 over its entries by rising id, 64 hexadecimal digits. */
export async function vocabularyFingerprint(tokenizer: TokenizerLike): Promise<string> {
  const entries = [...tokenizer.get_vocab()].sort(([, a], [, b]) => a - b);
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify(entries)));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
