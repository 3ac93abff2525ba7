/**
 * What the lanes of recipe lossless run.
 *
 * @module
 */
import type { Backend } from "../backend/backend.ts";
import { WasmLossless } from "../backend/wasm/lossless_kernels.ts";
import type { DType, Kind, ModelSpec } from "../cache/types.ts";
import { KvzFormatError } from "../errors.ts";
import { decodeStream, encodeStream, rawStream } from "../stages/entropy/deflate.ts";
import { hostBuild } from "../backend/host.ts";
import { ArrayPool } from "../stages/array_pool.ts";
import { openRans, type RansFactory } from "../stages/entropy/rans_factory.ts";
import { LosslessCoder } from "../stages/lossless/coder.ts";
import type { LosslessKernels } from "../stages/lossless/kernels.ts";
import { ReferenceLossless } from "../stages/lossless/reference.ts";
import { elementBytes, headsOf, ropeTurns } from "../stages/lossless/shape.ts";
import { concat, type LosslessStreams } from "../stages/lossless/streams.ts";
import { retarget } from "../stages/tokens/window.ts";
import { entropyJobs } from "./entropy_jobs.ts";
import { lossless } from "./lossless.ts";
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

interface LosslessSetup extends Setup {
  readonly model: ModelSpec;
  readonly storedDType: DType;
  readonly dtype: DType;
  /** Turn of each pair of a key a position, in 2^-32 turns. */
  readonly turns: Uint32Array;
}

/** Streams in the order of their tags; the first and the last are deflated where that makes a chunk smaller. */
const NAMES = ["contexts", "symbols", "planes", "escapes"] as const;
const DEFLATED: ReadonlySet<string> = new Set(["contexts", "escapes"]);
/** Bytes of arrays that a codec keeps for later chunks. */
const KEPT_BYTES = 64 << 20;
/** Share of a chunk up to which a stream stays as it is: DEFLATE takes as long as it does for bytes that save something. */
const SMALL_SHARE = 1 / 128;

/** The setup of an encoder: the turns of the model's rotation go into the file. */
export function planSetup(facts: SetupFacts): Setup {
  const { rope } = facts.model;
  return makeSetup(facts, rope === null ? new Uint32Array(0) : ropeTurns(rope));
}

/**
 * The setup of a decoder.
 *
 * @throws {KvzFormatError} when the plan has not the turn of every pair
 */
export function loadSetup(facts: SetupFacts, plan: Uint8Array): Setup {
  const pairs = facts.model.rope === null ? 0 : facts.model.rope.dim / 2;
  if (plan.length !== 4 * pairs) {
    throw new KvzFormatError(
      `Cannot read file: the plan of recipe lossless has ${plan.length} bytes, not ${4 * pairs}`,
    );
  }
  const view = new DataView(plan.buffer, plan.byteOffset, plan.length);
  return makeSetup(facts, Uint32Array.from({ length: pairs }, (_, i) => view.getUint32(4 * i, true)));
}

function makeSetup({ model, storedDType, dtype }: SetupFacts, turns: Uint32Array): LosslessSetup {
  const plan = new Uint8Array(4 * turns.length);
  const view = new DataView(plan.buffer);
  turns.forEach((turn, i) => view.setUint32(4 * i, turn, true));
  const key = `lossless ${JSON.stringify([model, storedDType, dtype, Array.from(turns)])}`;
  return { recipe: "lossless", key, plan, model, storedDType, dtype, turns };
}

/** Loads the kernels of the backend's build. */
export async function openCodec(
  backend: Backend,
  setup: Setup,
  tags: Readonly<Record<Kind, readonly string[]>>,
): Promise<ChunkCodec> {
  const build = hostBuild(backend, "lossless planes");
  const own = build === null ? undefined : await WasmLossless.open(build);
  const rans = await openRans(backend, own);
  return new LosslessCodec(backend, setup as LosslessSetup, tags, own ?? new ReferenceLossless(), rans);
}

class LosslessCodec implements ChunkCodec {
  readonly jobs: number;
  readonly #backend: Backend;
  readonly #setup: LosslessSetup;
  readonly #tags: Readonly<Record<Kind, readonly string[]>>;
  readonly #coders: Readonly<Record<Kind, LosslessCoder>>;
  readonly #pool = new ArrayPool(KEPT_BYTES);

  constructor(
    backend: Backend,
    setup: LosslessSetup,
    tags: Readonly<Record<Kind, readonly string[]>>,
    kernels: LosslessKernels,
    rans: RansFactory,
  ) {
    this.#backend = backend;
    this.#setup = setup;
    this.#tags = tags;
    const { model: { layers, kvHeads, keyDim, valueDim }, storedDType: dtype, turns } = setup;
    const shape = { blocks: layers * kvHeads, dtype };
    const kinds = [keyDim, valueDim].map((dim) => ({ layers, heads: kvHeads, dim }));
    this.jobs = entropyJobs(backend, kinds, dtype, lossless.chunkTokensOf!(setup.model));
    this.#coders = {
      key: new LosslessCoder(kernels, rans, { ...shape, dim: keyDim, turns }),
      value: new LosslessCoder(kernels, rans, { ...shape, dim: valueDim, turns: new Uint32Array(0) }),
    };
  }

  async encode(job: EncodeJob): Promise<TaggedStream[]> {
    const { kinds: [kind], data: [data], views, positions, tokens, previous } = job;
    const pool = job.lent ? this.#pool : undefined;
    const coder = this.#coders[kind];
    const { blocks } = coder.shape;
    const heads = views === undefined ? headsOf(data, blocks) : views[0];
    if (previous === undefined) {
      return await this.#pack(kind, await coder.encode(heads, tokens, positions, pool));
    }
    const streams = await this.#unpack(kind, previous.tokens, previous.streams);
    const before = headsOf(new Uint8Array(elementBytes(coder.shape, previous.tokens)), blocks);
    await coder.decode(streams, previous.tokens, previous.positions, 0, before);
    const all = before.map((bytes, i) => concat([bytes, heads[i]]));
    const allPositions = Int32Array.of(...previous.positions, ...positions);
    return await this.#pack(kind, await coder.encode(all, previous.tokens + tokens, allPositions, pool));
  }

  async decode(job: DecodeJob): Promise<Uint8Array[]> {
    const { region, kinds: [kind], tokens, positions, targetPositions, layerBegin, layerEnd, views } = job;
    requireChunk(region);
    const { model, storedDType, dtype } = this.#setup;
    const coder = this.#coders[kind];
    const streams = await this.#unpack(kind, tokens, job.streams);
    const rope = kind === "key" ? model.rope : null;
    const moved = rope !== null && positions.some((position, t) => position !== targetPositions[t]);
    const asStored = !moved && storedDType === dtype;
    const blocks = (layerEnd - layerBegin) * model.kvHeads;
    const there = asStored && views !== undefined;
    const raw = new Uint8Array(there ? 0 : elementBytes({ ...coder.shape, blocks }, tokens));
    const heads = there ? views[0] : headsOf(raw, blocks);
    await coder.decode(streams, tokens, positions, layerBegin * model.kvHeads, heads);
    if (asStored) return [raw];
    return [
      await retarget(this.#backend, raw, {
        blocks,
        tokens,
        dim: coder.shape.dim,
        from: storedDType,
        to: dtype,
        rope: moved ? { spec: rope, from: positions, to: targetPositions } : null,
      }),
    ];
  }

  async inflate(job: InflateJob): Promise<TaggedStream[]> {
    const { region, kinds: [kind], tokens, positions } = job;
    requireChunk(region);
    const streams = await this.#unpack(kind, tokens, job.streams);
    const expanded = await this.#coders[kind].expand(streams, tokens, positions);
    return NAMES.map((name, i) => ({ ...rawStream(expanded[name]), tag: this.#tags[kind][i] }));
  }

  reuse(streams: readonly TaggedStream[]): void {
    for (const { bytes } of streams) this.#pool.give(bytes);
  }

  [Symbol.dispose](): void {}

  async #pack(kind: Kind, streams: LosslessStreams): Promise<TaggedStream[]> {
    const length = NAMES.reduce((sum, name) => sum + streams[name].length, 0);
    const deflates = (name: typeof NAMES[number]) => DEFLATED.has(name) && streams[name].length > SMALL_SHARE * length;
    return await Promise.all(NAMES.map(async (name, i) => ({
      ...deflates(name) ? await encodeStream(streams[name]) : rawStream(streams[name]),
      tag: this.#tags[kind][i],
    })));
  }

  /** The streams, refused where geometry says that no encoder makes so many bytes. */
  async #unpack(kind: Kind, tokens: number, streams: readonly TaggedStream[]): Promise<LosslessStreams> {
    const limits = this.#coders[kind].limits(tokens);
    const [contexts, symbols, planes, escapes] = await Promise.all(NAMES.map((name, i) => {
      const { tag, rawLength } = streams[i];
      if (rawLength > limits[name]) {
        throw new KvzFormatError(
          `Cannot read file: stream ${tag} has ${rawLength} bytes, ${tokens} tokens have at most ${limits[name]}`,
        );
      }
      return decodeStream(streams[i], rawLength, `stream ${tag}`);
    }));
    return { contexts, symbols, planes, escapes };
  }
}

/** All tokens of a lossless file lie in chunks. */
function requireChunk(region: Region): void {
  if (region !== "chunk") throw new KvzFormatError(`Cannot read file: recipe lossless has no region "${region}"`);
}
