/**
 * A cache of Transformers.js → .kvz.
 *
 * @module
 */
import type { GpuDeviceLike } from "../../adapters/gpu_buffers.ts";
import { fromTransformersJs, type TensorLike } from "../../adapters/transformers_js.ts";
import { castCache } from "../../cache/cast.ts";
import type { Codec } from "../../codec/codec.ts";
import { defaultRecipe } from "../../codec/encode.ts";
import { fromGpuTensors } from "../../adapters/gpu_tensors.ts";
import type { KvCache } from "../../cache/kv_cache.ts";
import type { CacheSource, DType, ModelSpec } from "../../cache/types.ts";
import type { CompressOptions, CompressReport } from "../../codec/options.ts";
import { KvzUnsupportedError } from "../../errors.ts";
import type { Profile } from "../../profile/types.ts";
import { type CodecChoice, useCodec } from "./codec_choice.ts";
import { modelSpec, requireContext, requireVocabulary, vocabularyFingerprint } from "./facts.ts";
import { downloadTensors } from "./gpu.ts";
import { addNote } from "./note.ts";
import { anyOnGpu, ortDevice, type PlaceReport, placeReport, whyHost } from "./place.ts";
import type { CacheLike, ModelLike, OrtOwner, TokenizerLike } from "./types.ts";

/** Figures of {@linkcode saveCache}. */
export interface SaveReport extends CompressReport, PlaceReport {}

/** Options of {@linkcode saveCache}; those of {@linkcode Codec.compress} (`ratio`, `window`, `user`, …) stand beside. */
export interface SaveCacheOptions extends CompressOptions, CodecChoice {
  /** The model that made the cache. */
  readonly model: ModelLike;
  /** Name of its weights. Default: what the profile says. Give it, and caches of other weights are refused by name. */
  readonly modelId?: string;
  /**
   * Ids of the sequence, [tokens] or [tokens + 1]: `sequences` of `generate`, whose last token has not been fed back and
   * is kept as pending. A tensor's `data` will do.
   */
  readonly inputIds?: ArrayLike<number | bigint>;
  /** Tokenizer of the ids: its vocabulary's fingerprint is stored, and checked when the cache is restored. */
  readonly tokenizer?: TokenizerLike;
  /** Absolute position of the first token, default 0, which is what `generate` counts from. */
  readonly firstPosition?: number;
  /** Element type to store. Default: the cache's own; "f16" halves the raw window of a float32 model. */
  readonly dtype?: "f32" | "f16";
  /**
   * Keep every token bit-exact: the window covers the whole cache, only DEFLATE is applied. Without `ratio` the plan
   * stored for tokens appended later has the profile's lowest ratio, or 16.
   */
  readonly lossless?: boolean;
  /**
   * Device of the tensors that are in GPU buffers (`env.backends.onnx.webgpu.device`). A codec that computes on it
   * compresses them there, and `backend: "webgpu"` opens one; for others they are copied. They stay where they are. Without
   * a device they are moved to main memory by `getData(true)`; the model can go on with them all the same.
   */
  readonly device?: GpuDeviceLike;
  /** The namespace of Transformers.js (or onnxruntime-web): its device is taken where `device` is not given. */
  readonly transformers?: OrtOwner;
}

/**
 * Compresses the cache of a Transformers.js model into a .kvz file in memory. The cache can be used on afterwards.
 *
 * @example
 * ```ts ignore
 * import * as transformers from "@huggingface/transformers";
 * import { loadProfile } from "@kvz/kvz";
 * import { saveCache } from "@kvz/kvz/transformers";
 *
 * const model = await transformers.AutoModelForCausalLM.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct");
 * const tokenizer = await transformers.AutoTokenizer.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct");
 * const profile = await loadProfile(await Deno.readFile("smollm2.kvzp"));
 *
 * const inputs = tokenizer(longPrompt);
 * const { sequences, past_key_values } = await model.generate({ ...inputs, return_dict_in_generate: true });
 * const { bytes, report } = await saveCache(past_key_values, {
 *   model, tokenizer, profile, inputIds: sequences.data, ratio: 16,
 * });
 * console.log(`${report.bytesIn} bytes became ${report.bytesOut}`);
 * ```
 *
 * @example On the GPU: the tensors are compressed where they are
 * ```ts ignore
 * const { bytes, report } = await saveCache(past_key_values, { model, profile, transformers, backend: "webgpu" });
 * console.log(report.place, report.placeReason); // "gpu", or "host" and why
 * ```
 *
 * @throws {KvzUnsupportedError} More than one sequence, disposed tensors, tensors other than the float32 or float16 keys
 * and values of self-attention, or a model whose attention kvz does not know.
 * @throws {KvzMismatchError} Cache, model, profile and token ids do not belong together.
 * @throws {KvzLimitError} The cache is longer than the model's context.
 * @throws {KvzBackendError} Tensors on the GPU cannot be read.
 * @throws {TypeError} Options contradict each other.
 */
export async function saveCache(
  cache: CacheLike,
  options: SaveCacheOptions,
): Promise<{ bytes: Uint8Array; report: SaveReport }> {
  const {
    model,
    modelId,
    inputIds,
    tokenizer,
    firstPosition,
    dtype,
    lossless = false,
    device: given,
    transformers,
    codec: _codec,
    profile: _profile,
    backend: _backend,
    build: _build,
    module: _module,
    threads: _threads,
    createWorker: _createWorker,
    user,
    ...compressOptions
  } = options;
  // Own entries only: a DynamicCache has methods beside them.
  const record: Record<string, TensorLike> = { ...cache };
  requireAlive(record);
  const facts = { model: modelSpec(model, modelId), inputIds, firstPosition };
  const device = given ?? (transformers && await ortDevice(transformers));
  return await useCodec(options, device, async (codec) => {
    const why = anyOnGpu(record) ? whyThrough(record, codec, device, facts.model, options) : null;
    const onGpu = anyOnGpu(record) && why === null;
    const source = onGpu ? fromGpuTensors(record, facts) : await readCache(record, device, facts, dtype);
    requireContext(source.tokens, model, "save");
    if (source.inputIds) requireVocabulary(source.inputIds, model, "save");
    const pendingIds = Array.from(inputIds ?? [], Number).slice(source.tokens);
    requireVocabulary(pendingIds, model, "save");
    const vocabulary = tokenizer && await vocabularyFingerprint(tokenizer);
    const note = {
      pendingIds: options.tokenIds === false ? [] : pendingIds,
      ...(vocabulary === undefined ? {} : { vocabulary }),
    };
    const { bytes, report } = await codec.compress(source, {
      ...compressOptions,
      ...(lossless ? losslessOptions(compressOptions, source.tokens, codec.profile) : {}),
      user: addNote(user, note),
    });
    return { bytes, report: { ...report, ...placeReport(onGpu, why) } };
  });
}

function requireAlive(record: Readonly<Record<string, TensorLike>>): void {
  for (const [name, { location }] of Object.entries(record)) {
    if (location === "none") {
      throw new KvzUnsupportedError(
        `Cannot save cache: ${name} is disposed; call generate() with return_dict_in_generate or with past_key_values`,
      );
    }
  }
}

/** Why tensors on a GPU go through main memory; null where they do not. */
function whyThrough(
  record: Readonly<Record<string, TensorLike>>,
  codec: Codec,
  device: GpuDeviceLike | undefined,
  model: ModelSpec,
  { recipe = defaultRecipe(codec.profile), dtype, lossless }: SaveCacheOptions,
): string | null {
  const elsewhere = Object.entries(record).find(([, { location }]) => location !== "gpu-buffer");
  if (elsewhere !== undefined) return `${elsewhere[0]} is not in a GPU buffer`;
  const stored = Object.values(record)[0].type === "float16" ? "f16" : "f32";
  const why = whyHost(codec, device, { recipe, model, dtype: stored });
  if (why !== null) return why;
  if (lossless) return 'option "lossless" keeps every element';
  return dtype === undefined || dtype === stored ? null : `option "dtype" converts them to ${dtype}`;
}

/** The cache in main memory. */
async function readCache(
  record: Readonly<Record<string, TensorLike>>,
  device: GpuDeviceLike | undefined,
  facts: Parameters<typeof fromTransformersJs>[1],
  dtype: DType | undefined,
): Promise<CacheSource> {
  const cache = await fromTransformersJs(device ? await downloadTensors(record, device) : record, facts);
  return dtype === undefined ? cache : castTo(cache, dtype);
}

function castTo(cache: KvCache, dtype: DType): KvCache {
  if (dtype !== "f32" && dtype !== "f16") {
    throw new TypeError(`Cannot use option "dtype": it is ${dtype}, expected f32 or f16`);
  }
  return castCache(cache, dtype);
}

function losslessOptions(options: CompressOptions, tokens: number, profile: Profile | null): CompressOptions {
  for (const other of ["window", "fileRatio"] as const) {
    if (options[other] !== undefined) throw new TypeError(`Cannot use options "lossless" and "${other}" together`);
  }
  return {
    ratio: options.ratio ?? (profile?.method === "kvtc" ? profile.calibration.ratios[0] : undefined) ?? 16,
    window: tokens,
  };
}
