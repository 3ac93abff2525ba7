/**
 * How far a restored cache is from the original: relative errors ‖x̂ − x‖ / ‖x‖ by kind, region, layer and token, the
 * largest absolute error, and whether raw tokens came back bit by bit.
 *
 * @module
 */
import { toFloat32 } from "../cache/elements.ts";
import type { CacheSource, DType, Kind } from "../cache/types.ts";
import type { CacheBlock } from "../codec/decode.ts";
import { KvzMismatchError } from "../errors.ts";

/** What is compared of a restored block. */
export type RestoredBlock = Pick<CacheBlock, "kind" | "begin" | "tokens" | "positions" | "data">;

/** Tokens by the way they are stored. */
export interface RegionCounts {
  /** Oldest tokens, in FP8. */
  readonly sinks: number;
  /** Tokens between them. */
  readonly coded: number;
  /** Newest tokens, bit-exact. */
  readonly window: number;
}

/** Errors of keys or values. `null` where there is nothing to measure. */
export interface KindErrors {
  /** Relative error over all tokens. */
  readonly relative: number | null;
  /** Relative error by region; `coded` is what papers report. */
  readonly regions: { readonly sinks: number | null; readonly coded: number | null; readonly window: number | null };
  /** Largest absolute difference. */
  readonly maxAbs: number;
  /** Relative error of each layer over all tokens. */
  readonly layers: readonly (number | null)[];
  /** Relative error of each token over all layers. */
  readonly tokens: readonly (number | null)[];
}

/** Result of {@linkcode measureErrors}. */
export interface CacheErrors {
  readonly key: KindErrors;
  readonly value: KindErrors;
  /** Whether all tokens of the raw window are equal bit by bit; null without a window. */
  readonly windowBitExact: boolean | null;
}

/** Sums of squares of keys or values. */
class Sums {
  readonly layerError: Float64Array;
  readonly layerNorm: Float64Array;
  readonly tokenError: Float64Array;
  readonly tokenNorm: Float64Array;
  maxAbs = 0;

  constructor(layers: number, tokens: number) {
    this.layerError = new Float64Array(layers);
    this.layerNorm = new Float64Array(layers);
    this.tokenError = new Float64Array(tokens);
    this.tokenNorm = new Float64Array(tokens);
  }

  errors({ sinks, coded, window }: RegionCounts): KindErrors {
    const range = (begin: number, count: number) =>
      relative(
        sum(this.tokenError.subarray(begin, begin + count)),
        sum(this.tokenNorm.subarray(begin, begin + count)),
      );
    return {
      relative: range(0, this.tokenError.length),
      regions: { sinks: range(0, sinks), coded: range(sinks, coded), window: range(sinks + coded, window) },
      maxAbs: this.maxAbs,
      layers: Array.from(this.layerError, (error, layer) => relative(error, this.layerNorm[layer])),
      tokens: Array.from(this.tokenError, (error, token) => relative(error, this.tokenNorm[token])),
    };
  }
}

/**
 * Compares the blocks of a restored cache with the original; holds one block of each at a time.
 *
 * @throws {KvzMismatchError} when they are not of the same tokens and model
 */
export async function measureErrors(
  original: CacheSource,
  blocks: AsyncIterable<RestoredBlock> | Iterable<RestoredBlock>,
  regions: RegionCounts,
): Promise<CacheErrors> {
  const { model, dtype, tokens } = original;
  const wanted = regions.sinks + regions.coded + regions.window;
  if (tokens !== wanted) {
    throw new KvzMismatchError(`Cannot compare: the original has ${tokens} tokens, the file ${wanted}`);
  }
  const sums = { key: new Sums(model.layers, tokens), value: new Sums(model.layers, tokens) };
  const windowBegin = tokens - regions.window;
  let windowBitExact = true;
  for await (const block of blocks) {
    for (let t = 0; t < block.tokens; t++) {
      if (block.positions[t] !== original.positions[block.begin + t]) {
        throw new KvzMismatchError(
          `Cannot compare: token ${block.begin + t} has position ${original.positions[block.begin + t]} in the ` +
            `original, ${block.positions[t]} in the file`,
        );
      }
    }
    const reference = await original.read(block.kind, block.begin, block.begin + block.tokens);
    if (reference.length !== block.data.length) {
      throw new KvzMismatchError(
        `Cannot compare: ${block.kind}s of ${block.tokens} tokens have ${reference.length} bytes in the original, ` +
          `${block.data.length} in the file`,
      );
    }
    addBlock(sums[block.kind], block, reference, dtype, model);
    if (block.begin >= windowBegin && windowBitExact) windowBitExact = sameBytes(reference, block.data);
  }
  return {
    key: sums.key.errors(regions),
    value: sums.value.errors(regions),
    windowBitExact: regions.window === 0 ? null : windowBitExact,
  };
}

function addBlock(
  sums: Sums,
  block: RestoredBlock,
  reference: Uint8Array,
  dtype: DType,
  model: { readonly layers: number; readonly kvHeads: number; readonly keyDim: number; readonly valueDim: number },
): void {
  const a = toFloat32(reference, dtype);
  const b = toFloat32(block.data, dtype);
  const dim: number = dimOf(block.kind, model);
  let at = 0;
  for (let layer = 0; layer < model.layers; layer++) {
    for (let head = 0; head < model.kvHeads; head++) {
      for (let t = 0; t < block.tokens; t++) {
        let error = 0;
        let norm = 0;
        for (let i = 0; i < dim; i++, at++) {
          const difference = b[at] - a[at];
          // Equal infinities of a raw window differ by nothing.
          if (a[at] === b[at]) {
            if (Number.isFinite(a[at])) norm += a[at] * a[at];
            continue;
          }
          error += difference * difference;
          norm += a[at] * a[at];
          const size = Math.abs(difference);
          if (size > sums.maxAbs) sums.maxAbs = size;
        }
        sums.layerError[layer] += error;
        sums.layerNorm[layer] += norm;
        sums.tokenError[block.begin + t] += error;
        sums.tokenNorm[block.begin + t] += norm;
      }
    }
  }
}

function dimOf(kind: Kind, model: { readonly keyDim: number; readonly valueDim: number }): number {
  return kind === "key" ? model.keyDim : model.valueDim;
}

function sum(values: Float64Array): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

/** null for no elements or an original of zeros restored with errors (its relative error is infinite). */
function relative(error: number, norm: number): number | null {
  if (norm > 0) return Math.sqrt(error / norm);
  return null;
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.every((byte, i) => byte === b[i]);
}
