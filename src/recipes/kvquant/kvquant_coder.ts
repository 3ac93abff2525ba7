/**
 * Coder of recipe kvquant. A token of a layer is a row of all heads, [heads][dim] channels:
 *
 *     keys    thresholds low and high of each channel from the profile; outliers are beyond them
 *     values  as many outliers on either side as the share says; low and high: least and greatest of the others
 *     code    the entry of the layer's codebook nearest to (x − middle) ÷ half, middle and half of [low, high]
 *     x̂       middle + half · entry; outliers as they are
 *
 * Streams, layers first:
 *     COD  codes [layers][tokens][channels], a row packed into whole bytes; that of an outlier means nothing
 *     TOK  keys: outliers of a row [layers][tokens], u16, none without outliers; values: low and high of a row, binary16
 *     OUT  outliers [layers][tokens][…] by rising channel: channel, u16, and element, binary16
 *
 * @module
 */
import { numberToF16 } from "../../cache/elements.ts";
import { KvzFormatError, KvzUnsupportedError } from "../../errors.ts";
import { codebookAt, KVQUANT_OUTLIERS, type KvquantProfile, thresholdsAt } from "../../profile/kvquant/types.ts";
import { requireProfile } from "../../profile/require.ts";
import { packedBytes, packRows, unpackRows } from "../../stages/quantize/bit_packing.ts";
import { codeBorders, nearestCode, outliersASide, TokenOutliers } from "../../stages/quantize/nuq.ts";
import { joinRows } from "../../stages/tokens/join.ts";
import type { CoderContext, TensorBlock, TensorCoder, TensorRange, TensorShape } from "../tensor/coder.ts";
import { finiteHalves, halfBytes, halfValues, requireHalves } from "../tensor/halves.ts";
import { layerBytes } from "../tensor/rows.ts";
import type { KvquantOptions } from "./kvquant.ts";

/** Bytes of an outlier. */
const OUTLIER_BYTES = 4;
/** Channels that an outlier's number tells apart. */
const MOST_CHANNELS = 65535;

/**
 * Makes the coder of one kind.
 *
 * @throws {KvzUnsupportedError} A layer has more channels than outliers can name.
 */
export function open(options: KvquantOptions, { shapes: [shape], profile }: CoderContext): TensorCoder {
  const { heads, dim, kind } = shape;
  if (heads * dim > MOST_CHANNELS) {
    throw new KvzUnsupportedError(
      `Cannot use recipe kvquant: ${kind}s of a layer have ${heads * dim} channels, expected at most ${MOST_CHANNELS}`,
    );
  }
  return new KvquantCoder(options, shape, requireProfile(profile ?? null, "kvquant"));
}

class KvquantCoder implements TensorCoder {
  readonly #shape: TensorShape;
  readonly #bits: number;
  readonly #channels: number;
  readonly #profile: KvquantProfile;
  /** Place of the share of outliers in the profile. */
  readonly #set: number;
  readonly #sparse: boolean;
  /** Outliers of a value's token on either side. */
  readonly #aSide: number;
  readonly #qnorm: boolean;

  constructor({ bits, outliers, qnorm }: KvquantOptions, shape: TensorShape, profile: KvquantProfile) {
    this.#shape = shape;
    this.#bits = bits;
    this.#channels = shape.heads * shape.dim;
    this.#profile = profile;
    this.#set = (KVQUANT_OUTLIERS as readonly number[]).indexOf(outliers);
    this.#sparse = outliers > 0;
    this.#aSide = outliersASide(this.#channels, outliers);
    this.#qnorm = qnorm === "on";
  }

  encode([block]: readonly TensorBlock[]): Uint8Array[] {
    const { layers, heads, dim, kind } = this.#shape;
    const { x, tokens } = block;
    const channels = this.#channels;
    const codes = new Uint8Array(layers * tokens * channels);
    const ofTokens = new Uint16Array(kind === "value" ? 2 * layers * tokens : this.#sparse ? layers * tokens : 0);
    const outliers: Outliers = { channels: [], halves: [], rows: [] };
    const found = new TokenOutliers(channels, this.#aSide);
    const row = new Float32Array(channels);
    const halves = halfValues();
    for (let layer = 0, r = 0; layer < layers; layer++) {
      const borders = codeBorders(this.#entries(layer));
      const ranges = new Ranges(channels);
      const thresholds = kind === "key" ? this.#thresholds(layer) : null;
      if (thresholds !== null) ranges.setAll(thresholds);
      for (let t = 0; t < tokens; t++, r++) {
        for (let head = 0; head < heads; head++) {
          const from = ((layer * heads + head) * tokens + t) * dim;
          row.set(x.subarray(from, from + dim), head * dim);
        }
        if (thresholds === null) {
          found.find(row);
          ofTokens[2 * r] = numberToF16(found.low);
          ofTokens[2 * r + 1] = numberToF16(found.high);
          ranges.fill(halves[ofTokens[2 * r]], halves[ofTokens[2 * r + 1]]);
        } else if (this.#sparse) markBeyond(row, thresholds, found.marks);
        for (let c = 0; c < channels; c++) {
          codes[r * channels + c] = nearestCode((row[c] - ranges.middle[c]) * ranges.inverse[c], borders);
        }
        const before = outliers.channels.length;
        for (let c = found.marks.indexOf(1); c >= 0; c = found.marks.indexOf(1, c + 1)) {
          outliers.channels.push(c);
          outliers.halves.push(numberToF16(row[c]));
          outliers.rows.push((layer * heads + Math.floor(c / dim)) * tokens + t);
        }
        if (thresholds !== null && this.#sparse) ofTokens[r] = outliers.channels.length - before;
      }
    }
    if (kind === "value") requireHalves(ofTokens, block, (i) => rowOfToken(i >> 1, heads, tokens));
    requireHalves(Uint16Array.from(outliers.halves), block, (i) => outliers.rows[i]);
    return [packRows(codes, channels, this.#bits), halfBytes(ofTokens), outlierBytes(outliers)];
  }

  decode(streams: readonly Uint8Array[], range: TensorRange): Float32Array[] {
    const { heads, dim, kind } = this.#shape;
    const { tokens, layerBegin, layerEnd } = range;
    const channels = this.#channels;
    const offsets = this.#outlierOffsets(streams, tokens);
    const layers = layerEnd - layerBegin;
    const perRow = packedBytes(channels, this.#bits);
    const codes = unpackRows(layerBytes(streams[0], perRow * tokens, this.#shape, range), channels, this.#bits);
    const ofTokens = kind === "value"
      ? finiteHalves(layerBytes(streams[1], 4 * tokens, this.#shape, range), `thresholds of ${kind}s`)
      : null;
    const halves = halfValues();
    const x = new Float32Array(layers * heads * tokens * dim);
    const row = new Float32Array(channels);
    for (let l = 0, r = 0; l < layers; l++) {
      const entries = this.#entries(layerBegin + l, this.#qnorm);
      const ranges = new Ranges(channels);
      if (ofTokens === null) ranges.setAll(this.#thresholds(layerBegin + l));
      for (let t = 0; t < tokens; t++, r++) {
        if (ofTokens !== null) ranges.fill(halves[ofTokens[2 * r]], halves[ofTokens[2 * r + 1]]);
        for (let c = 0; c < channels; c++) {
          row[c] = ranges.middle[c] + ranges.half[c] * entries[codes[r * channels + c]];
        }
        const first = (layerBegin + l) * tokens + t;
        this.#paste(row, streams[2].subarray(offsets[first], offsets[first + 1]));
        for (let head = 0; head < heads; head++) {
          x.set(row.subarray(head * dim, (head + 1) * dim), ((l * heads + head) * tokens + t) * dim);
        }
      }
    }
    return [x];
  }

  limits(tokens: number): number[] {
    const { layers, kind } = this.#shape;
    const rows = layers * tokens;
    const most = kind === "key" ? (this.#sparse ? this.#channels : 0) : 2 * this.#aSide;
    return [rows * packedBytes(this.#channels, this.#bits), this.#tokenBytes() * rows, rows * most * OUTLIER_BYTES];
  }

  join(
    before: readonly Uint8Array[],
    beforeTokens: number,
    after: readonly Uint8Array[],
    afterTokens: number,
  ): Uint8Array[] {
    const { layers } = this.#shape;
    const [a, b] = [this.#outlierOffsets(before, beforeTokens), this.#outlierOffsets(after, afterTokens)];
    const outliers = new Uint8Array(before[2].length + after[2].length);
    let at = 0;
    for (let layer = 0; layer < layers; layer++) {
      for (const [bytes, offsets, tokens] of [[before[2], a, beforeTokens], [after[2], b, afterTokens]] as const) {
        const part = bytes.subarray(offsets[layer * tokens], offsets[(layer + 1) * tokens]);
        outliers.set(part, at);
        at += part.length;
      }
    }
    return [joinRows(before[0], after[0], layers), joinRows(before[1], after[1], layers), outliers];
  }

  /** Bytes of a row in TOK. */
  #tokenBytes(): number {
    return this.#shape.kind === "value" ? 4 : this.#sparse ? 2 : 0;
  }

  /** Low and high of a layer's key channels. */
  #thresholds(layer: number): Float32Array {
    const { model, thresholds } = this.#profile;
    const at = thresholdsAt(model, this.#set, layer);
    return thresholds.subarray(at, at + 2 * this.#channels);
  }

  /** Entries of a layer's codebook, with Q-Norm those that elements are restored to. */
  #entries(layer: number, qnorm = false): Float32Array {
    const { model, codebooks, norms } = this.#profile;
    const { entries, norm } = codebookAt(model, this.#set, this.#shape.kind, layer, this.#bits);
    const codebook = codebooks.subarray(entries, entries + (1 << this.#bits));
    return qnorm ? codebook.map((entry) => entry * norms[norm] + norms[norm + 1]) : codebook;
  }

  /**
   * Where the outliers of every row begin in OUT, [layers · tokens + 1].
   *
   * @throws {KvzFormatError} A stream has not the length that the others say.
   */
  #outlierOffsets([codes, ofTokens, outliers]: readonly Uint8Array[], tokens: number): Float64Array {
    const { layers, kind } = this.#shape;
    const all = { tokens, layerBegin: 0, layerEnd: layers };
    layerBytes(codes, packedBytes(this.#channels, this.#bits) * tokens, this.#shape, all);
    layerBytes(ofTokens, this.#tokenBytes() * tokens, this.#shape, all);
    const counted = kind === "key" && this.#sparse;
    const offsets = new Float64Array(layers * tokens + 1);
    for (let r = 0; r < layers * tokens; r++) {
      const count = counted ? ofTokens[2 * r] | ofTokens[2 * r + 1] << 8 : 2 * this.#aSide;
      offsets[r + 1] = offsets[r] + (kind === "key" && !this.#sparse ? 0 : count) * OUTLIER_BYTES;
    }
    if (outliers.length !== offsets[layers * tokens]) {
      throw new KvzFormatError(
        `Cannot decode ${kind}s: the outliers have ${outliers.length} bytes, expected ${offsets[layers * tokens]}`,
      );
    }
    return offsets;
  }

  /** Puts outliers into a row. */
  #paste(row: Float32Array, bytes: Uint8Array): void {
    const halves = halfValues();
    let last = -1;
    for (let at = 0; at < bytes.length; at += OUTLIER_BYTES) {
      const channel = bytes[at] | bytes[at + 1] << 8;
      const half = bytes[at + 2] | bytes[at + 3] << 8;
      if (channel <= last || channel >= row.length || (half & 0x7c00) === 0x7c00) {
        throw new KvzFormatError(
          `Cannot decode ${this.#shape.kind}s: an outlier of channel ${channel} after ${last} is none of ` +
            `${row.length} rising ones, or is not finite`,
        );
      }
      row[channel] = halves[half];
      last = channel;
    }
  }
}

/** Outliers as they are found. */
interface Outliers {
  readonly channels: number[];
  readonly halves: number[];
  /** Rows [layers][heads][tokens], for messages. */
  readonly rows: number[];
}

/** Middles and halves of the ranges of channels. */
class Ranges {
  readonly middle: Float64Array;
  readonly half: Float64Array;
  /** 1 ÷ half; 0 where a range is empty. */
  readonly inverse: Float64Array;

  constructor(channels: number) {
    this.middle = new Float64Array(channels);
    this.half = new Float64Array(channels);
    this.inverse = new Float64Array(channels);
  }

  /** One range for all channels. */
  fill(low: number, high: number): void {
    const half = (high - low) / 2;
    this.middle.fill((low + high) / 2);
    this.half.fill(half);
    this.inverse.fill(half > 0 ? 1 / half : 0);
  }

  /** Low and high of every channel. */
  setAll(thresholds: Float32Array): void {
    for (let c = 0; c < this.middle.length; c++) {
      const [low, high] = [thresholds[2 * c], thresholds[2 * c + 1]];
      this.middle[c] = (low + high) / 2;
      this.half[c] = (high - low) / 2;
      this.inverse[c] = high > low ? 2 / (high - low) : 0;
    }
  }
}

/** Marks elements beyond their channel's thresholds. */
function markBeyond(row: Float32Array, thresholds: Float32Array, marks: Uint8Array): void {
  for (let c = 0; c < row.length; c++) marks[c] = row[c] < thresholds[2 * c] || row[c] > thresholds[2 * c + 1] ? 1 : 0;
}

/** Row [layers][heads][tokens] of the first head of row [layers][tokens]. */
function rowOfToken(row: number, heads: number, tokens: number): number {
  return Math.floor(row / tokens) * heads * tokens + row % tokens;
}

function outlierBytes({ channels, halves }: Outliers): Uint8Array {
  const words = new Uint16Array(2 * channels.length);
  channels.forEach((channel, i) => {
    words[2 * i] = channel;
    words[2 * i + 1] = halves[i];
  });
  return halfBytes(words);
}
