/**
 * The Stage contract: one reversible step between a cache and its bytes. A stage is built from its artefact (what `fit`
 * left in the profile) and a backend, and then turns chunks: `encode(x, ctx) → y`, `decode(y, ctx) → x`. Whatever a
 * stage needs to be undone travels in `y` as byte streams, so that side information is always counted.
 *
 * @module
 */

/** What every stage may know about the chunk in hand. */
export interface ChunkContext {
  /** Tokens in the chunk. */
  readonly tokens: number;
  /** Absolute positions of the tokens, for RoPE; on decode the positions the keys shall get. */
  readonly positions: Int32Array;
  /** Layers to restore (decode only): [layerBegin, layerEnd). Encoding always takes all layers. */
  readonly layerBegin: number;
  readonly layerEnd: number;
}

/** A reversible step over chunks. */
export interface Stage<In, Out> {
  /** Name for reports, for instance "pca". */
  readonly name: string;
  encode(x: In, ctx: ChunkContext): Out | Promise<Out>;
  decode(y: Out, ctx: ChunkContext): In | Promise<In>;
}

/** A stage that owns device memory. */
export interface DeviceStage<In, Out> extends Stage<In, Out>, Disposable {}
