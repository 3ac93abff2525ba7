/**
 * What the lanes of recipe kvz run.
 *
 * @module
 */
import type { Backend } from "../backend/backend.ts";
import { requireFinite } from "../cache/finite.ts";
import { BYTES_PER_ELEMENT, type Kind, KINDS } from "../cache/types.ts";
import { decodeStream, encodeStream, rawStream } from "../stages/entropy/deflate.ts";
import { type ChunkStreams, type LevelCoder, openLevelCoder } from "../stages/quantize/trellis/level_coder.ts";
import { sideLength } from "../stages/quantize/trellis/side.ts";
import { toSubsteps } from "../stages/quantize/trellis/substeps.ts";
import type { ChunkContext } from "../stages/stage.ts";
import { SinkStage } from "../stages/tokens/sinks.ts";
import { splitPlanes } from "../stages/tokens/window.ts";
import { type IntegerTransform, openIntegerTransform } from "../stages/transform/integer.ts";
import { KvzFormatError, KvzUnsupportedError } from "../errors.ts";
import { KVZ_TAGS } from "./kvz.ts";
import type { KvzSetup } from "./kvz_setup.ts";
import { decodeRawRegion, type RawShape } from "./raw_region.ts";
import type { ChunkCodec, DecodeJob, EncodeJob, InflateJob, Setup, TaggedStream } from "./recipe.ts";

/** Tag of a chunk whose entropy coding has been undone: s (i16), then coefficients in quarter steps (i16). */
const INFLATED = "QUAR";

/** Loads the kernels of the backend's build. */
export async function openCodec(backend: Backend, setup: Setup): Promise<ChunkCodec> {
  const kvzSetup = setup as KvzSetup;
  const { model, dtype, storedDType, basis, stepSets, tables, encoder } = kvzSetup;
  const { layers, kvHeads: heads, keyDim, valueDim, rope } = model;
  const geometry = { layers, heads, keyDim, valueDim, rope, dtype: encoder === null ? dtype : storedDType };
  const [transform, coder] = await Promise.all([
    openIntegerTransform(backend, geometry, basis),
    openLevelCoder(backend, basis.components, stepSets, tables),
  ]);
  return new KvzCodec(backend, kvzSetup, transform, coder);
}

class KvzCodec implements ChunkCodec {
  readonly #backend: Backend;
  readonly #setup: Pick<KvzSetup, "model" | "storedDType" | "dtype" | "encoder">;
  readonly #components: number;
  readonly #transform: IntegerTransform;
  readonly #coder: LevelCoder;
  readonly #sinks: Readonly<Record<Kind, SinkStage>>;

  /** The setup itself is not kept: a worker's copy of the basis ends with the constructor. */
  constructor(backend: Backend, setup: KvzSetup, transform: IntegerTransform, coder: LevelCoder) {
    const { model, storedDType, dtype, encoder, basis } = setup;
    this.#backend = backend;
    this.#setup = { model, storedDType, dtype, encoder };
    this.#components = basis.components;
    this.#transform = transform;
    this.#coder = coder;
    const sinks = (kind: Kind) => new SinkStage(backend, { layers: model.layers, ...this.#shape(kind) });
    this.#sinks = { key: sinks("key"), value: sinks("value") };
  }

  async encode(job: EncodeJob): Promise<TaggedStream[]> {
    const { region, tokens, positions, begin } = job;
    const { model, storedDType, encoder } = this.#setup;
    const data = new Map(job.kinds.map((kind, i) => [kind, job.data[i]]));
    if (region === "window") {
      return await this.#deflate(
        region,
        KINDS.map((kind) => splitPlanes(data.get(kind)!, BYTES_PER_ELEMENT[storedDType])),
      );
    }
    for (const kind of KINDS) {
      const { heads, dim } = this.#shape(kind);
      requireFinite(data.get(kind)!, storedDType, { kind, heads, tokens, dim, firstToken: begin });
    }
    const ctx: ChunkContext = { tokens, positions, layerBegin: 0, layerEnd: model.layers };
    if (region === "sinks") {
      const streams: Uint8Array[] = [];
      for (const kind of KINDS) streams.push(await this.#sinks[kind].encode(data.get(kind)!, ctx));
      return await this.#deflate(region, streams);
    }
    const before = job.previous === undefined
      ? null
      : this.#coder.decodeLevels(await this.#unpack(job.previous.tokens, job.previous.streams), job.previous.tokens);
    const coefficients = await this.#transform.encode({ key: data.get("key")!, value: data.get("value")! }, ctx);
    const { y, s } = toSubsteps(coefficients, this.#components, tokens, before?.s ?? encoder!.s);
    if (before !== null && s !== before.s) {
      throw new KvzUnsupportedError(
        `Cannot append: token ${begin} and those after it are too large for the step of the chunk they go on with`,
      );
    }
    const { side, symbols, escapes } = this.#coder.encode(y, s, tokens, encoder!.lambda, before);
    return [
      { ...await encodeStream(side), tag: KVZ_TAGS.chunk[0] },
      { ...rawStream(symbols), tag: KVZ_TAGS.chunk[1] },
      { ...await encodeStream(escapes), tag: KVZ_TAGS.chunk[2] },
    ];
  }

  async decode(job: DecodeJob): Promise<Uint8Array[]> {
    const { region, kinds, tokens, targetPositions, layerBegin, layerEnd } = job;
    const ctx: ChunkContext = { tokens, positions: targetPositions, layerBegin, layerEnd };
    if (region === "chunk") {
      const { s, quarters } = job.streams[0].tag === INFLATED
        ? parseInflated(job.streams[0].bytes)
        : this.#coder.decode(await this.#unpack(tokens, job.streams), tokens);
      const levels = { levels: quarters, scales: this.#coder.scales(s, tokens) };
      return kinds.map((kind) => this.#transform.decode(levels, ctx, kind));
    }
    const out: Uint8Array[] = [];
    for (const [i, kind] of kinds.entries()) {
      const bytes = await this.#inflateRegion(job, kind, i);
      out.push(
        region === "sinks"
          ? await this.#sinks[kind].decode(bytes, ctx)
          : await decodeRawRegion(this.#backend, bytes, job, this.#rawShape(kind)),
      );
    }
    return out;
  }

  async inflate(job: InflateJob): Promise<TaggedStream[]> {
    const { region, tokens, kinds } = job;
    if (region === "chunk") {
      const { s, quarters } = this.#coder.decode(await this.#unpack(tokens, job.streams), tokens);
      const bytes = new Uint8Array(2 + quarters.byteLength);
      bytes.set([s & 0xff, s >> 8 & 0xff]);
      bytes.set(new Uint8Array(quarters.buffer, quarters.byteOffset, quarters.byteLength), 2);
      return [{ ...rawStream(bytes), tag: INFLATED }];
    }
    return await Promise.all(kinds.map(async (kind, i) => ({
      ...rawStream(await this.#inflateRegion(job, kind, i)),
      tag: KVZ_TAGS[region][i],
    })));
  }

  [Symbol.dispose](): void {
    this.#transform[Symbol.dispose]();
    this.#coder[Symbol.dispose]();
  }

  #shape(kind: Kind) {
    const { kvHeads, keyDim, valueDim, rope } = this.#setup.model;
    const { dtype, storedDType, encoder } = this.#setup;
    return {
      heads: kvHeads,
      dim: kind === "key" ? keyDim : valueDim,
      rope: kind === "key" ? rope : null,
      dtype: encoder === null ? dtype : storedDType,
    };
  }

  #rawShape(kind: Kind): RawShape {
    const { storedDType, dtype } = this.#setup;
    return { ...this.#shape(kind), storedDType, dtype };
  }

  async #deflate(region: "sinks" | "window", streams: readonly Uint8Array[]): Promise<TaggedStream[]> {
    return await Promise.all(
      streams.map(async (bytes, i) => ({ ...await encodeStream(bytes), tag: KVZ_TAGS[region][i] })),
    );
  }

  /** A sink's or raw token's stream, of the length that geometry dictates. */
  async #inflateRegion(
    { region, tokens, streams }: DecodeJob | InflateJob,
    kind: Kind,
    i: number,
  ): Promise<Uint8Array> {
    const { layers } = this.#setup.model;
    const { heads, dim } = this.#shape(kind);
    const length = region === "sinks"
      ? this.#sinks[kind].byteLength(tokens)
      : layers * heads * tokens * dim * BYTES_PER_ELEMENT[this.#setup.storedDType];
    return await decodeStream(streams[i], length, `stream ${streams[i].tag}`);
  }

  /** A chunk's streams, refused where geometry says that no encoder makes so many bytes. */
  async #unpack(tokens: number, [side, symbols, escapes]: readonly TaggedStream[]): Promise<ChunkStreams> {
    // An escape takes at most four bytes.
    const most = 4 * this.#components * tokens;
    if (escapes.rawLength > most) {
      throw new KvzFormatError(
        `Cannot read file: stream ${escapes.tag} has ${escapes.rawLength} bytes, ${tokens} tokens have at most ${most}`,
      );
    }
    return {
      side: await decodeStream(side, sideLength(tokens, this.#components), `stream ${side.tag}`),
      symbols: await decodeStream(symbols, symbols.bytes.length, `stream ${symbols.tag}`),
      escapes: await decodeStream(escapes, escapes.rawLength, `stream ${escapes.tag}`),
    };
  }
}

function parseInflated(bytes: Uint8Array): { s: number; quarters: Int16Array } {
  return { s: (bytes[0] | bytes[1] << 8) << 16 >> 16, quarters: new Int16Array(bytes.slice(2).buffer) };
}
