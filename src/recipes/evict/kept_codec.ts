/**
 * What the lanes of the evicting recipes run: elements that heads keep, as they are or coded head by head.
 *
 *     [chunk]  keep → prune (think) → raw, or a code
 *     [window] raw
 *
 * @module
 */
import type { Backend } from "../../backend/backend.ts";
import { fromFloat32, toFloat32 } from "../../cache/elements.ts";
import { requireFinite } from "../../cache/finite.ts";
import { BYTES_PER_ELEMENT, type DType, type Kind, type ModelSpec } from "../../cache/types.ts";
import { KvzFormatError, KvzUnsupportedError } from "../../errors.ts";
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
import type { TensorCoder } from "../tensor/coder.ts";
import { type CodeOptions, openCode } from "./codes.ts";
import { KEPT_TAGS } from "./evicting.ts";

interface KeptSetup extends Setup {
  readonly model: ModelSpec;
  readonly storedDType: DType;
  readonly dtype: DType;
  /** Channels of keys that chunks hold, [layers · kvHeads][keyDim] of zeros and ones; null: all. */
  readonly masks: Uint8Array | null;
  /** How chunks are coded. */
  readonly code: string;
  readonly bits: number | null;
}

/** The setup of an encoder: the masks that were selected go into the plan. */
export function planSetup(recipe: string, facts: SetupFacts, code: CodeOptions): Setup {
  return makeSetup(recipe, facts, facts.selected ?? null, code);
}

/**
 * The setup of a decoder.
 *
 * @throws {KvzFormatError} when the plan is not the masks of all heads where the recipe has some, or not empty elsewhere
 */
export function loadSetup(
  recipe: string,
  facts: SetupFacts,
  plan: Uint8Array,
  prunes: boolean,
  code: CodeOptions,
): Setup {
  const { layers, kvHeads, keyDim } = facts.model;
  const expected = prunes ? layers * kvHeads * Math.ceil(keyDim / 8) : 0;
  if (plan.length !== expected) {
    throw new KvzFormatError(
      `Cannot read file: the plan of recipe ${recipe} has ${plan.length} bytes, expected ${expected}`,
    );
  }
  return makeSetup(recipe, facts, prunes ? unpackMasks(plan, layers * kvHeads, keyDim) ?? fail(recipe) : null, code);
}

function fail(recipe: string): never {
  throw new KvzFormatError(`Cannot read file: the plan of recipe ${recipe} has padding that is not zero`);
}

function makeSetup(
  recipe: string,
  { model, storedDType, dtype }: SetupFacts,
  masks: Uint8Array | null,
  { code, bits }: CodeOptions,
): KeptSetup {
  const plan = masks === null ? new Uint8Array(0) : packMasks(masks, model.keyDim);
  const key = `${recipe} ${JSON.stringify([model, storedDType, dtype, code, bits, Array.from(plan)])}`;
  return { recipe, key, plan, model, storedDType, dtype, masks, code, bits };
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
  /** Coders of a head, by kind and number of elements. */
  readonly #coders = new Map<string, Promise<TensorCoder>>();

  constructor(backend: Backend, setup: KeptSetup) {
    this.#backend = backend;
    this.#setup = setup;
  }

  async encode({ region, kinds: [kind], begin, tokens, data: [data], marks }: EncodeJob): Promise<TaggedStream[]> {
    const { storedDType, model: { kvHeads: heads } } = this.#setup;
    const dim = this.#dim(kind);
    requireFinite(data, storedDType, { kind, heads, tokens, dim, firstToken: begin });
    const held = this.#held(region, kind, tokens, marks);
    const parts: Uint8Array[] = [];
    const perHead = tokens * dim * BYTES_PER_ELEMENT[storedDType];
    for (const [block, head] of held.entries()) {
      const raw = new Uint8Array(this.#rawBytes(head));
      const full = data.subarray(block * perHead, (block + 1) * perHead);
      this.#copy(head, dim, (from, to, length) => raw.set(full.subarray(from, from + length), to));
      parts.push(this.#coded(region, head) ? await this.#encodeHead(kind, head, raw, begin, block) : raw);
    }
    return [{ ...rawStream(joinParts(parts)), tag: KEPT_TAGS[kind] }];
  }

  async decode(job: DecodeJob): Promise<Uint8Array[]> {
    const { region, kinds: [kind], tokens, positions, targetPositions, layerBegin, layerEnd, marks } = job;
    const { model: { kvHeads, rope }, storedDType, dtype } = this.#setup;
    const dim = this.#dim(kind);
    const packed = await this.#unpack(job);
    const held = this.#held(region, kind, tokens, marks);
    const [first, last] = [layerBegin * kvHeads, layerEnd * kvHeads];
    const perHead = tokens * dim * BYTES_PER_ELEMENT[storedDType];
    const out = new Uint8Array((last - first) * perHead);
    let at = 0;
    for (const [block, head] of held.slice(0, last).entries()) {
      const length = await this.#bytes(region, kind, head);
      const own = packed.subarray(at, at += length);
      if (block < first) continue;
      const raw = this.#coded(region, head) ? await this.#decodeHead(kind, head, own) : own;
      const full = out.subarray((block - first) * perHead);
      this.#copy(head, dim, (to, from, length) => full.set(raw.subarray(from, from + length), to));
    }
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

  [Symbol.dispose](): void {
    for (const coder of this.#coders.values()) {
      // One that could not be opened has told so already.
      coder.then((opened) => opened[Symbol.dispose]?.(), () => {});
    }
  }

  /** The stream's bytes, when they are as many as the marks say. Its tokens are bounded by them before lists are made. */
  async #unpack({ region, kinds: [kind], tokens, marks, streams: [stream] }: DecodeJob | InflateJob) {
    const { model: { layers, kvHeads }, storedDType } = this.#setup;
    if (stream === undefined) throw new KvzFormatError(`Cannot read file: its recipe has no region "${region}"`);
    const whole = layers * kvHeads * tokens * this.#dim(kind) * BYTES_PER_ELEMENT[storedDType];
    if (stream.codec !== "raw" || (region !== "chunk" && stream.bytes.length !== whole)) {
      throw new KvzFormatError(
        `Cannot read file: stream ${stream.tag} has ${stream.bytes.length} ${stream.codec} bytes, expected raw ones` +
          (region === "chunk" ? "" : `, ${whole} of them`),
      );
    }
    let expected = whole;
    if (region === "chunk") {
      expected = 0;
      for (const head of this.#held(region, kind, tokens, marks)) expected += await this.#bytes(region, kind, head);
    }
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

  /** Whether a head goes through the code. */
  #coded(region: Region, head: Held): boolean {
    return this.#setup.code !== "raw" && region === "chunk" && head.tokens.length > 0 && head.channels.length > 0;
  }

  #rawBytes({ tokens, channels }: Held): number {
    return tokens.length * channels.length * BYTES_PER_ELEMENT[this.#setup.storedDType];
  }

  /** Bytes of a head in the stream. */
  async #bytes(region: Region, kind: Kind, head: Held): Promise<number> {
    return this.#coded(region, head)
      ? (await this.#coder(kind, head)).limits(head.tokens.length).reduce((sum, n) => sum + n, 0)
      : this.#rawBytes(head);
  }

  #coder(kind: Kind, { channels: { length: dim } }: Held): Promise<TensorCoder> {
    const key = `${kind} ${dim}`;
    let coder = this.#coders.get(key);
    if (coder === undefined) {
      const { storedDType } = this.#setup;
      coder = openCode(this.#setup, { kind, dim, storedDType, backend: this.#backend });
      this.#coders.set(key, coder);
    }
    return coder;
  }

  async #encodeHead(kind: Kind, head: Held, raw: Uint8Array, begin: number, block: number): Promise<Uint8Array> {
    const coder = await this.#coder(kind, head);
    const tokens = head.tokens.length;
    const x = toFloat32(raw, this.#setup.storedDType);
    const shape = { kind, layers: 1, heads: 1, dim: head.channels.length };
    let streams: readonly Uint8Array[];
    try {
      streams = await coder.encode([{ ...shape, x, tokens, begin }]);
    } catch (cause) {
      if (!(cause instanceof KvzUnsupportedError)) throw cause;
      // The coder sees one head and the tokens that are kept.
      const { kvHeads } = this.#setup.model;
      throw new KvzUnsupportedError(
        `Cannot code what layer ${Math.floor(block / kvHeads)}, head ${
          block % kvHeads
        } keeps of the chunk from token ` +
          `${begin} on: ${cause.message}`,
        { cause },
      );
    }
    coder.limits(tokens).forEach((length, i) => {
      if (streams[i].length !== length) throw new Error(`stream ${i} of ${this.#setup.code} has no fixed length`);
    });
    return joinParts(streams);
  }

  async #decodeHead(kind: Kind, head: Held, bytes: Uint8Array): Promise<Uint8Array> {
    const coder = await this.#coder(kind, head);
    const tokens = head.tokens.length;
    let at = 0;
    const streams = coder.limits(tokens).map((length) => bytes.subarray(at, at += length));
    const [x] = await coder.decode(streams, { tokens, layerBegin: 0, layerEnd: 1 });
    return fromFloat32(x, this.#setup.storedDType);
  }

  /** Calls `move(offset in [tokens][dim], offset in what is held, bytes)` for every run of a head's elements. */
  #copy({ tokens, channels }: Held, dim: number, move: (full: number, packed: number, length: number) => void): void {
    const width = BYTES_PER_ELEMENT[this.#setup.storedDType];
    const runs = runsOf(channels);
    let packed = 0;
    for (const t of tokens) {
      for (const [begin, length] of runs) {
        move((t * dim + begin) * width, packed, length * width);
        packed += length * width;
      }
    }
  }
}

/** Bytes one after another. */
function joinParts(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
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
