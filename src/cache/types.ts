/**
 * What a KV cache is, in types: the facts about the model it belongs to, the two tensor kinds, and the interfaces
 * through which the pipeline reads and writes caches without holding them.
 *
 * @module
 */

/** Element types of a cache. `f16` is IEEE binary16, `bf16` the upper half of binary32. */
export type DType = "f32" | "f16" | "bf16";

/** The two tensors of a layer. */
export type Kind = "key" | "value";

/** Both kinds, keys first: the order of files and reports. */
export const KINDS: readonly Kind[] = ["key", "value"];

/** Bytes of one element. */
export const BYTES_PER_ELEMENT: Readonly<Record<DType, number>> = { f32: 4, f16: 2, bf16: 2 };

/** How the rotation's coordinate pairs lie in a head: (i, i + dim/2) or (2i, 2i + 1). */
export type RopePairing = "half-split" | "adjacent";

/** Position scaling of RoPE, with the field names of the Hugging Face configurations in camel case. */
export type RopeScaling =
  | { readonly type: "linear"; readonly factor: number }
  | {
    readonly type: "llama3";
    readonly factor: number;
    readonly lowFreqFactor: number;
    readonly highFreqFactor: number;
    readonly originalMaxPosition: number;
  }
  | {
    readonly type: "yarn";
    readonly factor: number;
    readonly originalMaxPosition: number;
    readonly betaFast: number;
    readonly betaSlow: number;
    /** Multiplies cos and sin; 0.1·ln(factor) + 1 unless the model says otherwise. */
    readonly attentionFactor: number;
    /** Whether the correction range is rounded to whole dimensions (Hugging Face `truncate`, default true). */
    readonly truncate: boolean;
  };

/** Rotary position embedding of a model's keys. */
export interface RopeSpec {
  /** Base of the frequencies, for instance 10000. */
  readonly theta: number;
  /** Leading dimensions of each head that are rotated (even, ≤ key dimension); the rest passes through. */
  readonly dim: number;
  /** Pairing of the *source*. Inside a {@linkcode CacheSource} keys are always half-split; adapters convert. */
  readonly pairing: RopePairing;
  /** Absent: none. */
  readonly scaling?: RopeScaling;
}

/** Facts about the model a cache belongs to. `undefined` means that the source does not say. */
export interface ModelSpec {
  /** Architecture family as in GGUF or Hugging Face `model_type`, for instance "llama". */
  readonly architecture?: string;
  /** Name of the weights, for instance "SmolLM2-135M-Instruct". */
  readonly id?: string;
  /** Layers that have a KV cache. */
  readonly layers: number;
  /** KV heads of each layer (fewer than query heads with GQA). */
  readonly kvHeads: number;
  /** Elements of a key of one head. */
  readonly keyDim: number;
  /** Elements of a value of one head. */
  readonly valueDim: number;
  /** `null`: the model's keys are not rotated. */
  readonly rope: RopeSpec | null;
}

/** Queries of the last tokens of a prompt, after RoPE in half-split pairing, for methods that weigh by attention. */
export interface QueryTensors {
  /** Element type of the queries. */
  readonly dtype: DType;
  /** Query heads, a multiple of the model's KV heads. */
  readonly heads: number;
  /** Tokens w that have queries: the last w of the cache. */
  readonly tokens: number;
  /** One entry a layer: little-endian [heads][tokens][keyDim]. */
  readonly layers: readonly Uint8Array[];
}

/**
 * A cache that can be read by token ranges: in memory ({@linkcode KvCache}) or in a file. One sequence.
 */
export interface CacheSource {
  /** Facts about the model. */
  readonly model: ModelSpec;
  /** Element type of keys and values. */
  readonly dtype: DType;
  /** Tokens held by every head of every layer (dense), or the number of distinct tokens of a ragged cache. */
  readonly tokens: number;
  /** Absolute position of each token, strictly increasing, `tokens` long. */
  readonly positions: Int32Array;
  /** Token ids, `tokens` long, where the source has them. */
  readonly inputIds?: Int32Array;
  /** True when heads hold different tokens (evicting methods); dense-only recipes refuse such a cache by name. */
  readonly ragged: boolean;
  /** Queries of the last tokens, where they are in memory. */
  readonly queries?: QueryTensors;
  /** Reads the queries of the last tokens, where they are elsewhere. */
  readQueries?(): Promise<QueryTensors | undefined>;
  /**
   * Reads tokens [begin, end) of one kind as little-endian source elements [layers][kvHeads][end − begin][dim],
   * keys after RoPE in half-split pairing. The result belongs to the caller.
   */
  read(kind: Kind, begin: number, end: number): Uint8Array | Promise<Uint8Array>;
  /**
   * What {@linkcode read} copies, in place: one view [end − begin][dim] of each head of each layer. For sources that hold
   * their elements in memory; whoever calls it does not write to the views.
   */
  views?(kind: Kind, begin: number, end: number): Uint8Array[];
}

/** Where a restored cache goes, by token ranges and layers. */
export interface CacheSink {
  /**
   * Writes tokens [begin, begin + n) of layers [layerBegin, layerBegin + k), laid out as {@linkcode CacheSource.read}
   * returns them: [k][kvHeads][n][dim].
   *
   * @param kept [k][kvHeads][n]: 0 where a head does not hold the token (`data` has zeros there); absent: all are held.
   */
  write(
    kind: Kind,
    layerBegin: number,
    begin: number,
    n: number,
    data: Uint8Array,
    kept?: Uint8Array,
  ): void | Promise<void>;
  /**
   * Where {@linkcode write} would put the data: one view [n][dim] of each head of layers [layerBegin, layerEnd). For sinks
   * that hold their elements in memory. When a recipe has restored elements there, `write` is called with empty data, else
   * with all; without that call what the views hold is not to be used.
   */
  views?(kind: Kind, layerBegin: number, layerEnd: number, begin: number, n: number): Uint8Array[];
}
