/**
 * Caches of token sequences, made by a model as they are asked for: what calibration reads without files.
 *
 * @module
 */
import { castCache } from "../cache/cast.ts";
import type { DType } from "../cache/types.ts";
import type { NamedCache } from "../profile/gatherer.ts";
import { prefill, type StepOptions } from "./evaluate.ts";
import type { CurveText } from "./kl_curve.ts";
import type { LanguageModel } from "./language_model.ts";

/** Options of {@linkcode modelCaches}. */
export interface ModelCachesOptions extends StepOptions {
  /** Element type that caches are rounded to, that in which they will be compressed. Default "f16". */
  readonly dtype?: DType;
}

/**
 * Prefills one sequence after another; one cache is held at a time.
 *
 * @throws {RangeError} a sequence is empty or longer than the model has positions
 */
export async function* modelCaches(
  model: LanguageModel,
  sequences: Iterable<CurveText>,
  { dtype = "f16", ...steps }: ModelCachesOptions = {},
): AsyncGenerator<NamedCache> {
  for (const { name, ids } of sequences) {
    const past = await prefill(model, ids, steps);
    yield { name, cache: castCache(await model.unload(past, ids), dtype) };
  }
}
