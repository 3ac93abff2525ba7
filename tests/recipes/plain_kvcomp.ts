/**
 * KVComp as a plain function, written apart from the recipe: quantize and dequantize in float arithmetic, count bits.
 *
 * @module
 */
import { huffmanLengths } from "../../bench/peers/huffman.ts";
import { f16ToNumber, numberToF16 } from "../../src/cache/elements.ts";
import type { Kind } from "../../src/cache/types.ts";

/** Elements of one kind. */
export interface Block {
  readonly kind: Kind;
  readonly x: Float32Array;
  readonly layers: number;
  readonly heads: number;
  readonly tokens: number;
  readonly dim: number;
}

/** Restores tokens [begin, end) in place; returns their bits. */
export type Quantizer = (block: Block, begin: number, end: number) => number;

const half = (x: number) => f16ToNumber(numberToF16(x));

/**
 * KVComp (arXiv 2509.00579): scale = range · rel in binary16; keys by block of 64 tokens over all heads and channels of a
 * layer, values by token over the same; one Huffman code a layer and kind, here made of all its symbols. Counted: codes,
 * 16 bits of length for every 128 values, scale and minimum (3 bytes a group), a byte for each symbol of the Huffman
 * code. Its raw tails are left out, which favours it.
 */
export function kvcomp(relative: Readonly<Record<Kind, number>>): Quantizer {
  return (block, begin, end) => {
    const { kind, x, layers, heads, tokens, dim } = block;
    const rel = relative[kind];
    let bits = 0;
    for (let layer = 0; layer < layers; layer++) {
      const counts = new Map<number, number>();
      const per = kind === "key" ? 64 : 1;
      for (let t = begin; t < end; t += per) {
        const places: number[] = [];
        for (let head = layer * heads; head < (layer + 1) * heads; head++) {
          const to = (head * tokens + Math.min(end, t + per)) * dim;
          for (let i = (head * tokens + t) * dim; i < to; i++) places.push(i);
        }
        let [low, high] = [Infinity, -Infinity];
        for (const i of places) [low, high] = [Math.min(low, x[i]), Math.max(high, x[i])];
        const scale = half((high - low) * rel);
        const first = scale === 0 ? 0 : Math.round(low / scale);
        for (const i of places) {
          const q = scale === 0 ? 0 : Math.round(x[i] / scale) - first;
          counts.set(q, (counts.get(q) ?? 0) + 1);
          x[i] = scale === 0 ? low : (q + first) * scale;
        }
        bits += 24;
      }
      const symbols = [...counts.values()];
      huffmanLengths(symbols).forEach((length, i) => bits += length * symbols[i] + 8);
      bits += 16 * Math.ceil(heads * dim * (end - begin) / 128);
    }
    return bits;
  };
}
