/**
 * What evaluation asks of a language model: token ids in, logits and cache out. {@linkcode openOnnxModel} in
 * `src/adapters/onnx_model.ts` makes one of an onnxruntime session.
 *
 * @module
 */
import type { KvCache } from "../cache/kv_cache.ts";
import type { ModelSpec, QueryTensors } from "../cache/types.ts";

/** A cache in the form in which a model takes it: loaded once, read by any number of forward passes. */
export interface LoadedCache {
  /** Tokens that a forward pass attends to. */
  readonly tokens: number;
  /** Position that the next token will have. */
  readonly nextPosition: number;
}

/** Options of {@linkcode LanguageModel.forward}. */
export interface ForwardOptions {
  /** What came before; default: nothing. It stays as it is. */
  readonly past?: LoadedCache;
  /** Which rows of logits are wanted. Default "all". */
  readonly logits?: "all" | "last";
  /** Whether the queries of the call's tokens are wanted. Default false. Needs a model that gives them. */
  readonly queries?: boolean;
  /** Whether the final hidden states are wanted. Default false. Needs a model that gives them. */
  readonly hidden?: boolean;
  /** As in {@linkcode LoadOptions}, where nothing came before; a past has the sources that it was made with. */
  readonly layerSource?: ArrayLike<number>;
}

/** Options of {@linkcode LanguageModel.load}. */
export interface LoadOptions {
  /**
   * Layer whose keys and values each layer attends to, its own or an earlier one, for the past and for the tokens that
   * follow (shared layers). Default: its own. Needs a model that takes it.
   */
  readonly layerSource?: ArrayLike<number>;
}

/** Result of {@linkcode LanguageModel.forward}. */
export interface ForwardResult {
  /** Logits, [rows][vocabulary]: a row for every token of the call, or one for its last token. */
  readonly logits: Float32Array;
  /** The past and the tokens of this call. */
  readonly present: LoadedCache;
  /** Queries of the call's tokens after RoPE, f32, where they were wanted. */
  readonly queries?: QueryTensors;
  /** What the output embedding gets, [rows][hidden] of the rows of logits, where it was wanted. */
  readonly hidden?: Float32Array;
}

/** A causal language model over one sequence. */
export interface LanguageModel extends AsyncDisposable {
  /** Geometry and RoPE; its pairing is half-split. */
  readonly spec: ModelSpec;
  /** Number of token ids. */
  readonly vocabulary: number;
  /** Most positions the model was made for. */
  readonly maxPositions: number;
  /** Token ids of a text, no special tokens added. */
  tokenize(text: string): Int32Array;
  /** The text of token ids. */
  detokenize(ids: ArrayLike<number>): string;
  /**
   * Runs tokens after a past.
   *
   * @throws {RangeError} More tokens than the model has positions, no token, or a token id out of range.
   * @throws {KvzUnsupportedError} Queries are wanted, and this model gives none.
   */
  forward(ids: Int32Array, options?: ForwardOptions): Promise<ForwardResult>;
  /**
   * Makes a past of a cache. A ragged cache (evicted tokens) needs a model that takes an attention bias.
   *
   * @throws {KvzMismatchError} The cache is of another model.
   * @throws {KvzUnsupportedError} The cache is ragged and this model takes no bias, or layers are shared and it cannot.
   * @throws {RangeError} A layer would attend to a later one.
   */
  load(cache: KvCache, options?: LoadOptions): Promise<LoadedCache>;
  /** Copies a past that a forward pass made; f32 as the model computed it. `ids` are its token ids, if known. */
  unload(loaded: LoadedCache, ids?: Int32Array): Promise<KvCache>;
  /**
   * Copies the newest tokens of a past that a forward pass made, whatever is missing before them; f32. Absent where a model
   * cannot: methods that act while it reads on need it.
   *
   * @throws {RangeError} There are fewer tokens, or their positions have gaps.
   */
  unloadNewest?(loaded: LoadedCache, tokens: number): Promise<KvCache>;
}
