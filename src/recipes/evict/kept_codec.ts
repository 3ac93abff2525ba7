/**
 * What the lanes of the evicting recipes run: elements that heads keep, as they are.
 *
 *     [chunk]  keep → prune (think) → raw
 *     [window] raw
 *
 * @module
 */
import type { Backend } from "../../backend/backend.ts";
import { requireFinite } from "../../cache/finite.ts";
import { BYTES_PER_ELEMENT, type DType, type Kind, type ModelSpec } from "../../cache/types.ts";
import { KvzFormatError } from "../../errors.ts";
import { packMasks, unpackMasks } from "../../stages/channels/think.ts";
import { decodeStream, rawStream } from "../../stages/entropy/deflate.ts";
import { retarget } from "../../stages/tokens/window.ts";
import type {
  ChunkCodec,
  DecodeJob,
  EncodeJob,
  InflateJob,
  Region,
  Setup,
  SetupFacts,
  TaggedStream,
} from "../recipe.ts";
import { KEPT_TAGS } from "./evicting.ts";

interface KeptSetup extends Setup {
  readonly model: ModelSpec;
  readonly storedDType: DType;
  readonly dtype: DType;
  /** Channels of keys that chunks hold, [layers · kvHeads][keyDim] of zeros and ones; null: all. */
  readonly masks: Uint8Array | null;
}

/** The setup of an encoder: the masks that were selected go into the plan. */
export function planSetup(recipe: string, facts: SetupFacts): Setup {
  return makeSetup(recipe, facts, facts.selected ?? null);
}

/**
 * The setup of a decoder.
 *
 * @throws {KvzFormatError} when the plan is not the masks of all heads where the recipe has some, or not empty elsewhere
 */
export function loadSetup(recipe: string, facts: SetupFacts, plan: Uint8Array, prunes: boolean): Setup {
  const { layers, kvHeads, keyDim } = facts.model;
  const expected = prunes ? layers * kvHeads * Math.ceil(keyDim / 8) : 0;
  if (plan.length !== expected) {
    throw new KvzFormatError(
      `Cannot read file: the plan of recipe ${recipe} has ${plan.length} bytes, expected ${expected}`,
    );
  }
  return makeSetup(recipe, facts, prunes ? unpackMasks(plan, layers * kvHeads, keyDim) ?? fail(recipe) : null);
}

function fail(recipe: string): never {
  throw new KvzFormatError(`Cannot read file: the plan of recipe ${recipe} has padding that is not zero`);
}

function makeSetup(recipe: string, { model, storedDType, dtype }: SetupFacts, masks: Uint8Array | null): KeptSetup {
  const plan = masks === null ? new Uint8Array(0) : packMasks(masks, model.keyDim);
  const key = `${recipe} ${JSON.stringify([model, storedDType, dtype, Array.from(plan)])}`;
  return { recipe, key, plan, model, storedDType, dtype, masks };
}

/** Makes the codec. */
export function openCodec(backend: Backend, setup: Setup): ChunkCodec {
  return new KeptCodec(backend, setup as KeptSetup);
}

/** What a head holds of a range of tokens. */
interface Held {
  /** Tokens, rising. */
  readonly tokens: readonly number[];
  /** Elements of each token, rising. */
  readonly channels: readonly number[];
}

class KeptCodec implements ChunkCodec {
  readonly #backend: Backend;
  readonly #setup: KeptSetup;

  constructor(backend: Backend, setup: KeptSetup) {
    this.#backend = backend;
    this.#setup = setup;
  }

  encode({ region, kinds: [kind], begin, tokens, data: [data], marks }: EncodeJob): Promise<TaggedStream[]> {
    const { storedDType, model: { kvHeads: heads } } = this.#setup;
    const dim = this.#dim(kind);
    requireFinite(data, storedDType, { kind, heads, tokens, dim, firstToken: begin });
    const held = this.#held(region, kind, tokens, marks);
    const out = new Uint8Array(this.#bytes(held));
    this.#copy(held, tokens, dim, (full, packed, length) => out.set(data.subarray(full, full + length), packed));
    return Promise.resolve([{ ...rawStream(out), tag: KEPT_TAGS[kind] }]);
  }

  async decode(job: DecodeJob): Promise<Uint8Array[]> {
    const { region, kinds: [kind], tokens, positions, targetPositions, layerBegin, layerEnd, marks } = job;
    const { model: { kvHeads, rope }, storedDType, dtype } = this.#setup;
    const dim = this.#dim(kind);
    const packed = await this.#unpack(job);
    const all = this.#held(region, kind, tokens, marks);
    const [first, last] = [layerBegin * kvHeads, layerEnd * kvHeads];
    const own = packed.subarray(this.#bytes(all.slice(0, first)));
    const out = new Uint8Array((last - first) * tokens * dim * BYTES_PER_ELEMENT[storedDType]);
    this.#copy(all.slice(first, last), tokens, dim, (full, at, length) => out.set(own.subarray(at, at + length), full));
    const moved = kind === "key" && rope !== null && positions.some((position, t) => position !== targetPositions[t]);
    if (!moved && storedDType === dtype) return [out];
    return [
      await retarget(this.#backend, out, {
        blocks: last - first,
        tokens,
        dim,
        from: storedDType,
        to: dtype,
        rope: moved ? { spec: rope!, from: positions, to: targetPositions } : null,
      }),
    ];
  }

  async inflate(job: InflateJob): Promise<TaggedStream[]> {
    return [{ ...rawStream(await this.#unpack(job)), tag: job.streams[0].tag }];
  }

  [Symbol.dispose](): void {}

  /** The stream's bytes, when they are as many as the marks say. Its tokens are bounded by them before lists are made. */
  async #unpack({ region, kinds: [kind], tokens, marks, streams: [stream] }: DecodeJob | InflateJob) {
    if (stream === undefined) throw new KvzFormatError(`Cannot read file: its recipe has no region "${region}"`);
    const { model: { layers, kvHeads }, storedDType } = this.#setup;
    const whole = layers * kvHeads * tokens * this.#dim(kind) * BYTES_PER_ELEMENT[storedDType];
    const least = region === "chunk" ? 0 : whole;
    if (stream.codec !== "raw" || stream.bytes.length < least || stream.bytes.length > whole) {
      throw new KvzFormatError(
        `Cannot read file: stream ${stream.tag} has ${stream.bytes.length} ${stream.codec} bytes, expected ${
          least === whole ? "" : "up to "
        }${whole} raw ones`,
      );
    }
    const expected = region === "chunk" ? this.#bytes(this.#held(region, kind, tokens, marks)) : whole;
    return await decodeStream(stream, expected, `stream ${stream.tag}`);
  }

  #dim(kind: Kind): number {
    const { keyDim, valueDim } = this.#setup.model;
    return kind === "key" ? keyDim : valueDim;
  }

  /** What each head of all layers holds. */
  #held(region: Region, kind: Kind, tokens: number, marks: Uint8Array | undefined): Held[] {
    const { model: { layers, kvHeads }, masks } = this.#setup;
    const dim = this.#dim(kind);
    const every = (n: number) => Array.from({ length: n }, (_, i) => i);
    const [allTokens, allChannels] = [every(tokens), every(dim)];
    return every(layers * kvHeads).map((block) => ({
      tokens: marks === undefined ? allTokens : allTokens.filter((t) => marks[block * tokens + t] !== 0),
      channels: masks === null || kind === "value" || region !== "chunk"
        ? allChannels
        : allChannels.filter((j) => masks[block * dim + j] !== 0),
    }));
  }

  #bytes(held: readonly Held[]): number {
    const elements = held.reduce((sum, { tokens, channels }) => sum + tokens.length * channels.length, 0);
    return elements * BYTES_PER_ELEMENT[this.#setup.storedDType];
  }

  /** Calls `move(offset in [heads][tokens][dim], offset in the stream, bytes)` for every run of held elements. */
  #copy(
    held: readonly Held[],
    tokens: number,
    dim: number,
    move: (full: number, packed: number, length: number) => void,
  ): void {
    const width = BYTES_PER_ELEMENT[this.#setup.storedDType];
    let packed = 0;
    held.forEach(({ tokens: kept, channels }, block) => {
      const runs = runsOf(channels);
      for (const t of kept) {
        for (const [begin, length] of runs) {
          move(((block * tokens + t) * dim + begin) * width, packed, length * width);
          packed += length * width;
        }
      }
    });
  }
}

/** Rising numbers as runs [first, length]. */
function runsOf(numbers: readonly number[]): [first: number, length: number][] {
  const runs: [number, number][] = [];
  for (const n of numbers) {
    const last = runs[runs.length - 1];
    if (last !== undefined && last[0] + last[1] === n) last[1]++;
    else runs.push([n, 1]);
  }
  return runs;
}
