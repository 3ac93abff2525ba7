/**
 * Caches of Transformers.js: save what a model has read as .kvz, restore it in another process and generate on without
 * prefill. Nothing of Transformers.js is imported; its objects are passed in.
 *
 * @example
 * ```ts ignore
 * import * as transformers from "@huggingface/transformers";
 * import { restoreCache, saveCache } from "@kvz/kvz/transformers";
 *
 * const { sequences, past_key_values } = await model.generate({ ...inputs, return_dict_in_generate: true });
 * const { bytes } = await saveCache(past_key_values, { model, profile, inputIds: sequences.data, ratio: 16 });
 *
 * // later, elsewhere
 * const restored = await restoreCache(bytes, { model, profile, transformers });
 * await model.generate({ ...restored.generateInputs(), max_new_tokens: 40 });
 * ```
 *
 * @module
 */
export { saveCache, type SaveCacheOptions, type SaveReport } from "./src/integrations/transformers_js/save.ts";
export {
  type GenerateInputs,
  restoreCache,
  type RestoreCacheOptions,
  type RestoredCache,
  type RestoreReport,
} from "./src/integrations/transformers_js/restore.ts";
export type { MakeTensor } from "./src/integrations/transformers_js/restored_tensors.ts";
export type { PlaceReport } from "./src/integrations/transformers_js/place.ts";
export type { CodecChoice } from "./src/integrations/transformers_js/codec_choice.ts";
export type { GpuBufferLike, GpuDeviceLike } from "./src/adapters/gpu_buffers.ts";
export type {
  CacheLike,
  ModelLike,
  OrtOwner,
  SessionLike,
  TokenizerLike,
  TransformersLike,
} from "./src/integrations/transformers_js/types.ts";
