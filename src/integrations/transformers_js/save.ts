/**
 * A cache of Transformers.js → .kvz.
 *
 * @module
 */
import { fromTransformersJs, type TensorLike } from "../../adapters/transformers_js.ts";
import { castCache } from "../../cache/cast.ts";
import type { KvCache } from "../../cache/kv_cache.ts";
import type { DType } from "../../cache/types.ts";
import type { CompressOptions, CompressReport } from "../../codec/options.ts";
import { KvzUnsupportedError } from "../../errors.ts";
import type { Profile } from "../../profile/types.ts";
import { type CodecChoice, useCodec } from "./codec_choice.ts";
import { modelSpec, requireContext, requireVocabulary, vocabularyFingerprint } from "./facts.ts";
import { downloadTensors, type GpuDeviceLike } from "./gpu.ts";
import { addNote } from "./note.ts";
import type { CacheLike, ModelLike, TokenizerLike } from "./types.ts";

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
   * Device of the tensors that are in GPU buffers (`env.backends.onnx.webgpu.device`): they are copied and stay there.
   * Without it they are moved to main memory by `getData(true)`; the model can go on with them all the same.
   */
  readonly device?: GpuDeviceLike;
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
): Promise<{ bytes: Uint8Array; report: CompressReport }> {
  const {
    model,
    modelId,
    inputIds,
    tokenizer,
    firstPosition,
    dtype,
    lossless = false,
    device,
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
  const source = await readCache(cache, device, { model: modelSpec(model, modelId), inputIds, firstPosition });
  requireContext(source.tokens, model, "save");
  if (source.inputIds) requireVocabulary(source.inputIds, model, "save");
  const pendingIds = Array.from(inputIds ?? [], Number).slice(source.tokens);
  requireVocabulary(pendingIds, model, "save");
  const vocabulary = tokenizer && await vocabularyFingerprint(tokenizer);
  const note = {
    pendingIds: options.tokenIds === false ? [] : pendingIds,
    ...(vocabulary === undefined ? {} : { vocabulary }),
  };
  const stored = dtype === undefined ? source : castTo(source, dtype);
  return await useCodec(options, (codec) =>
    codec.compress(stored, {
      ...compressOptions,
      ...(lossless ? losslessOptions(compressOptions, source.tokens, codec.profile) : {}),
      user: addNote(user, note),
    }));
}

/** The cache in main memory. */
async function readCache(
  cache: CacheLike,
  device: GpuDeviceLike | undefined,
  facts: Parameters<typeof fromTransformersJs>[1],
): Promise<KvCache> {
  // Own entries only: a DynamicCache has methods beside them.
  const record: Record<string, TensorLike> = { ...cache };
  for (const [name, { location }] of Object.entries(record)) {
    if (location === "none") {
      throw new KvzUnsupportedError(
        `Cannot save cache: ${name} is disposed; call generate() with return_dict_in_generate or with past_key_values`,
      );
    }
  }
  return await fromTransformersJs(device ? await downloadTensors(record, device) : record, facts);
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
