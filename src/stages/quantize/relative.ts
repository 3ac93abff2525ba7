/**
 * Uniform quantization with a step relative to the range of a group (KVComp, arXiv 2509.00579; utils/compute.py of its
 * authors):
 *
 *     scale = binary16((max − min) · rel), first = round(min / scale), q = round(x / scale) − first,
 *     x̂ = (q + first) · scale
 *
 * so that |x − x̂| ≤ scale / 2. Rounding is to nearest even, as torch.round does, of quotients in float64. Where the
 * authors' code breaks, this does not: `first` is a whole number of 32 bits (theirs of 8, which −1 / 0.005 exceeds), a
 * scale is never 0, and every q fits the alphabet.
 *
 * @module
 */
import { f16ToNumber, numberToF16 } from "../../cache/elements.ts";
import { KvzUnsupportedError } from "../../errors.ts";

/** What shares a scale, always of one layer: a block of tokens, each of its channels, or each of its tokens. */
export type Grouping = "block" | "channel" | "token";

/** Shape of a tensor [layers][heads][tokens][dim] and of its groups. */
export interface RelativeShape {
  readonly layers: number;
  readonly heads: number;
  /** A multiple of `block`. */
  readonly tokens: number;
  readonly dim: number;
  /** Tokens of a block. */
  readonly block: number;
  readonly grouping: Grouping;
}

/** A quantized tensor. */
export interface RelativeCodes {
  /** q, [layers][heads][tokens][dim]. */
  readonly symbols: Uint8Array;
  /** Binary16 bits of the scale of each group. */
  readonly scales: Uint16Array;
  /** `first` of each group. */
  readonly firsts: Int32Array;
}

/** Smallest and largest relative step that a byte of symbols takes. */
export const LEAST_REL = 1 / 240;
/** See {@linkcode LEAST_REL}. */
export const MOST_REL = 1;

/** 1.5 · 2^52: adding and taking it away rounds to a whole number, ties to even. */
const ROUNDER = 6755399441055744;

/**
 * Symbols that a relative step may give, 0 to alphabet − 1: q is at most ⌊1 / rel · (1 + 2^-10)⌋ + 1, the factor for
 * the rounding of the scale.
 */
export function alphabetOf(rel: number): number {
  return Math.floor(1.0009765625 / rel) + 2;
}

/** Number of groups of a tensor: of layer after layer, block after block; see {@linkcode groupsOfBlock}. */
export function groupCount({ layers, tokens, block, ...shape }: RelativeShape): number {
  return layers * (tokens / block) * groupsOfBlock({ block, ...shape });
}

/** Groups of a block of a layer: 1, a group a token, or a group a channel [heads][dim]. */
export function groupsOfBlock(
  { heads, dim, block, grouping }: Pick<RelativeShape, "heads" | "dim" | "block" | "grouping">,
) {
  return grouping === "block" ? 1 : grouping === "token" ? block : heads * dim;
}

/** Calls `visit` with the group, the index of the first element and the stride of every run of `count` elements. */
function forRuns(
  { layers, heads, tokens, dim, block, grouping }: RelativeShape,
  visit: (group: number, at: number, stride: number, count: number) => void,
): void {
  const blocks = tokens / block;
  const each = groupsOfBlock({ heads, dim, block, grouping });
  for (let layer = 0; layer < layers; layer++) {
    for (let b = 0; b < blocks; b++) {
      const first = (layer * blocks + b) * each;
      for (let head = 0; head < heads; head++) {
        const at = ((layer * heads + head) * tokens + b * block) * dim;
        if (grouping === "block") visit(first, at, 1, block * dim);
        else if (grouping === "token") {
          for (let t = 0; t < block; t++) visit(first + t, at + t * dim, 1, dim);
        } else {
          for (let i = 0; i < dim; i++) visit(first + head * dim + i, at + i, dim, block);
        }
      }
    }
  }
}

/**
 * Quantizes finite elements.
 *
 * @throws {KvzUnsupportedError} A group's range or offset is beyond what binary16 scales reach; `place` names it by its
 * index.
 */
export function quantizeRelative(
  x: Float32Array,
  shape: RelativeShape,
  rel: number,
  place: (group: number) => string,
): RelativeCodes {
  const groups = groupCount(shape);
  const low = new Float32Array(groups).fill(Infinity);
  const high = new Float32Array(groups).fill(-Infinity);
  forRuns(shape, (group, at, stride, count) => {
    let [least, most] = [low[group], high[group]];
    for (let n = 0, i = at; n < count; n++, i += stride) {
      const value = x[i];
      if (value < least) least = value;
      if (value > most) most = value;
    }
    low[group] = least;
    high[group] = most;
  });
  const scales = new Uint16Array(groups);
  const firsts = new Int32Array(groups);
  const steps = new Float64Array(groups);
  const top = alphabetOf(rel) - 1;
  for (let group = 0; group < groups; group++) {
    const bits = chooseScale(low[group], high[group], rel, top);
    const scale = f16ToNumber(bits);
    const first = low[group] / scale;
    if (!(scale < Infinity && Math.abs(first) < 0x7fffff00)) {
      throw new KvzUnsupportedError(
        `Cannot quantize ${place(group)}: its elements from ${low[group]} to ${high[group]} have no scale in binary16`,
      );
    }
    scales[group] = bits;
    steps[group] = scale;
    firsts[group] = first + ROUNDER - ROUNDER;
  }
  const symbols = new Uint8Array(x.length);
  forRuns(shape, (group, at, stride, count) => {
    const [step, first] = [steps[group], firsts[group]];
    for (let n = 0, i = at; n < count; n++, i += stride) symbols[i] = x[i] / step + ROUNDER - ROUNDER - first;
  });
  return { symbols, scales, firsts };
}

/** Bits of the binary16 scale of a group; infinity where there is none. */
function chooseScale(low: number, high: number, rel: number, top: number): number {
  // One value: a scale of which it is a whole multiple, so that it comes back exactly, as far as binary16 has one.
  if (low === high) {
    let scale = 32768;
    while (scale > 2 ** -24 && low % scale !== 0) scale /= 2;
    return numberToF16(scale);
  }
  // The least scale above 0 at least; then up to the first with which all symbols are in the alphabet.
  let bits = Math.max(1, numberToF16((high - low) * rel));
  for (; bits < 0x7c00; bits++) {
    const scale = f16ToNumber(bits);
    if (high / scale + ROUNDER - ROUNDER - (low / scale + ROUNDER - ROUNDER) <= top) break;
  }
  return bits;
}

/** Inverse of {@linkcode quantizeRelative}, for the layers that the shape says. */
export function dequantizeRelative({ symbols, scales, firsts }: RelativeCodes, shape: RelativeShape): Float32Array {
  const out = new Float32Array(symbols.length);
  forRuns(shape, (group, at, stride, count) => {
    const [scale, first] = [f16ToNumber(scales[group]), firsts[group]];
    for (let n = 0, i = at; n < count; n++, i += stride) out[i] = (symbols[i] + first) * scale;
  });
  return out;
}
