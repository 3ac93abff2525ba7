/**
 * Decoders loaded by Transformers.js as language models for evaluation. The library is passed in, not imported: it is
 * the user's, in Deno, Node or a browser.
 *
 * @module
 */
import { type HfConfig, parseHfModel } from "../cache/hf_config.ts";
import { KvzFormatError, KvzUnsupportedError } from "../errors.ts";
import { type OnnxModel, type OnnxModelParts, type OnnxSession, openOnnxModel } from "./onnx_model.ts";

/** The part of Transformers.js (4.x) in use. */
export interface TransformersLibrary {
  /** Where models are looked for. */
  readonly env: { localModelPath: string; allowRemoteModels: boolean; allowLocalModels: boolean };
  /** Loads tokenizers. */
  readonly AutoTokenizer: {
    /** By folder below `env.localModelPath` or by name on the hub. */
    from_pretrained(name: string): Promise<TransformersTokenizer>;
  };
  /** Loads models. */
  readonly AutoModelForCausalLM: {
    /** By folder below `env.localModelPath` or by name on the hub. */
    from_pretrained(name: string, options: Record<string, unknown>): Promise<TransformersDecoder>;
  };
  /** Its tensors, which wrap those of onnxruntime. */
  readonly Tensor: new (type: string, data: ArrayBufferView, dims: readonly number[]) => {
    readonly ort_tensor: ReturnType<OnnxModelParts["makeTensor"]>;
  };
}

/** A tokenizer of Transformers.js. */
export interface TransformersTokenizer {
  /** Token ids of a text. */
  encode(text: string, options: { add_special_tokens: boolean }): number[];
  /** The text of token ids. */
  decode(ids: readonly number[], options: { skip_special_tokens: boolean }): string;
}

/** A decoder of Transformers.js. */
export interface TransformersDecoder {
  /** Its config.json. */
  readonly config: HfConfig;
  /** Its graphs. */
  readonly sessions: Readonly<Record<string, OnnxSession>>;
  /** Releases it. */
  dispose(): Promise<unknown>;
}

/** How a model is loaded. */
export interface TransformersModelOptions {
  /** Graph within `onnx/` without its suffix: "model", or "capture" for ragged caches. Default "model". */
  readonly graph?: string;
  /** Element type as Transformers.js names it ("fp32", "fp16", "q4", …). Default "fp32". */
  readonly dtype?: string;
  /** Device as Transformers.js names it ("cpu", "wasm", "webgpu"). Default: its own choice. */
  readonly device?: string;
  /** Options of the onnxruntime session, for instance `intraOpNumThreads`. */
  readonly sessionOptions?: Readonly<Record<string, unknown>>;
  /** Name of the weights; default: what config.json says. */
  readonly id?: string;
}

/**
 * Loads a decoder with past.
 *
 * @param name as Transformers.js takes it
 * @throws {KvzFormatError} Transformers.js cannot load it, or its configuration lacks a field.
 * @throws {KvzUnsupportedError} The model is of a kind whose caches kvz does not take.
 */
export async function openTransformersModel(
  transformers: TransformersLibrary,
  name: string,
  options: TransformersModelOptions = {},
): Promise<OnnxModel> {
  const { graph = "model", dtype = "fp32", device, sessionOptions = {}, id } = options;
  const [model, tokenizer] = await asFormatError(name, () =>
    Promise.all([
      transformers.AutoModelForCausalLM.from_pretrained(name, {
        dtype,
        ...(device === undefined ? {} : { device }),
        model_file_name: graph,
        session_options: sessionOptions,
      }),
      transformers.AutoTokenizer.from_pretrained(name),
    ]));
  const session = model.sessions.model ?? model.sessions.decoder_model_merged;
  if (session === undefined) {
    throw new KvzUnsupportedError(`Cannot use model ${name}: it is not a decoder-only model with one graph`);
  }
  const { vocab_size: vocabulary, max_position_embeddings: maxPositions } = model.config;
  if (typeof vocabulary !== "number" || typeof maxPositions !== "number") {
    throw new KvzFormatError(`Cannot use model ${name}: config.json lacks vocab_size or max_position_embeddings`);
  }
  return openOnnxModel({
    session,
    makeTensor: (type, data, dims) => new transformers.Tensor(type, data, dims).ort_tensor,
    tokenizer: {
      encode: (text) => tokenizer.encode(text, { add_special_tokens: false }),
      decode: (ids) => tokenizer.decode(ids, { skip_special_tokens: false }),
    },
    spec: parseHfModel(model.config, id),
    vocabulary,
    maxPositions,
    close: async () => void await model.dispose(),
  });
}

async function asFormatError<T>(name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new KvzFormatError(`Cannot load model ${name}: ${message.split("\n")[0]}`, { cause });
  }
}
