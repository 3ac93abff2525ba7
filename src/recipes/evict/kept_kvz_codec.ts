/**
 * What the lanes of an evicting recipe with `code: "kvz"` run: of each chunk the tokens that any head keeps are coded by kvz,
 * all heads of them, as if there were no others. What a head does not keep costs bits and is not given back: to code only
 * what is kept saves less than it costs (docs/recipes.md).
 *
 * @module
 */
import type { Backend } from "../../backend/backend.ts";
import { requireFinite } from "../../cache/finite.ts";
import { BYTES_PER_ELEMENT, type DType, type Kind, type ModelSpec } from "../../cache/types.ts";
import { KvzFormatError } from "../../errors.ts";
import { rawStream } from "../../stages/entropy/deflate.ts";
import { KVZ_TAGS } from "../kvz.ts";
import { openCodec as openKvz } from "../kvz_codec.ts";
import type { KvzSetup } from "../kvz_setup.ts";
import type { ChunkCodec, DecodeJob, EncodeJob, InflateJob, Setup, TaggedStream } from "../recipe.ts";
import type { KeptKvzSetup } from "./with_kvz.ts";

/** Makes the codec. */
export async function openCodec(backend: Backend, setup: Setup): Promise<ChunkCodec> {
  const inner = (setup as KeptKvzSetup).kvz as KvzSetup;
  return new KeptKvzCodec(await openKvz(backend, inner), inner);
}

class KeptKvzCodec implements ChunkCodec {
  readonly #kvz: ChunkCodec;
  readonly #model: ModelSpec;
  readonly #storedDType: DType;
  readonly #dtype: DType;

  constructor(kvz: ChunkCodec, { model, storedDType, dtype }: KvzSetup) {
    this.#kvz = kvz;
    this.#model = model;
    this.#storedDType = storedDType;
    this.#dtype = dtype;
  }

  get jobs(): number {
    return this.#kvz.jobs ?? 1;
  }

  async encode(job: EncodeJob): Promise<TaggedStream[]> {
    const kept = this.#keptOf(job);
    if (kept === null) return await this.#kvz.encode(job);
    const { kinds, tokens, begin, positions } = job;
    // With the places that the tokens have among all.
    kinds.forEach((kind, i) =>
      requireFinite(job.data[i], this.#storedDType, { ...this.#rows(kind), tokens, firstToken: begin })
    );
    if (kept.length === 0) return KVZ_TAGS.chunk.map((tag) => ({ ...rawStream(new Uint8Array(0)), tag }));
    const { marks: _, ...rest } = job;
    const data = kinds.map((kind, i) => moveRows(job.data[i], this.#rowBytes(kind, this.#storedDType), tokens, kept));
    return await this.#kvz.encode({ ...rest, tokens: kept.length, positions: pick(positions, kept), data });
  }

  async decode(job: DecodeJob): Promise<Uint8Array[]> {
    const kept = this.#keptOf(job);
    if (kept === null) return await this.#kvz.decode(job);
    const { tokens, kinds, layerBegin, layerEnd, positions, targetPositions } = job;
    const blocks = (layerEnd - layerBegin) * this.#model.kvHeads;
    const empty = () => kinds.map((kind) => new Uint8Array(blocks * tokens * this.#rowBytes(kind, this.#dtype)));
    if (kept.length === 0) {
      requireNothing(job.streams);
      return empty();
    }
    const some = await this.#kvz.decode({
      ...job,
      tokens: kept.length,
      positions: pick(positions, kept),
      targetPositions: pick(targetPositions, kept),
    });
    const own = job.marks!.subarray(layerBegin * this.#model.kvHeads * tokens);
    return empty().map((out, i) => {
      spreadRows(some[i], out, this.#rowBytes(kinds[i], this.#dtype), tokens, kept, own);
      return out;
    });
  }

  async inflate(job: InflateJob): Promise<TaggedStream[]> {
    const kept = this.#keptOf(job);
    if (kept === null) return await this.#kvz.inflate(job);
    if (kept.length === 0) {
      requireNothing(job.streams);
      return [...job.streams];
    }
    return await this.#kvz.inflate({ ...job, tokens: kept.length, positions: pick(job.positions, kept) });
  }

  [Symbol.dispose](): void {
    this.#kvz[Symbol.dispose]();
  }

  /** Tokens of a job that some head keeps; null: all keep all. */
  #keptOf({ marks, tokens }: EncodeJob | DecodeJob | InflateJob): number[] | null {
    if (marks === undefined) return null;
    const some = new Uint8Array(tokens);
    for (let i = 0; i < marks.length; i++) some[i % tokens] |= marks[i];
    return Array.from(some.keys()).filter((t) => some[t] !== 0);
  }

  #rows(kind: Kind): { kind: Kind; heads: number; dim: number } {
    const { kvHeads, keyDim, valueDim } = this.#model;
    return { kind, heads: kvHeads, dim: kind === "key" ? keyDim : valueDim };
  }

  #rowBytes(kind: Kind, dtype: DType): number {
    return this.#rows(kind).dim * BYTES_PER_ELEMENT[dtype];
  }
}

function pick(numbers: Int32Array, kept: readonly number[]): Int32Array {
  return Int32Array.from(kept, (t) => numbers[t]);
}

function requireNothing(streams: readonly TaggedStream[]): void {
  const found = streams.find(({ rawLength }) => rawLength !== 0);
  if (found === undefined) return;
  throw new KvzFormatError(
    `Cannot read file: stream ${found.tag} has ${found.rawLength} bytes, of a chunk in which no token is kept`,
  );
}

/** Rows of some tokens out of [blocks][tokens]. */
function moveRows(all: Uint8Array, rowBytes: number, tokens: number, kept: readonly number[]): Uint8Array {
  const blocks = all.length / (tokens * rowBytes);
  const out = new Uint8Array(blocks * kept.length * rowBytes);
  let at = 0;
  for (let block = 0; block < blocks; block++) {
    for (const t of kept) {
      const from = (block * tokens + t) * rowBytes;
      out.set(all.subarray(from, from + rowBytes), at);
      at += rowBytes;
    }
  }
  return out;
}

/** The inverse of {@linkcode moveRows}, into zeros; only where `marks` [blocks][tokens] are not 0. */
function spreadRows(
  some: Uint8Array,
  all: Uint8Array,
  rowBytes: number,
  tokens: number,
  kept: readonly number[],
  marks: Uint8Array,
): void {
  const blocks = all.length / (tokens * rowBytes);
  let at = 0;
  for (let block = 0; block < blocks; block++) {
    for (const t of kept) {
      const row = block * tokens + t;
      if (marks[row] !== 0) all.set(some.subarray(at, at + rowBytes), row * rowBytes);
      at += rowBytes;
    }
  }
}
