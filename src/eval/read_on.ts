/**
 * A continuation during which a method goes on acting on the cache.
 *
 * @module
 */
import { KvzMismatchError, KvzUnsupportedError } from "../errors.ts";
import { withQueries } from "./capture.ts";
import type { StepOptions } from "./evaluate.ts";
import type { LanguageModel, LoadedCache, LoadOptions } from "./language_model.ts";
import type { MethodOutcome } from "./method.ts";

/**
 * All logits of tokens after a restored cache, [tokens][vocabulary]. The tokens are read `every` at a time; those just read
 * go to the method with their queries, and what it makes of the cache is what the next ones see. With `every` 1 that is how
 * an engine decodes, but for the newest token, which sees itself as it came; with more, tokens that are read together see
 * each other as they came, and the method acts as many tokens late.
 *
 * @throws {KvzUnsupportedError} The model cannot give the newest tokens.
 * @throws {KvzMismatchError} The method lets go of the newest token.
 */
export async function readOn(
  model: LanguageModel,
  restored: LoadedCache,
  ids: Int32Array,
  { every, cache: running }: NonNullable<MethodOutcome["running"]>,
  { layerSource, onTokens, signal }: StepOptions & Pick<LoadOptions, "layerSource">,
): Promise<Float32Array> {
  if (model.unloadNewest === undefined) {
    throw new KvzUnsupportedError("Cannot read on: the model does not give the keys and values of its newest tokens");
  }
  const all = new Float32Array(ids.length * model.vocabulary);
  let past = restored;
  for (let at = 0; at < ids.length; at += every) {
    signal?.throwIfAborted();
    const step = ids.subarray(at, at + every);
    const { logits, present, queries } = await model.forward(step, { past, queries: running.needsQueries });
    all.set(logits, at * model.vocabulary);
    running.append(withQueries(await model.unloadNewest(present, step.length), queries));
    onTokens?.(step.length);
    // What is held after the last step is of interest for its size alone.
    if (at + every >= ids.length) break;
    past = await model.load(running.cache(), layerSource === undefined ? {} : { layerSource });
    if (past.nextPosition !== present.nextPosition) {
      throw new KvzMismatchError(
        `Cannot read on: the method's cache ends before position ${past.nextPosition}, expected ` +
          `${present.nextPosition}; the newest token must stay`,
      );
    }
  }
  return all;
}
