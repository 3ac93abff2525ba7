/**
 * Coder of recipe kvsharer. Stream LAY: the layers that have keys and values of their own, ascending, as the inner coder
 * stores layers: raw elements [layers][heads][tokens][dim], or ggml's blocks.
 *
 * @module
 */
import { fromFloat32, toFloat32 } from "../../cache/elements.ts";
import { BYTES_PER_ELEMENT, type DType } from "../../cache/types.ts";
import { layerMapOf, storedLayers } from "../../stages/sharing/layer_map.ts";
import { joinRows } from "../../stages/tokens/join.ts";
import { ggmlModule } from "../baselines/ggml_coder.ts";
import type { TensorBlock, TensorCoder, TensorModule, TensorRange, TensorShape } from "../tensor/coder.ts";
import { layerBytes } from "../tensor/rows.ts";
import type { KvSharerOptions } from "./kvsharer.ts";

/** The module. */
export const kvSharerModule: TensorModule<KvSharerOptions> = {
  async open({ map: text, inner }, context) {
    const { shapes: [shape], storedDType } = context;
    const map = layerMapOf(text, shape.layers);
    const stored = storedLayers(map);
    const own = { ...shape, layers: stored.length };
    // Inner recipes with a profile have a codec of their own (own_layers_codec.ts).
    const coder = inner === "raw"
      ? new RawCoder(own, storedDType)
      : await ggmlModule(inner as "q8_0" | "q4_0").open({}, { ...context, shapes: [own] });
    return new SharingCoder(coder, map.map((source) => stored.indexOf(source)), stored);
  },
};

class SharingCoder implements TensorCoder {
  readonly #inner: TensorCoder;
  /** Place of each layer's source among the stored ones. */
  readonly #places: readonly number[];
  readonly #stored: readonly number[];

  constructor(inner: TensorCoder, places: readonly number[], stored: readonly number[]) {
    this.#inner = inner;
    this.#places = places;
    this.#stored = stored;
  }

  encode([block]: readonly TensorBlock[]): ReturnType<TensorCoder["encode"]> {
    const perLayer = block.x.length / block.layers;
    const x = new Float32Array(this.#stored.length * perLayer);
    this.#stored.forEach((layer, i) => x.set(block.x.subarray(layer * perLayer, (layer + 1) * perLayer), i * perLayer));
    return this.#inner.encode([{ ...block, layers: this.#stored.length, layerNumbers: this.#stored, x }]);
  }

  async decode(streams: readonly Uint8Array[], { tokens, layerBegin, layerEnd }: TensorRange): Promise<Float32Array[]> {
    const places = this.#places.slice(layerBegin, layerEnd);
    const first = Math.min(...places);
    const range = { tokens, layerBegin: first, layerEnd: Math.max(...places) + 1 };
    const [own] = await this.#inner.decode(streams, range);
    const perLayer = own.length / (range.layerEnd - first);
    const out = new Float32Array(places.length * perLayer);
    places.forEach((place, i) => {
      const begin = (place - first) * perLayer;
      out.set(own.subarray(begin, begin + perLayer), i * perLayer);
    });
    return [out];
  }

  limits(tokens: number): readonly number[] {
    return this.#inner.limits(tokens);
  }

  // Both inner coders can join: neither codes a token by others.
  join(...parts: Parameters<NonNullable<TensorCoder["join"]>>): ReturnType<NonNullable<TensorCoder["join"]>> {
    return this.#inner.join!(...parts);
  }
}

/** Elements as they are. */
class RawCoder implements TensorCoder {
  readonly #shape: TensorShape;
  readonly #dtype: DType;

  constructor(shape: TensorShape, dtype: DType) {
    this.#shape = shape;
    this.#dtype = dtype;
  }

  // float32 holds elements of all types exactly.
  encode([{ x }]: readonly TensorBlock[]): Uint8Array[] {
    return [fromFloat32(x, this.#dtype)];
  }

  decode([bytes]: readonly Uint8Array[], range: TensorRange): Float32Array[] {
    return [toFloat32(layerBytes(bytes, this.#perLayer(range.tokens), this.#shape, range), this.#dtype)];
  }

  limits(tokens: number): number[] {
    return [this.#shape.layers * this.#perLayer(tokens)];
  }

  join([before]: readonly Uint8Array[], _: number, [after]: readonly Uint8Array[]): Uint8Array[] {
    return [joinRows(before, after, this.#shape.layers * this.#shape.heads)];
  }

  #perLayer(tokens: number): number {
    const { heads, dim } = this.#shape;
    return heads * tokens * dim * BYTES_PER_ELEMENT[this.#dtype];
  }
}
