/**
 * kvz: a codec for the KV caches of language models. `cache → .kvz → cache`, 8 to 60 times smaller than fp16.
 *
 * @example Compress and restore the sample of the repository
 * ```ts
 * import { compress, decompress, loadProfile, readSafetensors } from "@kvz/kvz";
 *
 * const profile = await loadProfile(await Deno.readFile("samples/smollm2-demo.kvzp"));
 * const cache = await readSafetensors(await Deno.readFile("samples/smollm2-256.safetensors"));
 * const { bytes, report } = await compress(cache, { profile, ratio: 32, window: 32 });
 * console.log(`${report.bytesIn} bytes became ${report.bytesOut}`);
 * const { cache: restored } = await decompress(bytes, { profile });
 * console.log(`${restored.tokens} tokens are back`);
 * ```
 *
 * @module
 */
export * from "./src/api.ts";
export { openCodec } from "./src/codec/open.ts";
export type { LaneOptions } from "./src/codec/lanes.ts";
export { type CodecOptions, compress, decompress } from "./src/codec/free.ts";
export {
  type BackendName,
  type BackendOptions,
  type BackendStatus,
  listBackends,
  type WasmBuild,
  type WebGpuDeviceLike,
} from "./src/backend/select.ts";
export {
  calibrate,
  type CalibrateOptions,
  calibratePartial,
  type CalibrationInput,
  type CalibrationInputs,
  type CalibrationProgress,
  type FitProfileOptions,
  type LayerMapOption,
  mergeCalibration,
  type MergeOptions,
  type NamedCache,
  type PartialOptions,
} from "./src/profile/calibrate.ts";
export { importProfile } from "./src/profile/import.ts";
export { trimKvzProfile } from "./src/profile/kvz/trim.ts";
export { calibrateKvquant, type CalibrateKvquantOptions } from "./src/profile/kvquant/calibrate.ts";
export { calibrateKvz, type CalibrateKvzOptions } from "./src/profile/kvz/calibrate.ts";
export type { KindStatistics } from "./src/profile/kind_fitter.ts";
export type { Moments } from "./src/profile/gram.ts";
export type { Statistics, StatisticsHead } from "./src/profile/statistics.ts";
export { readPartial, writePartial } from "./src/profile/partial.ts";
export { shingleHashes } from "./src/profile/shingles.ts";
export {
  checkLlamaState,
  type GgmlType,
  isLlamaState,
  type LlamaContextFacts,
  type LlamaState,
  type LlamaStateLayout,
  type LlamaStateOptions,
  parseLlamaStateLayout,
  readLlamaState,
  writeLlamaState,
} from "./src/adapters/llama_state.ts";
export { type GgufModel, type GgufOptions, isGguf, readGgufModel } from "./src/adapters/gguf.ts";
export {
  isMlxPromptCache,
  type MlxPromptCacheLayout,
  type MlxPromptCacheWriteOptions,
  openMlxPromptCache,
  writeMlxPromptCache,
} from "./src/adapters/mlx_prompt_cache.ts";
