/**
 * rANS for the latents of recipe kvcar (`entropy: "rans"`), which the paper does not have: the same latents in fewer bytes.
 * Numbers of a latent that are distributed alike share one of up to 16 tables, as cachegen's channels do
 * (src/stages/entropy/row_classes.ts).
 *
 * Stream LAT becomes, for each layer with an autoencoder, rising: u32 n; n bytes of symbols [latent][tokens], plain where n
 * is latent · tokens, else coded rows; with float16 then lower bytes [tokens][latent]. A symbol is an int8 code + 128, or the
 * upper byte of a binary16, sign, exponent and two bits of the fraction: the lower one is as good as random.
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import type { KvcarKind } from "../../profile/kvcar/types.ts";
import type { RansFactory } from "../../stages/entropy/rans_factory.ts";
import { allInOrder } from "../../stages/in_order.ts";
import { decodeRows, encodeRows } from "../../stages/entropy/row_classes.ts";
import type { HalvesBlock, TensorBlock, TensorCoder, TensorRange, TensorShape } from "../tensor/coder.ts";

/** Symbols of a layer from which 16 tables pay, so that fewer need not be tried. */
const MANY = 1 << 15;

/** The coder without entropy coding, whose streams it codes. */
type PlainCoder = TensorCoder & Disposable & Required<Pick<TensorCoder, "join" | "encodeHalves" | "decodeHalves">>;

/** Codes the latents that another coder makes. */
export class LatentEntropyCoder implements TensorCoder {
  readonly #inner: PlainCoder;
  readonly #shape: TensorShape;
  readonly #kind: KvcarKind;
  /** Bytes of a number of a latent: 1 or 2. */
  readonly #width: number;
  readonly #rans: RansFactory;

  constructor(inner: PlainCoder, shape: TensorShape, kind: KvcarKind, int8: boolean, rans: RansFactory) {
    this.#inner = inner;
    this.#shape = shape;
    this.#kind = kind;
    this.#width = int8 ? 1 : 2;
    this.#rans = rans;
  }

  async encode(blocks: readonly TensorBlock[]): Promise<Uint8Array[]> {
    return await this.#code(await this.#inner.encode(blocks), blocks[0].tokens);
  }

  async encodeHalves(blocks: readonly HalvesBlock[]): Promise<Uint8Array[]> {
    return await this.#code(await this.#inner.encodeHalves(blocks), blocks[0].tokens);
  }

  async decode(streams: readonly Uint8Array[], range: TensorRange): Promise<readonly Float32Array[]> {
    return await this.#inner.decode(await this.#wanted(streams, range), range);
  }

  async decodeHalves(streams: readonly Uint8Array[], range: TensorRange): Promise<readonly Uint16Array[]> {
    return await this.#inner.decodeHalves(await this.#wanted(streams, range), range);
  }

  limits(tokens: number): readonly number[] {
    const [latents, ...others] = this.#inner.limits(tokens);
    return [latents + 4 * this.#kind.autoencoders.length, ...others];
  }

  async join(
    before: readonly Uint8Array[],
    beforeTokens: number,
    after: readonly Uint8Array[],
    afterTokens: number,
  ): Promise<readonly Uint8Array[]> {
    const every = () => true;
    const first = await this.#plain(before, beforeTokens, every);
    const second = await this.#plain(after, afterTokens, every);
    const both = await this.#inner.join(first, beforeTokens, second, afterTokens);
    return await this.#code(both, beforeTokens + afterTokens);
  }

  [Symbol.dispose](): void {
    this.#inner[Symbol.dispose]();
  }

  async #code([latents, ...others]: readonly Uint8Array[], tokens: number): Promise<Uint8Array[]> {
    let from = 0;
    const layers = await allInOrder(this.#kind.autoencoders.map(async ({ latent }) => {
      const count = latent * tokens;
      const part = latents.subarray(from, from += count * this.#width);
      const symbols = this.#symbolsOf(part, latent, tokens);
      const coded = count === 0
        ? symbols
        : await encodeRows(this.#rans, symbols, latent, tokens, count < MANY ? undefined : [16]);
      return { count, part, symbols, coded };
    }));
    const out = new Uint8Array(this.limits(tokens)[0]);
    const view = new DataView(out.buffer);
    let to = 0;
    for (const { count, part, symbols, coded } of layers) {
      const shorter = coded.length < count ? coded : symbols;
      view.setUint32(to, shorter.length, true);
      out.set(shorter, to += 4);
      to += shorter.length;
      if (this.#width === 2) {
        for (let i = 0; i < count; i++) out[to++] = part[2 * i];
      }
    }
    return [out.slice(0, to), ...others];
  }

  /** The inner coder's streams for a range. */
  async #wanted(streams: readonly Uint8Array[], { tokens, layerBegin, layerEnd }: TensorRange): Promise<Uint8Array[]> {
    const { heads } = this.#shape;
    const wanted = this.#kind.sources.subarray(layerBegin * heads, layerEnd * heads);
    const layers = new Set(Array.from(wanted, (slot) => Math.floor(slot / heads)));
    return await this.#plain(streams, tokens, (layer) => layers.has(layer));
  }

  /** Undoes {@linkcode LatentEntropyCoder.#code}; latents of layers that are not wanted are zeros. */
  async #plain(
    [coded, ...others]: readonly Uint8Array[],
    tokens: number,
    wanted: (layer: number) => boolean,
  ): Promise<Uint8Array[]> {
    const out = new Uint8Array(this.#inner.limits(tokens)[0]);
    const view = new DataView(coded.buffer, coded.byteOffset, coded.length);
    let [from, to] = [0, 0];
    const layers: { bytes: Uint8Array; lower: Uint8Array; latent: number; count: number; to: number }[] = [];
    for (const { layer, latent } of this.#kind.autoencoders) {
      const count = latent * tokens;
      const length = from + 4 <= coded.length ? view.getUint32(from, true) : Infinity;
      const lower = from + 4 + length;
      const end = lower + (this.#width - 1) * count;
      if (length > count || end > coded.length) {
        throw new KvzFormatError(
          `Cannot decode ${this.#shape.kind}s: the latents of layer ${layer} are truncated, or more than ${count}`,
        );
      }
      if (wanted(layer)) {
        const bytes = coded.subarray(from + 4, lower);
        layers.push({ bytes, lower: coded.subarray(lower, end), latent, count, to });
      }
      from = end;
      to += count * this.#width;
    }
    if (from !== coded.length) {
      throw new KvzFormatError(`Cannot decode ${this.#shape.kind}s: there are latents after those of the last layer`);
    }
    await allInOrder(layers.map(async ({ bytes, lower, latent, count, to }) => {
      const symbols = bytes.length === count ? bytes : await decodeRows(this.#rans, bytes, latent, tokens);
      this.#latentsOf(symbols, lower, latent, tokens, out.subarray(to));
    }));
    return [out, ...others];
  }

  /** Symbols [latent][tokens] of numbers [tokens][latent]. */
  #symbolsOf(numbers: Uint8Array, latent: number, tokens: number): Uint8Array {
    const symbols = new Uint8Array(latent * tokens);
    const [width, flip] = [this.#width, this.#width === 1 ? 0x80 : 0];
    for (let t = 0, at = width - 1; t < tokens; t++) {
      for (let i = 0; i < latent; i++, at += width) symbols[i * tokens + t] = numbers[at] ^ flip;
    }
    return symbols;
  }

  #latentsOf(symbols: Uint8Array, lower: Uint8Array, latent: number, tokens: number, to: Uint8Array): void {
    const [width, flip] = [this.#width, this.#width === 1 ? 0x80 : 0];
    for (let t = 0, at = width - 1; t < tokens; t++) {
      for (let i = 0; i < latent; i++, at += width) to[at] = symbols[i * tokens + t] ^ flip;
    }
    for (let i = 0; i < lower.length; i++) to[2 * i] = lower[i];
  }
}
