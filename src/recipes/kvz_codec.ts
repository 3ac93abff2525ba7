/**
 * What the lanes of recipe kvz run.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../backend/backend.ts";
import { requireFinite } from "../cache/finite.ts";
import { BYTES_PER_ELEMENT, type Kind, KINDS } from "../cache/types.ts";
import { decodeStream, encodeStream, rawStream } from "../stages/entropy/deflate.ts";
import type { ChunkStreams } from "../stages/quantize/trellis/level_coder.ts";
import { sideComponents } from "../stages/quantize/trellis/side.ts";
import type { ChunkContext } from "../stages/stage.ts";
import { SinkStage } from "../stages/tokens/sinks.ts";
import { splitPlanes } from "../stages/tokens/window.ts";
import { KvzFormatError, KvzUnsupportedError } from "../errors.ts";
import { KVZ_TAGS } from "./kvz.ts";
import { type KvzChunks, openChunks } from "./kvz_chunks.ts";
import type { KvzSettings, KvzSetup } from "./kvz_setup.ts";
import { decodeRawRegion, type RawShape } from "./raw_region.ts";
import type { ChunkCodec, DecodeJob, EncodeJob, InflateJob, Setup, TaggedStream } from "./recipe.ts";

/** Tag of a chunk whose entropy coding has been undone: what `KvzChunks.inflate` gives. */
const INFLATED = "QUAR";

/** Loads the kernels. */
export async function openCodec(backend: Backend, setup: Setup): Promise<ChunkCodec> {
  const kvzSetup = setup as KvzSetup;
  const { model, dtype } = kvzSetup;
  const { layers, kvHeads: heads, keyDim, valueDim, rope } = model;
  const geometry = { layers, heads, keyDim, valueDim, rope, dtype };
  return new KvzCodec(backend, kvzSetup, await openChunks(backend, kvzSetup, geometry));
}

class KvzCodec implements ChunkCodec {
  readonly #backend: Backend;
  readonly #setup: Pick<KvzSetup, "model" | "storedDType" | "dtype">;
  readonly #chunks: KvzChunks;
  readonly #sinks: Readonly<Record<Kind, SinkStage>>;

  /** The setup itself is not kept: a worker's copy of the basis ends with the constructor. */
  constructor(backend: Backend, setup: KvzSetup, chunks: KvzChunks) {
    const { model, storedDType, dtype } = setup;
    this.#backend = backend;
    this.#setup = { model, storedDType, dtype };
    this.#chunks = chunks;
    const sinks = (kind: Kind) => new SinkStage(backend, { layers: model.layers, ...this.#shape(kind) });
    this.#sinks = { key: sinks("key"), value: sinks("value") };
  }

  get jobs(): number {
    return this.#chunks.jobs;
  }

  async encode(job: EncodeJob): Promise<TaggedStream[]> {
    const { region, tokens, begin } = job;
    const { storedDType } = this.#setup;
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
    const elements = { key: data.get("key")!, value: data.get("value")! };
    return region === "sinks" ? await this.#encodeSinks(job, elements) : await this.#encodeChunk(job, elements);
  }

  async encodeOnDevice(job: EncodeJob, elements: readonly DeviceBuffer[]): Promise<TaggedStream[]> {
    const { kinds, region } = job;
    const ofKind = { key: elements[kinds.indexOf("key")], value: elements[kinds.indexOf("value")] };
    return region === "sinks" ? await this.#encodeSinks(job, ofKind) : await this.#encodeChunk(job, ofKind);
  }

  async #encodeSinks(
    { tokens, positions }: EncodeJob,
    elements: Readonly<Record<Kind, Uint8Array | DeviceBuffer>>,
  ): Promise<TaggedStream[]> {
    const ctx: ChunkContext = { tokens, positions, layerBegin: 0, layerEnd: this.#setup.model.layers };
    const streams: Uint8Array[] = [];
    for (const kind of KINDS) streams.push(await this.#sinks[kind].encode(elements[kind], ctx));
    return await this.#deflate("sinks", streams);
  }

  async #encodeChunk(
    { tokens, positions, begin, previous, recent, settings }: EncodeJob,
    elements: Readonly<Record<Kind, Uint8Array | DeviceBuffer>>,
  ): Promise<TaggedStream[]> {
    const { model } = this.#setup;
    const ctx: ChunkContext = { tokens, positions, layerBegin: 0, layerEnd: model.layers };
    const before = previous === undefined
      ? null
      : { streams: await this.#unpack(previous.tokens, previous.streams, settings), tokens: previous.tokens };
    const coded = await this.#chunks.encode(
      elements,
      ctx,
      (settings as KvzSettings).encoders![recent ? "recent" : "older"],
      before,
    );
    if (coded === null) {
      throw new KvzUnsupportedError(
        `Cannot append: token ${begin} and those after it are too large for the step of the chunk they go on with`,
      );
    }
    return [
      { ...await encodeStream(coded.side), tag: KVZ_TAGS.chunk[0] },
      { ...rawStream(coded.symbols), tag: KVZ_TAGS.chunk[1] },
      { ...await encodeStream(coded.escapes), tag: KVZ_TAGS.chunk[2] },
    ];
  }

  async decode(job: DecodeJob): Promise<Uint8Array[]> {
    const { region, kinds, tokens, targetPositions, layerBegin, layerEnd } = job;
    const ctx: ChunkContext = { tokens, positions: targetPositions, layerBegin, layerEnd };
    if (region === "chunk") {
      if (job.streams[0].tag === INFLATED) return await this.#chunks.restore(job.streams[0].bytes, ctx, kinds);
      return await this.#chunks.decode(await this.#unpack(tokens, job.streams, job.settings), ctx, kinds);
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

  async decodeOnDevice(job: DecodeJob, to: readonly DeviceBuffer[]): Promise<void> {
    const { region, kinds, tokens, targetPositions, layerBegin, layerEnd } = job;
    const ctx: ChunkContext = { tokens, positions: targetPositions, layerBegin, layerEnd };
    if (region === "sinks") {
      for (const [i, kind] of kinds.entries()) {
        await this.#sinks[kind].decodeTo(await this.#inflateRegion(job, kind, i), ctx, to[i]);
      }
      return;
    }
    await this.#chunks.decodeTo(await this.#unpack(tokens, job.streams, job.settings), ctx, kinds, to);
  }

  async inflate(job: InflateJob): Promise<TaggedStream[]> {
    const { region, tokens, kinds } = job;
    if (region === "chunk") {
      const bytes = await this.#chunks.inflate(await this.#unpack(tokens, job.streams, job.settings), tokens);
      return [{ ...rawStream(bytes), tag: INFLATED }];
    }
    return await Promise.all(kinds.map(async (kind, i) => ({
      ...rawStream(await this.#inflateRegion(job, kind, i)),
      tag: KVZ_TAGS[region][i],
    })));
  }

  [Symbol.dispose](): void {
    this.#chunks[Symbol.dispose]();
  }

  #shape(kind: Kind) {
    const { kvHeads, keyDim, valueDim, rope } = this.#setup.model;
    const { dtype } = this.#setup;
    return {
      heads: kvHeads,
      dim: kind === "key" ? keyDim : valueDim,
      rope: kind === "key" ? rope : null,
      dtype,
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

  /** A chunk's streams, refused where geometry or the file's plan says that no encoder makes so many bytes. */
  async #unpack(
    tokens: number,
    [side, symbols, escapes]: readonly TaggedStream[],
    settings: object | undefined,
  ): Promise<ChunkStreams> {
    const components = sideComponents(side.rawLength, tokens, (settings as KvzSettings).components);
    // An escape takes at most four bytes.
    const most = 4 * components * tokens;
    if (escapes.rawLength > most) {
      throw new KvzFormatError(
        `Cannot read file: stream ${escapes.tag} has ${escapes.rawLength} bytes, ${tokens} tokens have at most ${most}`,
      );
    }
    return {
      side: await decodeStream(side, side.rawLength, `stream ${side.tag}`),
      symbols: await decodeStream(symbols, symbols.bytes.length, `stream ${symbols.tag}`),
      escapes: await decodeStream(escapes, escapes.rawLength, `stream ${escapes.tag}`),
    };
  }
}
