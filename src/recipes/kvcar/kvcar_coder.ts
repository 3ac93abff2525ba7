/**
 * Coder of recipe kvcar, by rising layer:
 *
 * - LAT: latents of the layers with an autoencoder, [tokens][latent] each, binary16 or int8;
 * - SCL: min and max of every int8 latent as binary16, [layers][tokens][2]; empty with binary16;
 * - RAW: source elements of the other layers' stored heads, [heads][tokens][dim] each.
 *
 * Slots that reuse another's are in none. With rANS, LAT is what latent_entropy.ts makes of it.
 *
 * @module
 */
import { asUint16, fromFloat32, toFloat32 } from "../../cache/elements.ts";
import { findNonFinite } from "../../cache/finite.ts";
import { BYTES_PER_ELEMENT, type DType } from "../../cache/types.ts";
import { KvzFormatError } from "../../errors.ts";
import { type KvcarKind, storedHeads } from "../../profile/kvcar/types.ts";
import { requireProfile } from "../../profile/require.ts";
import { openRans } from "../../stages/entropy/rans_factory.ts";
import type { Int8Rows } from "../../stages/quantize/latent_int8.ts";
import { joinRows } from "../../stages/tokens/join.ts";
import { AutoencoderNet } from "../../stages/transform/autoencoder.ts";
import { type NetFactory, openNets, type RowElements } from "../../stages/transform/dense.ts";
import type {
  BlockShape,
  CoderContext,
  HalvesBlock,
  TensorBlock,
  TensorCoder,
  TensorRange,
  TensorShape,
} from "../tensor/coder.ts";
import { elementsOf, finiteHalves, halfBytes, halfValues, requireHalves } from "../tensor/halves.ts";
import type { KvcarOptions } from "./kvcar.ts";
import { LatentEntropyCoder } from "./latent_entropy.ts";

/** Makes the coder of one kind. */
export async function open(options: KvcarOptions, context: CoderContext): Promise<TensorCoder> {
  const { shapes: [shape], storedDType } = context;
  const { kinds, slope } = requireProfile(context.profile ?? null, "kvcar");
  const kind = kinds[shape.kind];
  const coder = new KvcarCoder(options, shape, storedDType, kind, slope, await openNets(context.backend));
  if (options.entropy === undefined) return coder;
  return new LatentEntropyCoder(coder, shape, kind, options.latents === "int8", await openRans(context.backend));
}

/** What a layer stores. */
interface LayerPart {
  /** Heads, ascending. */
  readonly heads: readonly number[];
  /** Its autoencoder and the latent's elements; null: raw elements. */
  readonly coded: { readonly net: AutoencoderNet; readonly latent: number } | null;
  /** Bytes a token in LAT, SCL and RAW. */
  readonly bytes: readonly [number, number, number];
}

class KvcarCoder implements TensorCoder {
  readonly #shape: TensorShape;
  readonly #dtype: DType;
  readonly #int8: boolean;
  readonly #sources: Int32Array;
  readonly #parts: readonly LayerPart[];

  constructor(
    { latents }: KvcarOptions,
    shape: TensorShape,
    dtype: DType,
    { sources, autoencoders }: KvcarKind,
    slope: number,
    nets: NetFactory,
  ) {
    const int8 = latents === "int8";
    this.#shape = shape;
    this.#dtype = dtype;
    this.#int8 = int8;
    this.#sources = sources;
    this.#parts = Array.from({ length: shape.layers }, (_, layer): LayerPart => {
      const heads = storedHeads(sources, layer, shape.heads);
      const found = autoencoders.find((autoencoder) => autoencoder.layer === layer);
      if (found === undefined) {
        return { heads, coded: null, bytes: [0, 0, heads.length * shape.dim * BYTES_PER_ELEMENT[dtype]] };
      }
      const { latent } = found;
      const net = new AutoencoderNet(nets, found, slope);
      return { heads, coded: { net, latent }, bytes: int8 ? [latent, 4, 0] : [2 * latent, 0, 0] };
    });
  }

  encode([block]: readonly TensorBlock[]): Promise<Uint8Array[]> {
    return this.#encode(block, block.x);
  }

  encodeHalves([block]: readonly HalvesBlock[]): Promise<Uint8Array[]> {
    return this.#encode(block, block.halves);
  }

  async #encode(block: BlockShape, elements: RowElements): Promise<Uint8Array[]> {
    const { tokens } = block;
    const streams = this.limits(tokens).map((length) => new Uint8Array(length));
    // All layers at once: a GPU has all of them to do before the first is waited for.
    const layers: Promise<void>[] = [];
    this.#walk(
      tokens,
      (part, layer, begins) => layers.push(this.#encodeLayer(block, elements, part, layer, begins, streams)),
    );
    await Promise.all(layers);
    return streams;
  }

  async #encodeLayer(
    block: BlockShape,
    elements: RowElements,
    { heads, coded }: LayerPart,
    layer: number,
    [lat, scl, raw]: [number, number][],
    streams: readonly Uint8Array[],
  ): Promise<void> {
    const perHead = block.tokens * block.dim;
    const ofHead = (head: number) => {
      const at = (layer * block.heads + head) * perHead;
      return elements.subarray(at, at + perHead);
    };
    if (coded === null) {
      const width = BYTES_PER_ELEMENT[this.#dtype];
      heads.forEach((head, i) => streams[2].set(bytesOf(ofHead(head), this.#dtype), raw[0] + i * perHead * width));
      return;
    }
    const rows = together(heads.map(ofHead));
    const rowOf = (row: number) => layer * block.heads * block.tokens + row;
    if (this.#int8) {
      const { codes, limits } = await coded.net.encodeToInt8(rows, heads.length);
      requireHalves(limits, block, (i) => rowOf(i >> 1));
      streams[0].set(codes, lat[0]);
      streams[1].set(halfBytes(limits), scl[0]);
    } else {
      const latents = await coded.net.encodeToHalves(rows, heads.length);
      requireHalves(latents, block, (i) => rowOf(Math.floor(i / coded.latent)));
      streams[0].set(new Uint8Array(latents.buffer), lat[0]);
    }
  }

  async decode(streams: readonly Uint8Array[], range: TensorRange): Promise<Float32Array[]> {
    return [
      await this.#decode(
        streams,
        range,
        (length) => new Float32Array(length),
        (raw) => toFloat32(raw, this.#dtype),
        (net, latents, heads) => net.decode(latents, heads),
      ),
    ];
  }

  async decodeHalves(streams: readonly Uint8Array[], range: TensorRange): Promise<Uint16Array[]> {
    return [
      await this.#decode(
        streams,
        range,
        (length) => new Uint16Array(length),
        (raw) => asUint16(elementsOf(toFloat32(raw, this.#dtype), "f16")),
        (net, latents, heads) => net.decodeToHalves(latents, heads),
      ),
    ];
  }

  /** Decodes to elements of either type; `rawOf` makes them of stored ones, `restore` of latents. */
  async #decode<Elements extends RowElements>(
    streams: readonly Uint8Array[],
    { tokens, layerBegin, layerEnd }: TensorRange,
    alloc: (length: number) => Elements,
    rawOf: (bytes: Uint8Array) => Elements,
    restore: (net: AutoencoderNet, latents: RowElements | Int8Rows, heads: number) => Promise<Elements>,
  ): Promise<Elements> {
    const { kind, heads: kvHeads, dim } = this.#shape;
    const lengths = this.limits(tokens);
    streams.forEach((stream, i) => {
      if (stream.length !== lengths[i]) {
        throw new KvzFormatError(
          `Cannot decode ${kind}s: stream ${i} has ${stream.length} bytes, expected ${lengths[i]}`,
        );
      }
    });
    const perHead = tokens * dim;
    const wanted = this.#sources.subarray(layerBegin * kvHeads, layerEnd * kvHeads);
    const out = alloc(wanted.length * perHead);
    const ofLayer = async (
      { heads, coded }: LayerPart,
      layer: number,
      [lat, scl, raw]: [number, number][],
      places: readonly [head: number, slot: number][],
    ) => {
      let restored: Elements;
      if (coded === null) restored = rawOf(streams[2].slice(...raw));
      else {
        const what = `latents of ${kind}s of layer ${layer}`;
        const latents = this.#int8
          ? int8Rows(streams[0].subarray(...lat), streams[1].subarray(...scl), what)
          : asUint16(streams[0].slice(...lat));
        if (!("codes" in latents) && !allFinite(latents)) {
          throw new KvzFormatError(`Cannot decode ${what}: a number is not finite`);
        }
        restored = await restore(coded.net, latents, heads.length);
        if (!allFinite(restored)) throw new KvzFormatError(`Cannot decode ${what}: they give infinities`);
      }
      for (const [head, slot] of places) {
        out.set(restored.subarray(head * perHead, (head + 1) * perHead), slot * perHead);
      }
    };
    const layers: Promise<void>[] = [];
    this.#walk(tokens, (part, layer, ranges) => {
      const places: [head: number, slot: number][] = [];
      wanted.forEach((source, slot) => {
        if (Math.floor(source / kvHeads) === layer) places.push([part.heads.indexOf(source % kvHeads), slot]);
      });
      if (places.length > 0) layers.push(ofLayer(part, layer, ranges, places));
    });
    await Promise.all(layers);
    return out;
  }

  limits(tokens: number): number[] {
    return [0, 1, 2].map((i) => this.#parts.reduce((sum, { bytes }) => sum + tokens * bytes[i], 0));
  }

  join(
    before: readonly Uint8Array[],
    beforeTokens: number,
    after: readonly Uint8Array[],
    afterTokens: number,
  ): Uint8Array[] {
    const pieces: Uint8Array[][] = [[], [], []];
    const second: [number, number][][] = [];
    this.#walk(afterTokens, (_, __, ranges) => second.push(ranges));
    let part = 0;
    this.#walk(beforeTokens, ({ heads, coded }, _, ranges) => {
      const blocks = [1, 1, coded === null ? Math.max(1, heads.length) : 1];
      pieces.forEach((list, i) => {
        const [first, last] = [before[i].subarray(...ranges[i]), after[i].subarray(...second[part][i])];
        list.push(joinRows(first, last, blocks[i]));
      });
      part++;
    });
    return pieces.map((list) => {
      const out = new Uint8Array(list.reduce((sum, { length }) => sum + length, 0));
      let at = 0;
      for (const piece of list) {
        out.set(piece, at);
        at += piece.length;
      }
      return out;
    });
  }

  [Symbol.dispose](): void {
    for (const { coded } of this.#parts) coded?.net[Symbol.dispose]();
  }

  /** Visits the layers with their ranges of bytes in LAT, SCL and RAW. */
  #walk(tokens: number, visit: (part: LayerPart, layer: number, ranges: [number, number][]) => void): void {
    const at = [0, 0, 0];
    this.#parts.forEach((part, layer) => {
      const ranges = part.bytes.map((bytes, i): [number, number] => [at[i], at[i] + tokens * bytes]);
      ranges.forEach(([, end], i) => at[i] = end);
      visit(part, layer, ranges);
    });
  }
}

/** Blocks one after another. Views that lie so already are not copied. */
function together(blocks: readonly RowElements[]): RowElements {
  const [{ buffer, byteOffset, byteLength, length }] = blocks;
  const Elements = blocks[0] instanceof Float32Array ? Float32Array : Uint16Array;
  if (blocks.every((block, i) => block.byteOffset === byteOffset + i * byteLength)) {
    return new Elements(buffer as ArrayBuffer, byteOffset, blocks.length * length);
  }
  const out = new Elements(blocks.length * length);
  blocks.forEach((block, i) => out.set(block, i * length));
  return out;
}

function bytesOf(elements: RowElements, dtype: DType): Uint8Array {
  if (elements instanceof Float32Array) return fromFloat32(elements, dtype);
  return new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength);
}

function allFinite(elements: RowElements): boolean {
  const bytes = new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength);
  return findNonFinite(bytes, elements instanceof Float32Array ? "f32" : "f16") < 0;
}

/** Rows between limits that give finite numbers. */
function int8Rows(codes: Uint8Array, scales: Uint8Array, what: string): Int8Rows {
  const limits = finiteHalves(scales, what);
  const values = halfValues();
  for (let i = 0; i < limits.length; i += 2) {
    if (values[limits[i]] > values[limits[i + 1]]) {
      throw new KvzFormatError(`Cannot decode ${what}: min is above max in row ${i / 2}`);
    }
  }
  return { codes, limits };
}
