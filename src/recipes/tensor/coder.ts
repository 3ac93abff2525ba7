/**
 * What a method that codes tensors has to be: elements of a range of tokens in float32, all layers and heads, into byte
 * streams and back. All else that a recipe does (element types, RoPE, regions, ranges of layers, files) is the frame's
 * (`tensor_codec.ts`).
 *
 * @module
 */
import type { Backend } from "../../backend/backend.ts";
import type { DType, Kind } from "../../cache/types.ts";
import type { Profile } from "../../profile/types.ts";
import type { Region } from "../recipe.ts";

/** What does not change from chunk to chunk: the size of one kind of a model's cache. */
export interface TensorShape {
  readonly kind: Kind;
  readonly layers: number;
  /** KV heads. */
  readonly heads: number;
  readonly dim: number;
}

/** A range of tokens of one kind, without its elements. */
export interface BlockShape extends TensorShape {
  readonly tokens: number;
  /** Index of the first token in the cache, for messages. */
  readonly begin: number;
  /** Numbers of the layers in the model, for messages, where they are not 0, 1, 2, … */
  readonly layerNumbers?: readonly number[];
}

/** A range of tokens of one kind, finite. */
export interface TensorBlock extends BlockShape {
  /** [layers][heads][tokens][dim]; keys before RoPE where the method wants them so. The coder may overwrite it. */
  readonly x: Float32Array;
}

/** A range of tokens of one kind as bits of binary16, finite. */
export interface HalvesBlock extends BlockShape {
  /** [layers][heads][tokens][dim] as the cache has them. */
  readonly halves: Uint16Array;
}

/** What of a range of tokens is to be restored. */
export interface TensorRange {
  readonly tokens: number;
  readonly layerBegin: number;
  readonly layerEnd: number;
}

/** Codes token ranges of one region of a file, of the kinds that the method codes together. */
export interface TensorCoder extends Partial<Disposable> {
  /** A block of each kind → the method's streams, in its order. */
  encode(blocks: readonly TensorBlock[]): readonly Uint8Array[] | Promise<readonly Uint8Array[]>;
  /**
   * The inverse for layers [layerBegin, layerEnd): [layerEnd − layerBegin][heads][tokens][dim] of each kind. Streams are no
   * longer than `limits` says; all else about them is the coder's to check, before it allocates.
   *
   * @throws {KvzFormatError} The streams are none that an encoder makes.
   */
  decode(
    streams: readonly Uint8Array[],
    range: TensorRange,
  ): readonly Float32Array[] | Promise<readonly Float32Array[]>;
  /**
   * As `encode`, of what a cache of binary16 holds: where a method codes elements as they are, and can read them so, nothing
   * is converted for it.
   */
  encodeHalves?(blocks: readonly HalvesBlock[]): readonly Uint8Array[] | Promise<readonly Uint8Array[]>;
  /** As `decode`, to bits of binary16, finite; what is beyond it becomes ±65504. Present where `encodeHalves` is. */
  decodeHalves?(
    streams: readonly Uint8Array[],
    range: TensorRange,
  ): readonly Uint16Array[] | Promise<readonly Uint16Array[]>;
  /** Most bytes of each stream for so many tokens. */
  limits(tokens: number): readonly number[];
  /**
   * The streams of two neighbouring ranges as those of both, so that tokens can be appended to a chunk that is not full:
   * nothing is quantized anew. Absent where a chunk is coded as one.
   */
  join?(
    before: readonly Uint8Array[],
    beforeTokens: number,
    after: readonly Uint8Array[],
    afterTokens: number,
  ): readonly Uint8Array[] | Promise<readonly Uint8Array[]>;
}

/** What a coder is made for. */
export interface CoderContext {
  /** One for each kind that is coded together, keys first. */
  readonly shapes: readonly TensorShape[];
  /** "chunk", or "window" for methods with a residual. */
  readonly region: Region;
  /** Element type of raw elements in the file. */
  readonly storedDType: DType;
  /** The profile of methods that need one, of their own kind. */
  readonly profile?: Profile | null;
  readonly backend: Backend;
}

/** The lazily loaded part of a method. */
export interface TensorModule<Options> {
  open(options: Options, context: CoderContext): TensorCoder | Promise<TensorCoder>;
}
