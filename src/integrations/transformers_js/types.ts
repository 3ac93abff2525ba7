/**
 * What kvz needs of Transformers.js, structurally: its objects fit as they are, nothing of it is imported.
 *
 * @module
 */
import type { TensorLike } from "../../adapters/transformers_js.ts";
import type { HfConfig } from "../../cache/hf_config.ts";

/** A loaded model (`AutoModelForCausalLM.from_pretrained`). */
export interface ModelLike {
  /** Its configuration: geometry, RoPE, context length and vocabulary are read from it. */
  readonly config: object;
  /** Its onnxruntime sessions; their inputs tell the element type of the cache. */
  readonly sessions?: Readonly<Record<string, SessionLike>>;
}

/** An onnxruntime session. */
export interface SessionLike {
  /** Names and element types of the inputs. */
  readonly inputMetadata?: readonly { readonly name: string; readonly type?: string }[];
}

/** A tokenizer of Transformers.js. */
export interface TokenizerLike {
  /** Token → id. */
  get_vocab(): ReadonlyMap<string, number>;
}

/** A `DynamicCache` as `generate` returns and takes it, or any record `past_key_values.N.key|value` → tensor. */
export type CacheLike = Readonly<Record<string, TensorLike>>;

/** Who has onnxruntime's environment: the namespace of Transformers.js or of onnxruntime-web. */
export interface OrtOwner {
  /** `env` of either: `env.backends.onnx.webgpu.device` or `env.webgpu.device` is the device that sessions compute on. */
  readonly env?: object;
}

/** The two classes that a restored cache is made of; the namespace of the package will do. */
export interface TransformersLike<C> extends OrtOwner {
  /** Class of the cache. */
  readonly DynamicCache: new (entries: never) => C;
  /** Class of its tensors: Transformers.js' own, not onnxruntime's. */
  readonly Tensor: new (...args: never[]) => unknown;
}

/** The configuration as a record. */
export function configOf(model: ModelLike): HfConfig {
  if (typeof model?.config !== "object" || model.config === null) {
    throw new TypeError('Cannot use option "model": it has no config, expected a model of Transformers.js');
  }
  return model.config as HfConfig;
}
