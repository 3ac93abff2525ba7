/**
 * Quantize–dequantize functions of methods for KV caches that need no calibration, after their papers and sources, in
 * plain float arithmetic. Each takes elements of one kind, [layers][heads][tokens][dim] after RoPE, overwrites those of
 * tokens [begin, end) by what the method restores, and returns the bits that a file would need for them.
 *
 * @module
 */
import { f16ToNumber, numberToF16 } from "../../src/cache/elements.ts";
import type { Kind } from "../../src/cache/types.ts";
import { huffmanLengths } from "./huffman.ts";
import { gaussianRotation, lloydMaxSphere } from "./turboquant.ts";

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
const clamp = (x: number, low: number, high: number) => Math.min(high, Math.max(low, x));

function* headsOf({ layers, heads }: Block): Generator<number> {
  for (let head = 0; head < layers * heads; head++) yield head;
}

/** llama.cpp's q8_0: blocks of 32 along a row, d = amax / 127 in binary16. 8.5 bits. */
export const q80: Quantizer = (block, begin, end) =>
  rowBlocks(block, begin, end, (x, at) => {
    let most = 0;
    for (let i = at; i < at + 32; i++) most = Math.max(most, Math.abs(x[i]));
    const d = most / 127;
    const stored = half(d);
    for (let i = at; i < at + 32; i++) x[i] = d === 0 ? 0 : stored * Math.round(x[i] / d);
    return 32 * 8 + 16;
  });

/** llama.cpp's q4_0: blocks of 32 along a row, d = the element of largest magnitude ÷ −8 in binary16. 4.5 bits. */
export const q40: Quantizer = (block, begin, end) =>
  rowBlocks(block, begin, end, (x, at) => {
    let most = 0;
    for (let i = at; i < at + 32; i++) if (Math.abs(x[i]) > Math.abs(most)) most = x[i];
    const d = most / -8;
    const stored = half(d);
    for (let i = at; i < at + 32; i++) x[i] = d === 0 ? 0 : stored * (Math.min(15, Math.trunc(x[i] / d + 8.5)) - 8);
    return 32 * 4 + 16;
  });

function rowBlocks(block: Block, begin: number, end: number, one: (x: Float32Array, at: number) => number): number {
  const { x, tokens, dim } = block;
  if (dim % 32 !== 0) throw new RangeError(`Cannot quantize: the head has ${dim} elements, expected a multiple of 32`);
  let bits = 0;
  for (const head of headsOf(block)) {
    for (let i = (head * tokens + begin) * dim; i < (head * tokens + end) * dim; i += 32) bits += one(x, i);
  }
  return bits;
}

/**
 * KIVI (arXiv 2402.02750): keys by channel in groups of 32 tokens, values by token in groups of 32 channels, minimum and
 * scale in binary16: bits + 1. The last `residual` tokens stay in fp16: of keys those that do not fill `residual` tokens,
 * of values always so many.
 */
export function kivi(width: number, residual: number): Quantizer {
  return (block, begin, end) => {
    const { kind, x, layers, heads, tokens, dim } = block;
    const left = kind === "value" ? Math.min(residual, end - begin) : (end - begin) % Math.max(residual, 32);
    const last = end - left;
    let bits = layers * heads * dim * left * 16;
    for (const head of headsOf(block)) {
      const at = head * tokens * dim;
      if (kind === "key") {
        for (let t = begin; t < last; t += 32) {
          for (let i = 0; i < dim; i++) bits += uniformGroup(x, at + t * dim + i, dim, Math.min(32, last - t), width);
        }
      } else {
        for (let t = begin; t < last; t++) {
          for (let i = 0; i < dim; i += 32) bits += uniformGroup(x, at + t * dim + i, 1, Math.min(32, dim - i), width);
        }
      }
    }
    return bits;
  };
}

function uniformGroup(x: Float32Array, at: number, stride: number, count: number, width: number): number {
  let [low, high] = [Infinity, -Infinity];
  for (let n = 0; n < count; n++) {
    low = Math.min(low, x[at + n * stride]);
    high = Math.max(high, x[at + n * stride]);
  }
  const top = 2 ** width - 1;
  const [zero, scale] = [half(low), half((high - low) / top)];
  for (let n = 0; n < count; n++) {
    const i = at + n * stride;
    x[i] = scale === 0 ? zero : zero + scale * clamp(Math.round((x[i] - zero) / scale), 0, top);
  }
  return count * width + 32;
}

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

/** TurboQuant (arXiv 2504.19874), the MSE form: norm in binary16, random rotation, Lloyd–Max codebook of a sphere's coordinate. */
export function turboquant(width: number): Quantizer {
  return (block, begin, end) => {
    const { x, tokens, dim } = block;
    const turn = gaussianRotation(dim, 7);
    const levels = lloydMaxSphere(dim, width);
    const y = new Float64Array(dim);
    for (const head of headsOf(block)) {
      for (let t = begin; t < end; t++) {
        const at = (head * tokens + t) * dim;
        let squares = 0;
        for (let i = 0; i < dim; i++) squares += x[at + i] ** 2;
        const norm = half(Math.sqrt(squares));
        for (let r = 0; r < dim; r++) {
          let sum = 0;
          for (let i = 0; i < dim; i++) sum += turn[r * dim + i] * x[at + i];
          y[r] = nearest(levels, norm === 0 ? 0 : sum / norm);
        }
        for (let i = 0; i < dim; i++) {
          let sum = 0;
          for (let r = 0; r < dim; r++) sum += turn[r * dim + i] * y[r];
          x[at + i] = norm * sum;
        }
      }
    }
    return block.layers * block.heads * (end - begin) * (dim * width + 16);
  };
}

function nearest(levels: Float64Array, value: number): number {
  let best = levels[0];
  for (const level of levels) if (Math.abs(level - value) < Math.abs(best - value)) best = level;
  return best;
}
