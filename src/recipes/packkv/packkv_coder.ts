/**
 * PackKV's coder: chunks of whole blocks of 64 tokens, keys and values together.
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import { bitLength, BitReader, BitWriter } from "../../stages/packkv/bits.ts";
import { lengthBits, readPacks, writePacks } from "../../stages/packkv/packs.ts";
import { repackOrder } from "../../stages/packkv/repack.ts";
import { dequantizeRelative, quantizeRelative, type RelativeShape } from "../../stages/quantize/relative.ts";
import {
  MOST_GROUP_BYTES,
  packGroups,
  type RelativeGroups,
  unpackGroups,
} from "../../stages/quantize/relative_side.ts";
import type { CoderContext, TensorBlock, TensorCoder, TensorRange, TensorShape } from "../tensor/coder.ts";
import { PACKKV_BLOCK as BLOCK, type PackKvOptions } from "./packkv.ts";

/** Bits of a token's place in its block. */
const PLACE_BITS = 6;

/** Makes the coder. */
export function open(options: PackKvOptions, { shapes }: CoderContext): TensorCoder {
  return new PackKvCoder(options, shapes);
}

/** What a chunk's streams say before symbols are read. */
interface Parsed {
  /** Of keys, then values. */
  readonly groups: readonly RelativeGroups[];
  /** Bits of the symbols of each layer, keys and values. */
  readonly widths: Uint8Array;
  /** [layers][tokens]: index within its block of the token at each place. */
  readonly order: Uint8Array;
  readonly heads: BitReader;
  readonly codes: BitReader;
}

class PackKvCoder implements TensorCoder {
  readonly #options: PackKvOptions;
  readonly #shapes: readonly TensorShape[];
  readonly #layers: number;
  /** Channels of a token of a layer, of each kind. */
  readonly #channels: readonly number[];

  constructor(options: PackKvOptions, shapes: readonly TensorShape[]) {
    this.#options = options;
    this.#shapes = shapes;
    this.#layers = shapes[0].layers;
    this.#channels = shapes.map(({ heads, dim }) => heads * dim);
  }

  encode(blocks: readonly TensorBlock[]): Uint8Array[] {
    const { keyRel, valueRel } = this.#options;
    const { tokens, begin } = blocks[0];
    const quantized = blocks.map((block, k) =>
      quantizeRelative(
        block.x,
        this.#groups(k, tokens),
        k === 0 ? keyRel : valueRel,
        (group) => `${block.kind} of layer ${Math.floor(group / tokens)}, token ${begin + group % tokens}`,
      )
    );
    return this.#write(quantized.map(({ symbols }) => symbols), quantized, null, tokens);
  }

  /** Codes symbols; `order` where it is settled, [layers][tokens] as in the file. Groups stand by token. */
  #write(
    symbols: readonly Uint8Array[],
    groups: readonly RelativeGroups[],
    order: Uint8Array | null,
    tokens: number,
  ): Uint8Array[] {
    const { repack, packTokens, order: keep } = this.#options;
    const [keys, values] = this.#channels;
    const widths = new Uint8Array(2 * this.#layers);
    const [heads, codes, places] = [new BitWriter(), new BitWriter(), new BitWriter()];
    const moved = groups.map(({ scales, firsts }) => ({ scales: scales.slice(), firsts: firsts.slice() }));
    for (let layer = 0; layer < this.#layers; layer++) {
      const rows = this.#shapes.map((_, k) => this.#rowsOf(symbols[k], k, layer, tokens));
      for (const [k, all] of rows.entries()) {
        let most = 1;
        for (const symbol of all) if (symbol > most) most = symbol;
        widths[2 * layer + k] = bitLength(most);
      }
      for (let first = 0; first < tokens; first += BLOCK) {
        const both = new Uint8Array(BLOCK * (keys + values));
        for (let t = 0; t < BLOCK; t++) {
          rows.forEach((all, k) => {
            const from = (first + t) * this.#channels[k];
            both.set(all.subarray(from, from + this.#channels[k]), t * (keys + values) + k * keys);
          });
        }
        const at = layer * tokens + first;
        const chosen = order?.subarray(at, at + BLOCK) ??
          repackOrder(both, BLOCK, keys + values, keys, packTokens, repack);
        if (keep === "kept") { for (const t of chosen) places.write(t, PLACE_BITS); }
        for (let k = 0; k < 2; k++) {
          const channels = this.#channels[k];
          const ordered = new Uint8Array(BLOCK * channels);
          chosen.forEach((t, place) => {
            const from = t * (keys + values) + k * keys;
            ordered.set(both.subarray(from, from + channels), place * channels);
            moved[k].scales[at + place] = groups[k].scales[at + t];
            moved[k].firsts[at + place] = groups[k].firsts[at + t];
          });
          writePacks(ordered, BLOCK, channels, packTokens, widths[2 * layer + k], heads, codes);
        }
      }
      heads.align();
      codes.align();
    }
    const sides = moved.map(packGroups);
    const side = new Uint8Array(sides[0].length + sides[1].length + 4);
    new DataView(side.buffer).setUint32(0, sides[0].length, true);
    side.set(sides[0], 4);
    side.set(sides[1], 4 + sides[0].length);
    return [side, widths, heads.done(), codes.done(), places.done()];
  }

  decode(streams: readonly Uint8Array[], { tokens, layerBegin, layerEnd }: TensorRange): Float32Array[] {
    const parsed = this.#parse(streams, tokens);
    const symbols = this.#symbols(parsed, tokens);
    return this.#shapes.map((shape, k) => {
      const each = tokens * this.#channels[k];
      const groups = this.#inPlace(parsed.groups[k], parsed.order, tokens);
      const part = (all: Uint16Array | Int32Array) => all.subarray(layerBegin * tokens, layerEnd * tokens);
      return dequantizeRelative({
        symbols: symbols[k].subarray(layerBegin * each, layerEnd * each),
        scales: part(groups.scales) as Uint16Array,
        firsts: part(groups.firsts) as Int32Array,
      }, { ...this.#groups(k, tokens), layers: layerEnd - layerBegin, heads: shape.heads });
    });
  }

  limits(tokens: number): number[] {
    const { packTokens, order } = this.#options;
    const groups = this.#layers * tokens;
    const channels = this.#channels[0] + this.#channels[1];
    const packs = tokens / packTokens * channels;
    return [
      4 + 2 * groups * MOST_GROUP_BYTES,
      2 * this.#layers,
      this.#layers * Math.ceil(packs * (8 + lengthBits(8)) / 8),
      this.#layers * tokens * channels,
      order === "kept" ? Math.ceil(groups * PLACE_BITS / 8) : 0,
    ];
  }

  join(
    before: readonly Uint8Array[],
    beforeTokens: number,
    after: readonly Uint8Array[],
    afterTokens: number,
  ): Uint8Array[] {
    const parts = [{ streams: before, tokens: beforeTokens }, { streams: after, tokens: afterTokens }].map(
      ({ streams, tokens }) => {
        const parsed = this.#parse(streams, tokens);
        const groups = parsed.groups.map((of) => this.#inPlace(of, parsed.order, tokens));
        return { tokens, order: parsed.order, groups, symbols: this.#symbols(parsed, tokens) };
      },
    );
    const tokens = beforeTokens + afterTokens;
    const rows = <T extends Uint8Array | Uint16Array | Int32Array>(out: T, of: readonly T[], blocks: number): T => {
      let at = 0;
      for (let block = 0; block < blocks; block++) {
        for (const one of of) {
          const each = one.length / blocks;
          out.set(one.subarray(block * each, (block + 1) * each), at);
          at += each;
        }
      }
      return out;
    };
    const [a, b] = parts;
    const symbols = this.#shapes.map(({ heads }, k) =>
      rows(
        new Uint8Array(a.symbols[k].length + b.symbols[k].length),
        [a.symbols[k], b.symbols[k]],
        this.#layers * heads,
      )
    );
    const groups = this.#shapes.map((_, k) => ({
      scales: rows(new Uint16Array(this.#layers * tokens), [a.groups[k].scales, b.groups[k].scales], this.#layers),
      firsts: rows(new Int32Array(this.#layers * tokens), [a.groups[k].firsts, b.groups[k].firsts], this.#layers),
    }));
    const order = rows(new Uint8Array(this.#layers * tokens), [a.order, b.order], this.#layers);
    return this.#write(symbols, groups, order, tokens);
  }

  #groups(k: number, tokens: number): RelativeShape {
    const { layers, heads, dim } = this.#shapes[k];
    return { layers, heads, tokens, dim, block: BLOCK, grouping: "token" };
  }

  /** Groups by token of those by place. */
  #inPlace({ scales, firsts }: RelativeGroups, order: Uint8Array, tokens: number): RelativeGroups {
    const out = { scales: new Uint16Array(scales.length), firsts: new Int32Array(firsts.length) };
    for (let at = 0; at < scales.length; at++) {
      const to = at - at % tokens % BLOCK + order[at];
      out.scales[to] = scales[at];
      out.firsts[to] = firsts[at];
    }
    return out;
  }

  /** [tokens][channels] of a layer of [layers][heads][tokens][dim]. */
  #rowsOf(symbols: Uint8Array, k: number, layer: number, tokens: number): Uint8Array {
    const { heads, dim } = this.#shapes[k];
    const out = new Uint8Array(tokens * heads * dim);
    for (let head = 0; head < heads; head++) {
      for (let t = 0; t < tokens; t++) {
        const from = ((layer * heads + head) * tokens + t) * dim;
        out.set(symbols.subarray(from, from + dim), (t * heads + head) * dim);
      }
    }
    return out;
  }

  #parse([side, widths, heads, codes, places]: readonly Uint8Array[], tokens: number): Parsed {
    if (tokens % BLOCK !== 0) {
      throw new KvzFormatError(`Cannot decode chunk: it has ${tokens} tokens, recipe packkv codes blocks of ${BLOCK}`);
    }
    if (widths.length !== 2 * this.#layers || widths.some((bits) => bits < 1 || bits > 8)) {
      throw new KvzFormatError(
        `Cannot decode chunk: its widths are ${widths.join(", ")}, expected 1 to 8 of each layer`,
      );
    }
    if (side.length < 4) throw new KvzFormatError("Cannot decode chunk: it has no scales");
    const end = 4 + new DataView(side.buffer, side.byteOffset).getUint32(0, true);
    const groups = this.#layers * tokens;
    if (end > side.length) throw new KvzFormatError("Cannot decode chunk: scales of values are missing");
    return {
      groups: [unpackGroups(side.subarray(4, end), groups), unpackGroups(side.subarray(end), groups)],
      widths,
      order: this.#readOrder(places, tokens),
      heads: new BitReader(heads, "packs"),
      codes: new BitReader(codes, "codes"),
    };
  }

  #readOrder(places: Uint8Array, tokens: number): Uint8Array {
    const order = new Uint8Array(this.#layers * tokens);
    if (this.#options.order === "free") return order.map((_, at) => at % BLOCK);
    const reader = new BitReader(places, "order of tokens");
    for (let first = 0; first < order.length; first += BLOCK) {
      const seen = new Uint8Array(BLOCK);
      for (let place = 0; place < BLOCK; place++) {
        const t = reader.read(PLACE_BITS);
        if (seen[t]++) throw new KvzFormatError(`Cannot decode order of tokens: token ${t} of a block has two places`);
        order[first + place] = t;
      }
    }
    reader.requireEnd();
    return order;
  }

  /** Symbols of both kinds, [layers][heads][tokens][dim], every token at its place. */
  #symbols({ widths, order, heads, codes }: Parsed, tokens: number): Uint8Array[] {
    const out = this.#channels.map((channels) => new Uint8Array(this.#layers * tokens * channels));
    for (let layer = 0; layer < this.#layers; layer++) {
      for (let first = 0; first < tokens; first += BLOCK) {
        this.#shapes.forEach(({ heads: count, dim }, k) => {
          const channels = this.#channels[k];
          const { packTokens } = this.#options;
          const rows = readPacks(BLOCK, channels, packTokens, widths[2 * layer + k], heads, codes);
          for (let place = 0; place < BLOCK; place++) {
            const t = first + order[layer * tokens + first + place];
            for (let head = 0; head < count; head++) {
              const from = place * channels + head * dim;
              out[k].set(rows.subarray(from, from + dim), ((layer * count + head) * tokens + t) * dim);
            }
          }
        });
      }
      heads.align();
      codes.align();
    }
    heads.requireEnd();
    codes.requireEnd();
    return out;
  }
}
