/**
 * Evaluation: what a model says after its cache was compressed and restored. `kvz eval` is this as a command.
 *
 * @example Perplexity and KL of KVTC on your own model and text, with Transformers.js
 * ```ts ignore
 * import * as transformers from "@huggingface/transformers";
 * import { loadProfile, openCodec } from "@kvz/kvz";
 * import { CONTROLS, evaluateText, openTransformersModel, recipeMethod } from "@kvz/kvz/eval";
 *
 * const model = await openTransformersModel(transformers, "HuggingFaceTB/SmolLM2-135M-Instruct");
 * const codec = await openCodec(await loadProfile(profileBytes));
 * await evaluateText(model, "my text", model.tokenize(text), {
 *   context: 1024,
 *   continuation: 512,
 *   dtype: "f16",
 *   methods: [...CONTROLS, recipeMethod(codec, "kvtc", { ratio: 16 })],
 *   onPoint: ({ method, setting, agreement }) => console.log(method, setting, agreement.kl),
 * });
 * ```
 *
 * @module
 */
export type * from "./src/eval/language_model.ts";
export type * from "./src/eval/point.ts";
export {
  type MakeTensor,
  OnnxModel,
  type OnnxModelParts,
  type OnnxSession,
  type OnnxTensor,
  openOnnxModel,
  type Tokenizer,
} from "./src/adapters/onnx_model.ts";
export {
  openTransformersModel,
  type TransformersDecoder,
  type TransformersLibrary,
  type TransformersModelOptions,
  type TransformersTokenizer,
} from "./src/adapters/transformers_model.ts";
export { AgreementMeter } from "./src/eval/agreement.ts";
export { captureCache, type PrefillOptions } from "./src/eval/capture.ts";
export { type ComponentErrors, ComponentMeter } from "./src/eval/component_meter.ts";
export type { RegionCounts } from "./src/eval/error_meter.ts";
export { type EvaluateOptions, evaluateText, prefill, type StepOptions } from "./src/eval/evaluate.ts";
export {
  measureSensitivity,
  type PartMeasurement,
  type PartOptions,
  type SensitivityOptions,
  type SensitivityPart,
  sensitivityParts,
} from "./src/eval/forward_sensitivity.ts";
export { forwardBlocks } from "./src/eval/forward_weights.ts";
export type { SensitivityBlocks } from "./src/profile/kvz/sensitivity.ts";
export {
  curveOf,
  type CurveOptions,
  curveSteps,
  type CurveText,
  curveTokens,
  measureSteps,
  type StepMeasurement,
} from "./src/eval/kl_curve.ts";
export { modelCaches, type ModelCachesOptions } from "./src/eval/model_caches.ts";
export { CONTROLS, type Method, type MethodOutcome, parseMethodSpec, recipeMethod } from "./src/eval/method.ts";
export { readOn } from "./src/eval/read_on.ts";
export type { RunningCache } from "./src/recipes/running.ts";
export {
  mapOption,
  readSharingMap,
  type SharingMap,
  sharingMap,
  type SharingSettings,
  writeSharingMap,
} from "./src/eval/sharing_map.ts";
export {
  type LayerDistances,
  type LayerPair,
  measureLayers,
  searchSharing,
  type SharingOrder,
  type SharingSearch,
  type SharingSearchOptions,
  type TriedPair,
} from "./src/eval/sharing_search.ts";
export {
  type DiffKvThresholds,
  searchThresholds,
  THRESHOLD_GRID,
  type ThresholdMeans,
  type ThresholdMeasurement,
  type ThresholdOptions,
  thresholdPairs,
  type ThresholdSearch,
} from "./src/eval/diffkv_thresholds.ts";
export type { PrecisionName } from "./src/stages/diffkv/presets.ts";
export type { LayerMap } from "./src/stages/sharing/layer_map.ts";
export { summarize } from "./src/eval/summary.ts";
export {
  buildKeyValue,
  buildNeedle,
  buildRetrieval,
  RETRIEVAL_CONTEXTS,
  type RetrievalAnswer,
  type RetrievalOptions,
  type RetrievalPrompt,
  type RetrievalQuestion,
  scoreRetrieval,
} from "./src/eval/retrieval.ts";
export { RETRIEVAL_TASKS, type RetrievalTask } from "./src/eval/retrieval_facts.ts";
export {
  evaluateRetrievalPrompt,
  type RetrievalOutcome,
  type RetrievalRunOptions,
  summarizeRetrieval,
} from "./src/eval/retrieval_run.ts";
