/**
 * A chunk's features ↔ its streams. A chunk is a row of segments; appending adds one and leaves those before as they are.
 *
 *     SIDE   head (head.ts), then for each segment: tokens u16, and for each layer and group of its features (shape.ts): classes less
 *            those of the segment before modulo 64, lengths u32 of symbols and escapes, side information (trellis/side.ts)
 *     SYMB   rANS streams of the groups, segment after segment
 *     ESCP   their escapes
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import { RANS_LANES } from "../entropy/rans_stream.ts";
import { packCode, type TrellisEngine, unpackCode } from "../quantize/trellis/engine.ts";
import { CLASSES } from "../quantize/trellis/model.ts";
import { sideLength } from "../quantize/trellis/side.ts";
import { ByteReader, ByteWriter } from "./bytes.ts";
import { type ChunkHead, decodeHead, emptyHead, encodeHead, headLength, measureLayer, toSixteenths } from "./head.ts";
import { chooseClasses, type LevelCosts, measuredModel } from "./model.ts";
import { featureCount, type FeatureShape, layerFeatures, layerGroups } from "./shape.ts";

/** Streams of a chunk before DEFLATE. */
export interface MeasuredStreams {
  readonly side: Uint8Array;
  readonly symbols: Uint8Array;
  readonly escapes: Uint8Array;
}

/** A decoded chunk. */
export interface DecodedChunk {
  readonly head: ChunkHead;
  /** Features in quarters of their steps, means included, [features][tokens]. */
  readonly quarters: Int16Array;
  /** Classes of the features in the last segment. */
  readonly classes: Uint8Array;
}

/** What a chunk has already when tokens are appended to it. */
export interface ChunkSoFar {
  readonly chunk: DecodedChunk;
  readonly streams: MeasuredStreams;
}

/** Weight of a bit against a squared error of a step. */
const LAMBDA = 0.3;
/** A segment needs so many tokens before classes of its own pay. */
const CLASS_TOKENS = 16;

/** Codes the chunks of one lane. */
export class MeasuredCoder implements Disposable {
  readonly #engine: TrellisEngine;
  readonly #costs: LevelCosts;
  readonly #shape: FeatureShape;

  constructor(engine: TrellisEngine, costs: LevelCosts, shape: FeatureShape) {
    this.#engine = engine;
    this.#costs = costs;
    this.#shape = shape;
  }

  /**
   * Codes a segment of at most 65,535 tokens.
   *
   * @param features of a layer, [features of the layer][tokens]
   * @param step in units of each layer's spread; the tokens of `before` have settled it where there are some
   * @returns null where the tokens are too large for the step of the chunk that they go on with
   */
  encode(
    features: (layer: number) => Float32Array,
    tokens: number,
    step: number,
    before: ChunkSoFar | null,
  ): MeasuredStreams | null {
    const shape = this.#shape;
    const head = before?.chunk.head ?? emptyHead(shape);
    const known = before?.chunk.classes ?? new Uint8Array(featureCount(shape));
    const [side, symbols, escapes] = [new ByteWriter(), new ByteWriter(), new ByteWriter()];
    side.u16(tokens);
    for (let layer = 0; layer < shape.layers; layer++) {
      const x = features(layer);
      if (before === null) measureLayer(x, shape, layer, tokens, step, head);
      const y = toSixteenths(x, shape, layer, tokens, head);
      if (y === null) return null;
      const first = layer * layerFeatures(shape);
      for (const { begin, end } of layerGroups(shape, layer)) {
        const rows = y.subarray((begin - first) * tokens, (end - first) * tokens);
        const old = known.subarray(begin, end);
        const classes = before === null || tokens >= CLASS_TOKENS ? chooseClasses(rows, tokens) : old;
        const model = measuredModel(classes, this.#costs);
        const coded = packCode(this.#engine, model, this.#engine.encode(model, rows, tokens, LAMBDA, null));
        side.bytes(classes.map((value, i) => (value - old[i]) & (CLASSES - 1)));
        side.u32(coded.symbols.length);
        side.u32(coded.escapes.length);
        side.bytes(coded.side);
        symbols.bytes(coded.symbols);
        escapes.bytes(coded.escapes);
      }
    }
    return {
      side: join(before?.streams.side ?? encodeHead(head), side.done()),
      symbols: join(before?.streams.symbols ?? NOTHING, symbols.done()),
      escapes: join(before?.streams.escapes ?? NOTHING, escapes.done()),
    };
  }

  /**
   * Inverse of {@linkcode encode}. Only the features of layers [layerBegin, layerEnd) are decoded, the others stay 0.
   *
   * @throws {KvzFormatError} when the streams are not what it makes for so many tokens
   */
  decode(streams: MeasuredStreams, tokens: number, layerBegin = 0, layerEnd = this.#shape.layers): DecodedChunk {
    const shape = this.#shape;
    const features = featureCount(shape);
    const side = new ByteReader(streams.side, "side information");
    const symbols = new ByteReader(streams.symbols, "symbols");
    const escapes = new ByteReader(streams.escapes, "escapes");
    const head = decodeHead(side.bytes(headLength(shape)), shape);
    const quarters = new Int16Array(features * tokens);
    const classes = new Uint8Array(features);
    for (let done = 0; done < tokens;) {
      const count = side.u16();
      if (count === 0 || done + count > tokens) {
        throw new KvzFormatError(`Cannot decode chunk: a segment has ${count} tokens, expected 1 to ${tokens - done}`);
      }
      for (let layer = 0; layer < shape.layers; layer++) {
        const wanted = layer >= layerBegin && layer < layerEnd;
        for (const { begin, end } of layerGroups(shape, layer)) {
          side.bytes(end - begin).forEach((delta, i) => classes[begin + i] = (classes[begin + i] + delta) % CLASSES);
          const [symbolBytes, escapeBytes] = [side.u32(), side.u32()];
          const coded = {
            side: side.bytes(sideLength(count, end - begin)),
            symbols: symbols.bytes(symbolBytes),
            escapes: escapes.bytes(escapeBytes),
          };
          if (!wanted) continue;
          const model = measuredModel(classes.subarray(begin, end), this.#costs);
          const { reconstruction } = unpackCode(this.#engine, end - begin, () => model, coded, count);
          addMeans(reconstruction, head.means.subarray(begin, end), count, quarters, begin * tokens + done, tokens);
        }
      }
      done += count;
    }
    for (const reader of [side, symbols, escapes]) reader.requireEnd();
    return { head, quarters, classes };
  }

  /** Most bytes of the streams of so many tokens. */
  limits(tokens: number): Record<keyof MeasuredStreams, number> {
    const features = featureCount(this.#shape);
    const groups = this.#shape.layers * layerGroups(this.#shape, 0).length;
    // Every segment has a token at least.
    return {
      side: headLength(this.#shape) + tokens * (2 + 2 * features + groups * (8 + sideLength(1, 0))),
      symbols: tokens * (2 * features + 4 * RANS_LANES * groups),
      // An escape takes at most four bytes.
      escapes: 4 * features * tokens,
    };
  }

  [Symbol.dispose](): void {
    this.#engine.rans.free?.();
  }
}

const NOTHING = new Uint8Array(0);

function join(a: Uint8Array, b: Uint8Array): Uint8Array {
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}

/** Reconstructions [rows][count] and the rows' means (in steps) into rows of `stride` tokens from `at` on. */
function addMeans(
  reconstruction: Int16Array,
  means: Int16Array,
  count: number,
  quarters: Int16Array,
  at: number,
  stride: number,
): void {
  for (let row = 0; row < means.length; row++) {
    const mean = 4 * means[row];
    for (let t = 0; t < count; t++) {
      const value = mean + reconstruction[row * count + t];
      if (value !== value << 16 >> 16) {
        throw new KvzFormatError("Cannot decode chunk: a restored element leaves 16 bits");
      }
      quarters[at + row * stride + t] = value;
    }
  }
}
