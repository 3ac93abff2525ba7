/**
 * .kvz → what `generate` of Transformers.js takes.
 *
 * @module
 */
import type { GpuDeviceLike } from "../../adapters/gpu_buffers.ts";
import { resolveModel } from "../../cache/fingerprint.ts";
import type { DType } from "../../cache/types.ts";
import { gpuDeviceOf } from "../../codec/gpu_device.ts";
import { inspect } from "../../codec/inspect.ts";
import type { CallOptions, DecompressReport, KvzInput } from "../../codec/options.ts";
import type { JsonObject } from "../../container/canonical_json.ts";
import { KvzMismatchError, KvzUnsupportedError } from "../../errors.ts";
import { type CodecChoice, useCodec } from "./codec_choice.ts";
import { modelSpec, requireContext, requireVocabulary, vocabularyFingerprint } from "./facts.ts";
import { knownIds, makeInputs } from "./inputs.ts";
import { type Note, takeNote } from "./note.ts";
import { ortDevice, type PlaceReport, placeReport, whyHost } from "./place.ts";
import { type MakeTensor, type RestoredFacts, restoreOnGpu, restoreOnHost } from "./restored_tensors.ts";
import type { ModelLike, TokenizerLike, TransformersLike } from "./types.ts";

/** Options of {@linkcode restoreCache}. */
export interface RestoreCacheOptions<C> extends CallOptions, CodecChoice {
  /** The model that shall go on with the cache. */
  readonly model: ModelLike;
  /** Name of its weights; a file that names others is refused. */
  readonly modelId?: string;
  /** `DynamicCache` and `Tensor` of Transformers.js; the namespace of the package will do. */
  readonly transformers: TransformersLike<C>;
  /** The model's tokenizer: checked against the fingerprint that `saveCache` stored, where it did. */
  readonly tokenizer?: TokenizerLike;
  /**
   * Ids of the whole sequence that the caller wants to run, more than the cache holds: those of the file must be their
   * beginning. Needed where the file has no ids.
   */
  readonly inputIds?: ArrayLike<number | bigint>;
  /** Restore only the first n tokens. */
  readonly tokens?: number;
  /** Element type of the tensors. Default: what the model's session takes, where it says so, else as stored. */
  readonly type?: "float32" | "float16";
  /**
   * Place the tensors in buffers of this device (`env.backends.onnx.webgpu.device`). A codec that computes on it restores
   * them there, and `backend: "webgpu"` opens one. Default: onnxruntime's with a codec that computes on it, else main
   * memory.
   */
  readonly device?: GpuDeviceLike;
  /** Makes the tensors, instead of `transformers.Tensor` and `device`: for other places. */
  readonly makeTensor?: MakeTensor;
  /** Most bytes the restored cache may have, default 4 GiB. */
  readonly maxBytes?: number;
}

/** What `generate` takes. */
export interface GenerateInputs<C> {
  /** Ids of all tokens so far, int64 [1, n]. */
  readonly input_ids: unknown;
  /** Ones, int64 [1, n]. */
  readonly attention_mask: unknown;
  /** The cache of the first tokens of them. */
  readonly past_key_values: C;
}

/** Figures of {@linkcode restoreCache}. */
export interface RestoreReport extends DecompressReport, PlaceReport {}

/** A cache that a model can go on with. */
export interface RestoredCache<C> {
  /** The cache. `generate` changes it in place. */
  readonly pastKeyValues: C;
  /** Tokens in it. */
  readonly tokens: number;
  /** Ids of all tokens so far, at least those of the cache; null where neither file nor caller has them. */
  readonly inputIds: Int32Array | null;
  /** What the caller stored with the cache. */
  readonly user: JsonObject;
  /** Figures of decompressing. */
  readonly report: RestoreReport;
  /**
   * Inputs for the first call of `generate`: all ids so far and `more`.
   *
   * @throws {RangeError} There is no token beyond those of the cache: `generate` needs one to go on.
   * @throws {TypeError} The ids of the cache's tokens are not known.
   * @throws {KvzMismatchError} An id is outside the model's vocabulary.
   */
  generateInputs(more?: ArrayLike<number | bigint>): GenerateInputs<C>;
}

/**
 * Restores a cache for a Transformers.js model: `generate` goes on without computing its tokens again.
 *
 * File and model must agree in geometry, RoPE and (where both say it) name; token ids must be in the vocabulary. The
 * cache is moved to position 0, where `generate` counts from.
 *
 * @example
 * ```ts ignore
 * import * as transformers from "@huggingface/transformers";
 * import { restoreCache } from "@kvz/kvz/transformers";
 *
 * const restored = await restoreCache(bytes, { model, tokenizer, profile, transformers });
 * const question = tokenizer(" And then?", { add_special_tokens: false }).input_ids.data;
 * const { sequences } = await model.generate({
 *   ...restored.generateInputs(question), max_new_tokens: 40, return_dict_in_generate: true,
 * });
 * ```
 *
 * @example On the GPU
 * ```ts ignore
 * // onnxruntime has a device when a session has been made on one
 * const restored = await restoreCache(bytes, { model, profile, transformers, backend: "webgpu" });
 * console.log(restored.report.place, restored.report.placeReason); // "gpu", or "host" and why
 * ```
 *
 * @throws {KvzFormatError} The file is damaged, truncated or of an unknown version.
 * @throws {KvzMismatchError} It is of another model, profile, tokenizer or prompt.
 * @throws {KvzLimitError} The cache exceeds `maxBytes` or the model's context.
 * @throws {KvzUnsupportedError} Its positions have gaps.
 * @throws {KvzBackendError} The GPU cannot take it.
 */
export async function restoreCache<C>(
  input: KvzInput,
  options: RestoreCacheOptions<C>,
): Promise<RestoredCache<C>> {
  const { model, modelId, transformers, tokenizer, inputIds: given, tokens: limit } = options;
  if (!transformers?.DynamicCache || !transformers.Tensor) {
    throw new TypeError('Cannot use option "transformers": expected the classes DynamicCache and Tensor');
  }
  if (options.device && options.makeTensor) {
    throw new TypeError('Cannot use options "device" and "makeTensor" together');
  }
  const { header, tokens: stored } = await inspect(input);
  resolveModel(header.model, modelSpec(model, modelId), { found: "the file", wanted: "the model" });
  const { note, user } = takeNote(header.user);
  await requireTokenizer(note, tokenizer);
  requireContext(Math.min(stored, limit ?? stored), model, "restore");

  const type = options.type ?? cacheType(model);
  const { onProgress, signal, maxBytes } = options;
  const settings = {
    firstPosition: 0,
    ...(limit === undefined ? {} : { tokens: limit }),
    ...(type === undefined ? {} : { dtype: DTYPES[type] }),
    ...(onProgress ? { onProgress } : {}),
    ...(signal ? { signal } : {}),
    ...(maxBytes === undefined ? {} : { maxBytes }),
  };
  /** Ids of all tokens so far, where the restored tokens are what `generate` can go on with. */
  const idsAfter = ({ positions, inputIds: own }: RestoredFacts): Int32Array | null => {
    const tokens = positions.length;
    requireContiguous(positions);
    if (own) requireVocabulary(own, model, "restore");
    // What was pending after the last token does not follow an earlier one.
    const ids = knownIds({ inputIds: own, tokens }, tokens === stored ? note.pendingIds : [], given);
    if (ids) requireVocabulary(ids, model, "restore");
    return ids;
  };
  const device = options.device ?? await deviceOf(options);
  return await useCodec(options, device, async (codec) => {
    const facts = { recipe: header.recipe.name, model: header.model, dtype: type ? DTYPES[type] : header.dtype };
    // A codec on WebGPU is for tensors there, unless the caller makes them.
    const wanted = device !== undefined || codec.info.backend === "webgpu" && options.makeTensor === undefined;
    const why = wanted ? whyHost(codec, device, facts) : null;
    const onGpu = device !== undefined && why === null;
    const request = { codec, input, settings, transformers, idsAfter };
    const { record, positions, inputIds, report } = onGpu
      ? await restoreOnGpu(request, device)
      : await restoreOnHost(request, device, options.makeTensor);
    const pastKeyValues = new transformers.DynamicCache(record as never);
    return {
      pastKeyValues,
      tokens: positions.length,
      inputIds,
      user,
      report: { ...report, ...placeReport(onGpu, why) },
      generateInputs(more = []) {
        const inputs = makeInputs(transformers.Tensor, positions.length, inputIds, more, model);
        return { ...inputs, past_key_values: pastKeyValues };
      },
    };
  });
}

/** onnxruntime's own device, where the codec computes or shall compute on it and the tensors may go there. */
async function deviceOf<C>(
  { codec, backend, makeTensor, transformers }: RestoreCacheOptions<C>,
): Promise<GpuDeviceLike | undefined> {
  if (makeTensor !== undefined || (codec?.info.backend ?? backend) !== "webgpu") return undefined;
  const device = await ortDevice(transformers);
  return codec === undefined || gpuDeviceOf(codec) === device ? device : undefined;
}

const DTYPES: Readonly<Record<"float32" | "float16", DType>> = { float32: "f32", float16: "f16" };

/** Element type that the model's session takes for its cache. */
function cacheType(model: ModelLike): "float32" | "float16" | undefined {
  for (const { inputMetadata } of Object.values(model.sessions ?? {})) {
    const type = inputMetadata?.find(({ name }) => name === "past_key_values.0.key")?.type;
    if (type === "float32" || type === "float16") return type;
    if (type !== undefined) {
      throw new KvzUnsupportedError(`Cannot restore cache: the model takes it as ${type}, expected float32 or float16`);
    }
  }
  return undefined;
}

async function requireTokenizer({ vocabulary }: Note, tokenizer: TokenizerLike | undefined): Promise<void> {
  if (vocabulary === undefined || tokenizer === undefined) return;
  const own = await vocabularyFingerprint(tokenizer);
  if (own !== vocabulary) {
    throw new KvzMismatchError(
      `Cannot restore cache: its token ids are of a tokenizer with vocabulary ${vocabulary.slice(0, 12)}, ` +
        `the one given has ${own.slice(0, 12)}`,
    );
  }
}

/** `generate` numbers the next token by the count of those before it. */
function requireContiguous(positions: Int32Array): void {
  const tokens = positions.length;
  const last = tokens === 0 ? -1 : positions[tokens - 1];
  if (last !== tokens - 1) {
    throw new KvzUnsupportedError(
      `Cannot restore cache: its ${tokens} tokens span ${last + 1} positions, generate() takes no gaps; ` +
        "use Codec.decompress and toTransformersJs, and pass position_ids",
    );
  }
}
