/**
 * What the main and the edge entry have in common; re-exports only.
 *
 * @module
 */
export * from "./errors.ts";
export type * from "./cache/types.ts";
export { BYTES_PER_ELEMENT } from "./cache/types.ts";
export { KvCache } from "./cache/kv_cache.ts";
export type { CacheFacts, DenseCache, HeadBytes, LayerBytes, RaggedCache } from "./cache/kv_cache.ts";
export { type CacheShape, KvCacheBuilder } from "./cache/builder.ts";
export { castCache } from "./cache/cast.ts";
export { type Densified, densify } from "./cache/densify.ts";
export { modelFingerprint } from "./cache/fingerprint.ts";
export { type HfConfig, parseHfModel, parseHfRope } from "./cache/hf_config.ts";
export {
  blobSource,
  type ByteSink,
  type ByteSource,
  MemorySink,
  memorySource,
  type RandomSink,
} from "./container/bytes.ts";
export type { JsonObject, JsonValue } from "./container/canonical_json.ts";
export type { KvzHeader } from "./container/header.ts";
export { Codec } from "./codec/codec.ts";
export type { RestoredShape } from "./codec/restore.ts";
export type * from "./codec/options.ts";
export { type WorkerHandle, wrapWebWorker } from "./platform/worker.ts";
export { inspect, type Inspection } from "./codec/inspect.ts";
export type { CacheBlock } from "./codec/decode.ts";
export type { LayerBlock } from "./codec/layers.ts";
export type { AppendResult } from "./codec/append.ts";
export { listRecipes } from "./recipes/registry.ts";
export type { OptionSpec, RecipeInfo } from "./recipes/recipe.ts";
export { loadProfile } from "./profile/load.ts";
export type { Autoencoder, KvcarKind, KvcarProfile } from "./profile/kvcar/types.ts";
export type { KvquantProfile } from "./profile/kvquant/types.ts";
export type { LatentGroup, LatentMap, LowRankFit, LowRankMethod, LowRankProfile } from "./profile/lowrank/types.ts";
export type { CurvePoint, KvzProfile, Sensitivity } from "./profile/kvz/types.ts";
export type { RansBits, RansTables } from "./stages/entropy/rans_tables.ts";
export type { StepSet } from "./stages/quantize/trellis/model.ts";
export { serializeProfile, trimProfile } from "./profile/profile.ts";
export type {
  CalibrationFacts,
  ErrorTable,
  KindProfile,
  KvtcCalibrationFacts,
  KvtcProfile,
  Profile,
  ProfileBase,
  TrainingFacts,
} from "./profile/types.ts";
export { openSafetensors, readSafetensors, SafetensorsCache, type SafetensorsOptions } from "./adapters/safetensors.ts";
export { SafetensorsSink, type SafetensorsWriteOptions, writeSafetensors } from "./adapters/safetensors_sink.ts";
export {
  fromTransformersJs,
  type FromTransformersJsOptions,
  type TensorLike,
  toTransformersJs,
  type ToTransformersJsOptions,
} from "./adapters/transformers_js.ts";
