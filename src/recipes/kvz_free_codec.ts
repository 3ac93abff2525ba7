/**
 * What the lanes of recipe kvz-free run.
 *
 * @module
 */
import type { Backend } from "../backend/backend.ts";
import { requireFinite } from "../cache/finite.ts";
import { BYTES_PER_ELEMENT, type DType, type Kind, KINDS, type ModelSpec } from "../cache/types.ts";
import { KvzFormatError, KvzUnsupportedError } from "../errors.ts";
import { decodeStream, encodeStream, rawStream } from "../stages/entropy/deflate.ts";
import { MeasuredCoder, type MeasuredStreams } from "../stages/measured/coder.ts";
import { gatherLayer, scatterFeatures } from "../stages/measured/features.ts";
import { dimOf, type FeatureShape } from "../stages/measured/shape.ts";
import { logisticTables } from "../stages/measured/tables.ts";
import { openTrellisEngine } from "../stages/quantize/trellis/engine.ts";
import { tableBits, tableLimits } from "../stages/quantize/trellis/model.ts";
import type { ChunkContext } from "../stages/stage.ts";
import { SinkStage } from "../stages/tokens/sinks.ts";
import { splitPlanes } from "../stages/tokens/window.ts";
import { KVZ_TAGS } from "./kvz.ts";
import { decodeRawRegion } from "./raw_region.ts";
import type { ChunkCodec, DecodeJob, EncodeJob, InflateJob, Setup, SetupFacts, TaggedStream } from "./recipe.ts";

interface KvzFreeSetup extends Setup {
  readonly model: ModelSpec;
  readonly storedDType: DType;
  readonly dtype: DType;
  /** In units of a layer's spread; null in a decoder. */
  readonly step: number | null;
}

/** Tag of a chunk whose entropy coding has been undone: s (i16) of keys and values of each layer, then quarters (i16). */
const INFLATED = "QUAR";

/** The setup of an encoder (`step` given) or a decoder. The recipe needs no plan in the file. */
export function makeSetup({ model, storedDType, dtype }: SetupFacts, step: number | null): Setup {
  const key = `kvz-free ${JSON.stringify([model, storedDType, dtype, step])}`;
  const setup: KvzFreeSetup = {
    recipe: "kvz-free",
    key,
    plan: new Uint8Array(0),
    model,
    storedDType,
    dtype,
    step,
  };
  return setup;
}

/**
 * The setup of a decoder, and with a step of an encoder of more tokens.
 *
 * @throws {KvzFormatError} when the file has a plan
 */
export function loadSetup(facts: SetupFacts, plan: Uint8Array, step: number | null): Setup {
  if (plan.length > 0) {
    throw new KvzFormatError(`Cannot read file: the plan of recipe kvz-free has ${plan.length} bytes, expected none`);
  }
  return makeSetup(facts, step);
}

/** Loads the kernels of the backend's build. */
export async function openCodec(backend: Backend, setup: Setup): Promise<ChunkCodec> {
  const tables = logisticTables();
  const { model, dtype, storedDType, step } = setup as KvzFreeSetup;
  const { layers, kvHeads: heads, keyDim, valueDim, rope } = model;
  const shape = { layers, heads, keyDim, valueDim, rope, dtype: step === null ? dtype : storedDType };
  const costs = { bits: tableBits(tables), limits: tableLimits(tables) };
  const coder = new MeasuredCoder(await openTrellisEngine(backend, tables), costs, shape);
  return new KvzFreeCodec(backend, setup as KvzFreeSetup, shape, coder);
}

class KvzFreeCodec implements ChunkCodec {
  readonly #backend: Backend;
  readonly #setup: KvzFreeSetup;
  readonly #shape: FeatureShape;
  readonly #coder: MeasuredCoder;
  readonly #sinks: Readonly<Record<Kind, SinkStage>>;

  constructor(backend: Backend, setup: KvzFreeSetup, shape: FeatureShape, coder: MeasuredCoder) {
    this.#backend = backend;
    this.#setup = setup;
    this.#shape = shape;
    this.#coder = coder;
    const sinks = (kind: Kind) => new SinkStage(backend, { layers: shape.layers, ...this.#ofKind(kind) });
    this.#sinks = { key: sinks("key"), value: sinks("value") };
  }

  async encode(job: EncodeJob): Promise<TaggedStream[]> {
    const { region, tokens, positions, begin } = job;
    const { storedDType, step } = this.#setup;
    const data = { key: job.data[job.kinds.indexOf("key")], value: job.data[job.kinds.indexOf("value")] };
    if (region === "window") {
      const planes = KINDS.map((kind) => splitPlanes(data[kind], BYTES_PER_ELEMENT[storedDType]));
      return await this.#deflate(region, planes);
    }
    for (const kind of KINDS) {
      const { heads, dim } = this.#ofKind(kind);
      requireFinite(data[kind], storedDType, { kind, heads, tokens, dim, firstToken: begin });
    }
    if (region === "sinks") {
      const ctx: ChunkContext = { tokens, positions, layerBegin: 0, layerEnd: this.#shape.layers };
      const streams: Uint8Array[] = [];
      for (const kind of KINDS) streams.push(await this.#sinks[kind].encode(data[kind], ctx));
      return await this.#deflate(region, streams);
    }
    const before = job.previous === undefined ? null : await this.#before(job.previous);
    const features = (layer: number) => gatherLayer(data, this.#shape, positions, layer);
    const coded = this.#coder.encode(features, tokens, step!, before);
    if (coded === null) {
      throw new KvzUnsupportedError(
        `Cannot append: token ${begin} or one after it is too large for the step of the chunk it goes on with`,
      );
    }
    const [side, symbols, escapes] = KVZ_TAGS.chunk;
    return [
      { ...await encodeStream(coded.side), tag: side },
      { ...rawStream(coded.symbols), tag: symbols },
      { ...await encodeStream(coded.escapes), tag: escapes },
    ];
  }

  async decode(job: DecodeJob): Promise<Uint8Array[]> {
    const { region, kinds, tokens, targetPositions, layerBegin, layerEnd } = job;
    const ctx: ChunkContext = { tokens, positions: targetPositions, layerBegin, layerEnd };
    if (region === "chunk") {
      const { s, quarters } = job.streams[0].tag === INFLATED
        ? this.#parseInflated(job.streams[0].bytes)
        : await this.#decodeChunk(tokens, job.streams, layerBegin, layerEnd);
      return kinds.map((kind) => scatterFeatures(quarters, s, this.#shape, ctx, kind));
    }
    const out: Uint8Array[] = [];
    for (const [i, kind] of kinds.entries()) {
      const bytes = await this.#inflateRegion(job, kind, i);
      const { storedDType, dtype } = this.#setup;
      out.push(
        region === "sinks"
          ? await this.#sinks[kind].decode(bytes, ctx)
          : await decodeRawRegion(this.#backend, bytes, job, { ...this.#ofKind(kind), storedDType, dtype }),
      );
    }
    return out;
  }

  async inflate(job: InflateJob): Promise<TaggedStream[]> {
    const { region, tokens, kinds } = job;
    if (region === "chunk") {
      const { s, quarters } = await this.#decodeChunk(tokens, job.streams);
      const bytes = new Uint8Array(s.byteLength + quarters.byteLength);
      bytes.set(new Uint8Array(s.buffer, s.byteOffset, s.byteLength));
      bytes.set(new Uint8Array(quarters.buffer, quarters.byteOffset, quarters.byteLength), s.byteLength);
      return [{ ...rawStream(bytes), tag: INFLATED }];
    }
    return await Promise.all(kinds.map(async (kind, i) => ({
      ...rawStream(await this.#inflateRegion(job, kind, i)),
      tag: KVZ_TAGS[region][i],
    })));
  }

  [Symbol.dispose](): void {
    this.#coder[Symbol.dispose]();
  }

  #ofKind(kind: Kind) {
    const { heads, rope, dtype } = this.#shape;
    return { heads, dim: dimOf(this.#shape, kind), rope: kind === "key" ? rope : null, dtype };
  }

  async #before({ tokens, streams }: NonNullable<EncodeJob["previous"]>) {
    const unpacked = await this.#unpack(tokens, streams);
    return { streams: unpacked, chunk: this.#coder.decode(unpacked, tokens) };
  }

  async #decodeChunk(tokens: number, streams: readonly TaggedStream[], layerBegin?: number, layerEnd?: number) {
    const unpacked = await this.#unpack(tokens, streams);
    const { head: { s }, quarters } = this.#coder.decode(unpacked, tokens, layerBegin, layerEnd);
    return { s, quarters };
  }

  #parseInflated(bytes: Uint8Array) {
    const steps = 2 * this.#shape.layers;
    const values = new Int16Array(bytes.slice().buffer);
    return { s: values.subarray(0, steps), quarters: values.subarray(steps) };
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
    const { heads, dim } = this.#ofKind(kind);
    const length = region === "sinks"
      ? this.#sinks[kind].byteLength(tokens)
      : this.#shape.layers * heads * tokens * dim * BYTES_PER_ELEMENT[this.#setup.storedDType];
    return await decodeStream(streams[i], length, `stream ${streams[i].tag}`);
  }

  /** A chunk's streams, refused where geometry says that no encoder makes so many bytes. */
  async #unpack(tokens: number, streams: readonly TaggedStream[]): Promise<MeasuredStreams> {
    const limits = this.#coder.limits(tokens);
    const [side, symbols, escapes] = await Promise.all((["side", "symbols", "escapes"] as const).map((name, i) => {
      const { tag, rawLength } = streams[i];
      if (rawLength > limits[name]) {
        throw new KvzFormatError(
          `Cannot read file: stream ${tag} has ${rawLength} bytes, ${tokens} tokens have at most ${limits[name]}`,
        );
      }
      return decodeStream(streams[i], rawLength, `stream ${tag}`);
    }));
    return { side, symbols, escapes };
  }
}
