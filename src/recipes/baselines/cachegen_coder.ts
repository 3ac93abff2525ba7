/**
 * Coder of recipe cachegen, after lmcache/storage_backend/serde/cachegen_{basics,encoder,decoder}.py. The paper's anchor
 * tokens and deltas are not in that code, nor here.
 *
 * M = bins ÷ 2 − 1 by layer; a = absmax of a token over all heads and channels of a layer; q = round(x · M ÷ a) + M, halves
 * to even; x̂ = (q − M) · a ÷ M. LMCache codes each channel of a layer by arithmetic coding with a table of its own, and
 * stores the tables with every chunk; here channels of a layer that are distributed alike share one of up to 16 tables,
 * and the coder is rANS.
 *
 * Streams: MAX a [layers][tokens], binary16; SYM for each layer a u32 length and rows [heads][dim] of symbols [tokens]
 * (src/stages/entropy/row_classes.ts).
 *
 * @module
 */
import { numberToF16 } from "../../cache/elements.ts";
import { KvzFormatError } from "../../errors.ts";
import { openRans, type RansFactory } from "../../stages/entropy/rans_factory.ts";
import { allInOrder } from "../../stages/in_order.ts";
import { codedRowsLimit, decodeRows, encodeRows } from "../../stages/entropy/row_classes.ts";
import type { CoderContext, TensorBlock, TensorCoder, TensorRange, TensorShape } from "../tensor/coder.ts";
import { finiteHalves, halfBytes, halfValues, requireHalves } from "../tensor/halves.ts";
import { layerBytes } from "../tensor/rows.ts";
import type { CachegenOptions } from "./cachegen.ts";

/** Bins of the layer thirds for keys; of the first two layers and of the others for values. */
const BINS: Readonly<Record<number, { readonly key: readonly number[]; readonly value: readonly number[] }>> = {
  1: { key: [16, 16, 12], value: [16, 12] },
  2: { key: [32, 16, 16], value: [32, 16] },
  3: { key: [32, 32, 32], value: [32, 32] },
};

/** Symbols of a layer from which 16 tables pay (within 0.5 % of the best number), so that fewer need not be tried. */
const MANY = 1 << 15;

/** Layers whose values have the first number of bins. */
const FIRST_VALUES = 2;

/** M of a layer: codes reach from −M to M. */
export function cachegenReach({ kind, layers }: TensorShape, level: number, layer: number): number {
  const bins = kind === "key"
    ? BINS[level].key[layer < Math.floor(layers / 3) ? 0 : layer < Math.floor(2 * layers / 3) ? 1 : 2]
    : BINS[level].value[layer < FIRST_VALUES ? 0 : 1];
  return bins / 2 - 1;
}

/** Makes the coder of one kind. */
export async function open(
  { level }: CachegenOptions,
  { shapes: [shape], backend }: CoderContext,
): Promise<TensorCoder> {
  return new CachegenCoder(shape, level, await openRans(backend));
}

class CachegenCoder implements TensorCoder {
  readonly #shape: TensorShape;
  readonly #level: number;
  readonly #rans: RansFactory;

  constructor(shape: TensorShape, level: number, rans: RansFactory) {
    this.#shape = shape;
    this.#level = level;
    this.#rans = rans;
  }

  async encode([block]: readonly TensorBlock[]): Promise<Uint8Array[]> {
    const { layers, heads, dim } = this.#shape;
    const { x, tokens } = block;
    const channels = heads * dim;
    const most = new Uint16Array(layers * tokens);
    for (let layer = 0; layer < layers; layer++) {
      absMaxima(x.subarray(layer * channels * tokens, (layer + 1) * channels * tokens), heads, tokens, dim)
        .forEach((value, t) => most[layer * tokens + t] = numberToF16(value));
    }
    requireHalves(most, block, (i) => Math.floor(i / tokens) * heads * tokens + i % tokens);
    const halves = halfValues();
    const coded: Promise<Uint8Array>[] = [];
    for (let layer = 0; layer < layers; layer++) {
      const reach = cachegenReach(this.#shape, this.#level, layer);
      const symbols = new Uint8Array(channels * tokens).fill(reach);
      for (let head = 0; head < heads; head++) {
        for (let t = 0; t < tokens; t++) {
          const a = halves[most[layer * tokens + t]];
          if (a === 0) continue;
          const at = ((layer * heads + head) * tokens + t) * dim;
          for (let i = 0; i < dim; i++) {
            symbols[(head * dim + i) * tokens + t] = reach + signedCode(x[at + i] * (reach / a), reach);
          }
        }
      }
      coded.push(encodeRows(this.#rans, symbols, channels, tokens, symbols.length < MANY ? undefined : [16]));
    }
    return [halfBytes(most), joinParts(await allInOrder(coded))];
  }

  async decode([maxima, coded]: readonly Uint8Array[], range: TensorRange): Promise<Float32Array[]> {
    const { layers, heads, dim, kind } = this.#shape;
    const { tokens, layerBegin, layerEnd } = range;
    const channels = heads * dim;
    const most = finiteHalves(layerBytes(maxima, 2 * tokens, this.#shape, range), `maxima of ${kind}s`);
    const halves = halfValues();
    const parts = splitParts(coded, layers, kind);
    const x = new Float32Array((layerEnd - layerBegin) * channels * tokens);
    const wanted = parts.slice(layerBegin, layerEnd);
    const decoded = await allInOrder(wanted.map((part) => decodeRows(this.#rans, part, channels, tokens)));
    for (let layer = layerBegin; layer < layerEnd; layer++) {
      const reach = cachegenReach(this.#shape, this.#level, layer);
      const symbols = decoded[layer - layerBegin];
      if (symbols.some((symbol) => symbol > 2 * reach)) {
        throw new KvzFormatError(`Cannot decode ${kind}s: a symbol of layer ${layer} is above ${2 * reach}`);
      }
      const first = layer - layerBegin;
      for (let head = 0; head < heads; head++) {
        for (let t = 0; t < tokens; t++) {
          const step = halves[most[first * tokens + t]] / reach;
          const at = ((first * heads + head) * tokens + t) * dim;
          for (let i = 0; i < dim; i++) x[at + i] = (symbols[(head * dim + i) * tokens + t] - reach) * step;
        }
      }
    }
    return [x];
  }

  limits(tokens: number): number[] {
    const { layers, heads, dim } = this.#shape;
    return [2 * layers * tokens, layers * (4 + codedRowsLimit(heads * dim, tokens))];
  }
}

/** Largest magnitude of each token over [heads][tokens][dim]. */
function absMaxima(x: Float32Array, heads: number, tokens: number, dim: number): Float32Array {
  const most = new Float32Array(tokens);
  for (let head = 0, i = 0; head < heads; head++) {
    for (let t = 0; t < tokens; t++) {
      const end = i + dim;
      for (; i < end; i++) if (Math.abs(x[i]) > most[t]) most[t] = Math.abs(x[i]);
    }
  }
  return most;
}

/** Rounded, halves to even, within ±reach (the absmax in binary16 may be a little less than the absmax). */
function signedCode(value: number, reach: number): number {
  const magnitude = Math.min(Math.abs(value), reach);
  let code = (magnitude + 0.5) | 0;
  if (code - magnitude === 0.5) code &= ~1;
  return value < 0 ? -code : code;
}

function joinParts(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + 4 + part.length, 0));
  const view = new DataView(out.buffer);
  let at = 0;
  for (const part of parts) {
    view.setUint32(at, part.length, true);
    out.set(part, at + 4);
    at += 4 + part.length;
  }
  return out;
}

function splitParts(bytes: Uint8Array, count: number, kind: string): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const parts: Uint8Array[] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    const end = at + 4 <= bytes.length ? at + 4 + view.getUint32(at, true) : Infinity;
    if (end > bytes.length) throw new KvzFormatError(`Cannot decode ${kind}s: the symbols of layer ${i} are truncated`);
    parts.push(bytes.subarray(at + 4, end));
    at = end;
  }
  if (at !== bytes.length) throw new KvzFormatError(`Cannot decode ${kind}s: there are symbols after the last layer`);
  return parts;
}
