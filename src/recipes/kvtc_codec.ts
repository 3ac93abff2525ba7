/**
 * What the lanes of recipe kvtc are given and run.
 *
 * @module
 */
import type { Backend, DeviceBuffer, QuantGroup } from "../backend/backend.ts";
import { requireFinite } from "../cache/finite.ts";
import { BYTES_PER_ELEMENT, type DType, type Kind, type RopeSpec } from "../cache/types.ts";
import { KvzMismatchError } from "../errors.ts";
import { planFor } from "../profile/plan.ts";
import type { KindProfile, KvtcProfile } from "../profile/types.ts";
import { type CodedStream, decodeStream, encodeStream, rawStream } from "../stages/entropy/deflate.ts";
import { GroupQuantizer, type QuantStreams } from "../stages/quantize/groups.ts";
import { allInOrder } from "../stages/in_order.ts";
import { type RowForm, rowForms } from "../stages/quantize/row_forms.ts";
import { decodePlan, encodePlan, planComponents } from "../stages/quantize/plan_format.ts";
import type { ChunkContext } from "../stages/stage.ts";
import { SinkStage } from "../stages/tokens/sinks.ts";
import { splitPlanes } from "../stages/tokens/window.ts";
import { type Coefficients, PcaTransform } from "../stages/transform/pca.ts";
import { entropyJobs } from "./entropy_jobs.ts";
import { kvtc, KVTC_TAGS as TAGS, type KvtcOptions } from "./kvtc.ts";
import type { KvtcGpuChunks } from "./kvtc_gpu_chunks.ts";
import { decodeRawRegion } from "./raw_region.ts";
import type {
  ChunkCodec,
  DecodeJob,
  EncodeJob,
  InflateJob,
  Region,
  Setup,
  SetupFacts,
  TaggedStream,
} from "./recipe.ts";

/** What a lane needs of one kind. */
interface KindSetup {
  readonly layers: number;
  readonly heads: number;
  readonly dim: number;
  readonly rope: RopeSpec | null;
  readonly mean: Float32Array;
  readonly basis: Uint16Array;
  readonly components: number;
  readonly groups: readonly QuantGroup[];
}

interface KvtcSetup extends Setup {
  readonly storedDType: DType;
  readonly dtype: DType;
  readonly kinds: Readonly<Record<Kind, KindSetup>>;
  readonly rans: boolean;
}

/** The setup of an encoder: computes the plan. */
export function planSetup(profile: KvtcProfile, facts: SetupFacts, options: KvtcOptions): Setup {
  const plan = {
    key: planFor(profile, "key", options.keyRatio),
    value: planFor(profile, "value", options.valueRatio),
    ...(options.entropy === undefined ? {} : { entropy: options.entropy }),
  };
  return makeSetup(profile, facts, encodePlan(plan));
}

/**
 * The setup of a decoder.
 *
 * @throws {KvzFormatError} when the plan is none
 * @throws {KvzMismatchError} when it needs more components than the profile has
 */
export function loadSetup(profile: KvtcProfile, facts: SetupFacts, plan: Uint8Array): Setup {
  return makeSetup(profile, facts, plan);
}

/** Makes the chunk codec, with the rANS kernels where the plan wants them. */
export async function openCodec(backend: Backend, setup: Setup): Promise<ChunkCodec> {
  const kvtcSetup = setup as KvtcSetup;
  if (!kvtcSetup.rans) return new KvtcCodec(backend, kvtcSetup, null, null);
  const gpu = backend.gpu === null ? null : await (await import("./kvtc_gpu_chunks.ts")).openGpuChunks(backend);
  return new KvtcCodec(backend, kvtcSetup, await openFormCoder(backend), gpu);
}

/** rANS for the streams of chunks, loaded when it is used. */
interface FormCoder {
  encode(form: RowForm, tokens: number, bytes: Uint8Array): Promise<CodedStream>;
  decode(form: RowForm, tokens: number, stream: CodedStream, what: string): Promise<Uint8Array>;
}

async function openFormCoder(backend: Backend): Promise<FormCoder> {
  const { openRans } = await import("../stages/entropy/rans_factory.ts");
  const { decodeForm, encodeForm } = await import("../stages/quantize/coded_streams.ts");
  const rans = await openRans(backend);
  return {
    encode: (form, tokens, bytes) => encodeForm(rans, form, tokens, bytes),
    decode: (form, tokens, stream, what) => decodeForm(rans, form, tokens, stream, what),
  };
}

function makeSetup(profile: KvtcProfile, facts: SetupFacts, planBytes: Uint8Array): KvtcSetup {
  const plan = decodePlan(planBytes);
  const { model } = facts;
  const kind = (name: Kind): KindSetup => {
    const part: KindProfile = profile.kinds[name];
    const components = planComponents(plan[name]);
    if (components > part.components) {
      throw new KvzMismatchError(
        `Cannot use profile ${profile.fingerprint.slice(0, 12)}: the plan needs ${components} ${name} components, ` +
          `it holds ${part.components} (trimmed for ratios ${profile.calibration.ratios.join(", ") || "none"})`,
      );
    }
    return {
      layers: model.layers,
      heads: model.kvHeads,
      dim: name === "key" ? model.keyDim : model.valueDim,
      rope: name === "key" ? model.rope : null,
      mean: part.mean,
      basis: part.basis.subarray(0, components * part.features),
      components,
      groups: plan[name],
    };
  };
  const planText = Array.from(planBytes, (b) => b.toString(16).padStart(2, "0")).join("");
  return {
    recipe: "kvtc",
    key: `kvtc ${profile.fingerprint} ${facts.storedDType} ${facts.dtype} ${planText}`,
    plan: planBytes,
    storedDType: facts.storedDType,
    dtype: facts.dtype,
    kinds: { key: kind("key"), value: kind("value") },
    rans: plan.entropy === "rans",
  };
}

/** The stages of one kind in one lane. */
interface KindStages {
  readonly layers: number;
  readonly heads: number;
  readonly dim: number;
  readonly rope: RopeSpec | null;
  readonly sinks: SinkStage;
  readonly pca: PcaTransform;
  readonly groups: GroupQuantizer;
  /** Forms of the five streams of a chunk. */
  readonly forms: readonly RowForm[];
}

class KvtcCodec implements ChunkCodec {
  readonly jobs: number;
  readonly #backend: Backend;
  readonly #storedDType: DType;
  readonly #dtype: DType;
  /** The setup itself is not kept: a worker's copy of the basis ends with the constructor. */
  readonly #kinds: Record<Kind, KindStages>;
  /** null where streams are deflated. */
  readonly #coder: FormCoder | null;
  /** null where codes come to the host. */
  readonly #gpu: KvtcGpuChunks | null;

  constructor(
    backend: Backend,
    { storedDType, dtype, kinds }: KvtcSetup,
    coder: FormCoder | null,
    gpu: KvtcGpuChunks | null,
  ) {
    this.#backend = backend;
    this.#coder = coder;
    this.#gpu = gpu;
    const mostBytes = gpu === null ? undefined : 1 << 30;
    this.jobs = coder === null
      ? 1
      : entropyJobs(backend, Object.values(kinds), storedDType, kvtc.chunkTokens, mostBytes);
    this.#storedDType = storedDType;
    this.#dtype = dtype;
    const open = ({ layers, heads, dim, rope, mean, basis, components, groups }: KindSetup): KindStages => {
      const geometry = { layers, heads, dim, rope, dtype };
      const pca = new PcaTransform(backend, { ...geometry, mean, basis, components });
      const quantizer = new GroupQuantizer(backend, groups, (tokens) => pca.coefficients(tokens));
      const sinks = new SinkStage(backend, geometry);
      return { layers, heads, dim, rope, sinks, pca, groups: quantizer, forms: rowForms(groups) };
    };
    this.#kinds = { key: open(kinds.key), value: open(kinds.value) };
  }

  async encode(job: EncodeJob): Promise<TaggedStream[]> {
    const { region, tokens, positions } = job;
    const [kind] = job.kinds;
    const [data] = job.data;
    const { layers, heads, dim, sinks } = this.#kinds[kind];
    const tags = TAGS[region][kind];
    if (region === "window") {
      return await deflate(tags, [splitPlanes(data, BYTES_PER_ELEMENT[this.#storedDType])]);
    }
    requireFinite(data, this.#storedDType, {
      kind,
      heads,
      tokens,
      dim,
      firstToken: job.begin,
    });
    const ctx = { tokens, positions, layerBegin: 0, layerEnd: layers };
    if (region === "sinks") return await deflate(tags, [await sinks.encode(data, ctx)]);
    return await this.#encodeChunk(job, data);
  }

  async encodeOnDevice(job: EncodeJob, [elements]: readonly DeviceBuffer[]): Promise<TaggedStream[]> {
    const { region, tokens, positions, kinds: [kind] } = job;
    if (region === "chunk") return await this.#encodeChunk(job, elements);
    const { layers, sinks } = this.#kinds[kind];
    const ctx = { tokens, positions, layerBegin: 0, layerEnd: layers };
    return await deflate(TAGS.sinks[kind], [await sinks.encode(elements, ctx)]);
  }

  async #encodeChunk(job: EncodeJob, elements: Uint8Array | DeviceBuffer): Promise<TaggedStream[]> {
    const { tokens, positions, kinds: [kind] } = job;
    const { layers, pca, groups } = this.#kinds[kind];
    const tags = TAGS.chunk[kind];
    const ctx = { tokens, positions, layerBegin: 0, layerEnd: layers };
    if (this.#gpu !== null && job.previous === undefined) {
      const coded = await this.#gpu.encode(elements, this.#kinds[kind], ctx);
      return coded.map((stream, i) => ({ ...stream, tag: tags[i] }));
    }
    let old = null;
    const oldTokens = job.previous?.tokens ?? 0;
    if (job.previous !== undefined) {
      old = toQuantStreams(await this.#inflate("chunk", kind, oldTokens, job.previous.streams));
    }
    // The coefficients' buffer is the next job's when this one has enqueued its quantizer: nothing is awaited between.
    const { codes, params } = await groups.extend(old, oldTokens, pca.encode(elements, ctx), ctx);
    const raw = [...codes, params.low, params.high];
    const coder = this.#coder;
    if (coder === null) return await deflate(tags, raw);
    const { forms } = this.#kinds[kind];
    const all = oldTokens + tokens;
    return await allInOrder(
      raw.map(async (bytes, i) => ({ ...await coder.encode(forms[i], all, bytes), tag: tags[i] })),
    );
  }

  async decode(job: DecodeJob): Promise<Uint8Array[]> {
    return [await this.#decode(job, job.kinds[0])];
  }

  async decodeOnDevice(job: DecodeJob, [to]: readonly DeviceBuffer[]): Promise<void> {
    const { region, tokens, targetPositions, layerBegin, layerEnd, kinds: [kind] } = job;
    const { pca, sinks } = this.#kinds[kind];
    const ctx: ChunkContext = { tokens, positions: targetPositions, layerBegin, layerEnd };
    if (region === "sinks") {
      const [stream] = await this.#inflate(region, kind, tokens, job.streams);
      return await sinks.decodeTo(stream, ctx, to);
    }
    await this.#withCoefficients(job.streams, kind, ctx, (y) => pca.decodeTo(y, ctx, to));
  }

  async #decode(job: DecodeJob, kind: Kind): Promise<Uint8Array> {
    const { region, tokens, targetPositions, layerBegin, layerEnd } = job;
    const { heads, dim, rope, sinks, pca } = this.#kinds[kind];
    const ctx: ChunkContext = { tokens, positions: targetPositions, layerBegin, layerEnd };
    if (region === "chunk") {
      return await this.#withCoefficients(job.streams, kind, ctx, (y) => pca.decode(y, ctx));
    }
    const streams = await this.#inflate(region, kind, tokens, job.streams);
    if (region === "sinks") return await sinks.decode(streams[0], ctx);
    const shape = { heads, dim, rope, storedDType: this.#storedDType, dtype: this.#dtype };
    return await decodeRawRegion(this.#backend, streams[0], job, shape);
  }

  /** Calls `use` with a chunk's coefficients, which are the next job's when it returns. */
  async #withCoefficients<T>(
    streams: readonly TaggedStream[],
    kind: Kind,
    ctx: ChunkContext,
    use: (coefficients: Coefficients) => T | Promise<T>,
  ): Promise<T> {
    const gpu = this.#gpu;
    if (gpu === null) {
      const inflated = await this.#inflate("chunk", kind, ctx.tokens, streams);
      return await use(this.#kinds[kind].groups.decode(toQuantStreams(inflated), ctx));
    }
    return await gpu.decode(streams, this.#kinds[kind], ctx, use);
  }

  async inflate(job: InflateJob): Promise<TaggedStream[]> {
    const [kind] = job.kinds;
    const streams = await this.#inflate(job.region, kind, job.tokens, job.streams);
    // With rANS a byte before each stream says how it is coded: 0, not at all.
    const marked = job.region === "chunk" && this.#coder !== null;
    return streams.map((bytes, i) => ({
      ...rawStream(marked ? behindZero(bytes) : bytes),
      tag: TAGS[job.region][kind][i],
    }));
  }

  [Symbol.dispose](): void {
    for (const { pca, groups } of Object.values(this.#kinds)) {
      pca[Symbol.dispose]();
      groups[Symbol.dispose]();
    }
  }

  /** Entropy decoding with lengths that geometry and plan dictate, so that nothing can inflate beyond them. */
  async #inflate(
    region: Region,
    kind: Kind,
    tokens: number,
    streams: readonly TaggedStream[],
  ): Promise<Uint8Array[]> {
    const { layers, heads, dim, sinks, groups, forms } = this.#kinds[kind];
    const coder = this.#coder;
    if (region === "chunk" && coder !== null) {
      return await allInOrder(
        streams.map((stream, i) => coder.decode(forms[i], tokens, stream, `stream ${stream.tag}`)),
      );
    }
    let lengths: number[];
    if (region === "chunk") {
      const { codes, params } = groups.lengths(tokens);
      lengths = [...codes, ...params];
    } else if (region === "sinks") {
      lengths = [sinks.byteLength(tokens)];
    } else {
      lengths = [layers * heads * tokens * dim * BYTES_PER_ELEMENT[this.#storedDType]];
    }
    return await Promise.all(streams.map((stream, i) => decodeStream(stream, lengths[i], `stream ${stream.tag}`)));
  }
}

function toQuantStreams([int2, int4, fp8, low, high]: Uint8Array[]): QuantStreams {
  return { codes: [int2, int4, fp8], params: { low, high } };
}

async function deflate(tags: readonly string[], streams: readonly Uint8Array[]): Promise<TaggedStream[]> {
  return await Promise.all(streams.map(async (bytes, i) => ({ ...await encodeStream(bytes), tag: tags[i] })));
}

function behindZero(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(1 + bytes.length);
  out.set(bytes, 1);
  return out;
}
