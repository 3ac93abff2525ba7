/**
 * What the lanes of recipe diffkv run: classes of tokens to pages and back.
 *
 * @module
 */
import type { Backend } from "../../backend/backend.ts";
import { fromFloat32, toFloat32 } from "../../cache/elements.ts";
import { requireFinite } from "../../cache/finite.ts";
import { rotateRows, shiftTable } from "../../cache/rope.ts";
import type { DType, ModelSpec } from "../../cache/types.ts";
import { KvzFormatError, KvzUnsupportedError } from "../../errors.ts";
import { CLASSES } from "../../stages/diffkv/classes.ts";
import { type PageShape, pagesLength, type PageToken, readPages, writePages } from "../../stages/diffkv/pages.ts";
import { PRECISIONS } from "../../stages/diffkv/presets.ts";
import { decodeStream, rawStream } from "../../stages/entropy/deflate.ts";
import type { ChunkCodec, DecodeJob, EncodeJob, InflateJob, Setup, SetupFacts, TaggedStream } from "../recipe.ts";
import type { DiffKvOptions } from "./diffkv.ts";

interface DiffKvSetup extends Setup {
  readonly model: ModelSpec;
  readonly dtype: DType;
  readonly storedDType: DType;
  /** By class: high, low. */
  readonly shapes: readonly PageShape[];
  /** Attention that tokens received, [layers][kvHeads][tokens]; null in a decoder. */
  readonly scores: Float32Array | null;
}

let encoders = 0;

/** The setup of an encoder; `facts.selected` are the scores. Without them nothing can be encoded: for checks of options. */
export function planSetup(facts: SetupFacts, options: DiffKvOptions): Setup {
  const { selected } = facts;
  const scores = selected === undefined ? null : new Float32Array(selected.slice().buffer);
  // Scores are this cache's alone: no other setup has the key.
  return makeSetup(facts, options, scores, `encoder ${encoders++}`);
}

/**
 * The setup of a decoder.
 *
 * @throws {KvzFormatError} The file has a plan.
 */
export function loadSetup(facts: SetupFacts, plan: Uint8Array, options: DiffKvOptions): Setup {
  if (plan.length > 0) {
    throw new KvzFormatError(`Cannot read file: the plan of recipe diffkv has ${plan.length} bytes, expected none`);
  }
  return makeSetup(facts, options, null, "decoder");
}

function makeSetup(
  { model, storedDType, dtype }: SetupFacts,
  { high, low }: DiffKvOptions,
  scores: Float32Array | null,
  part: string,
): DiffKvSetup {
  const key = `diffkv ${JSON.stringify([model, storedDType, dtype, high, low, part])}`;
  const { keyDim, valueDim } = model;
  const shapes = [high, low].map((name) => ({ keyDim, valueDim, precision: PRECISIONS[name] }));
  for (const { precision: { keyGroups, valueGroups } } of shapes) {
    if (keyDim % keyGroups !== 0 || valueDim % valueGroups !== 0) {
      throw new KvzUnsupportedError(
        `Cannot use recipe diffkv: heads of ${keyDim} and ${valueDim} elements are no ${keyGroups} and ${valueGroups} groups`,
      );
    }
  }
  return { recipe: "diffkv", key, plan: new Uint8Array(0), model, storedDType, dtype, shapes, scores };
}

/** Makes the codec. */
export function openCodec(_: Backend, setup: Setup): ChunkCodec {
  return new DiffKvCodec(setup as DiffKvSetup);
}

/** Tokens of a head by class, rising. */
interface HeadTokens {
  readonly of: readonly (readonly number[])[];
  /** Bytes of the head's pages of each class. */
  readonly lengths: readonly number[];
}

class DiffKvCodec implements ChunkCodec {
  readonly #setup: DiffKvSetup;

  constructor(setup: DiffKvSetup) {
    this.#setup = setup;
  }

  encode({ kinds, begin, tokens, after, positions, data, marks }: EncodeJob): Promise<TaggedStream[]> {
    const { model: { layers, kvHeads, keyDim, valueDim }, storedDType, shapes, scores } = this.#setup;
    const [key, value] = (["key", "value"] as const).map((kind) => {
      const bytes = data[kinds.indexOf(kind)];
      const dim = kind === "key" ? keyDim : valueDim;
      requireFinite(bytes, storedDType, { kind, heads: kvHeads, tokens, dim, firstToken: begin });
      return toFloat32(bytes, storedDType);
    });
    if (scores === null) throw new KvzUnsupportedError("Cannot compress with recipe diffkv: its scores are missing");
    const heads = this.#heads(marks, tokens);
    const out = new Uint8Array(heads.reduce((sum, { lengths }) => sum + lengths[0] + lengths[1], 0));
    // Of all tokens of the cache.
    const all = begin + tokens + after;
    let at = 0;
    heads.forEach(({ of, lengths }, block) => {
      of.forEach((own, c) => {
        const list = own.map((t): PageToken => ({
          key: key.subarray((block * tokens + t) * keyDim, (block * tokens + t + 1) * keyDim),
          value: value.subarray((block * tokens + t) * valueDim, (block * tokens + t + 1) * valueDim),
          score: scores[block * all + begin + t],
          position: positions[t],
        }));
        writePages(shapes[c], list, out.subarray(at, at + lengths[c]), (index, what) => {
          throw new KvzUnsupportedError(
            `Cannot compress cache: layer ${Math.floor(block / kvHeads)}, head ${block % kvHeads}, token ${
              begin + own[index]
            } needs a scale or offset of ${what}, binary16 ends at 65504`,
          );
        });
        at += lengths[c];
      });
    });
    if (heads.length !== layers * kvHeads) throw new RangeError(`Cannot encode: ${heads.length} heads have marks`);
    return Promise.resolve([{ ...rawStream(out), tag: "PAGE" }]);
  }

  async decode(job: DecodeJob): Promise<Uint8Array[]> {
    const { kinds, tokens, positions, targetPositions, layerBegin, layerEnd, marks } = job;
    const { model: { kvHeads, keyDim, valueDim, rope }, dtype, shapes } = this.#setup;
    const heads = this.#heads(marks, tokens);
    const bytes = await this.#unpack(job, heads);
    const rows = (layerEnd - layerBegin) * kvHeads;
    const x = { key: new Float32Array(rows * tokens * keyDim), value: new Float32Array(rows * tokens * valueDim) };
    let at = 0;
    heads.forEach(({ of, lengths }, block) => {
      const row = block - layerBegin * kvHeads;
      of.forEach((own, c) => {
        const pages = bytes.subarray(at, at + lengths[c]);
        at += lengths[c];
        if (row < 0 || row >= rows) return;
        readPages(shapes[c], pages, own.length, (index, { key, value, position }) => {
          const t = own[index];
          if (position !== positions[t]) {
            throw new KvzFormatError(`Cannot read page: a token has position ${position}, expected ${positions[t]}`);
          }
          x.key.set(key, (row * tokens + t) * keyDim);
          x.value.set(value, (row * tokens + t) * valueDim);
        });
      });
    });
    if (rope !== null && positions.some((position, t) => position !== targetPositions[t])) {
      rotateRows(x.key, keyDim, rope.dim, shiftTable(rope, positions, targetPositions));
    }
    return kinds.map((kind) => fromFloat32(x[kind], dtype));
  }

  async inflate(job: InflateJob): Promise<TaggedStream[]> {
    return [{ ...rawStream(await this.#unpack(job, this.#heads(job.marks, job.tokens))), tag: "PAGE" }];
  }

  [Symbol.dispose](): void {}

  async #unpack({ region, streams: [stream] }: DecodeJob | InflateJob, heads: readonly HeadTokens[]) {
    if (stream === undefined) throw new KvzFormatError(`Cannot read file: recipe diffkv has no region "${region}"`);
    const wanted = heads.reduce((sum, { lengths }) => sum + lengths[0] + lengths[1], 0);
    if (stream.codec !== "raw") throw new KvzFormatError("Cannot read file: the pages of recipe diffkv are not raw");
    return await decodeStream(stream, wanted, "pages");
  }

  /**
   * Tokens of each head of all layers by class.
   *
   * @throws {KvzFormatError} There are no marks, or a class is none of the recipe's.
   */
  #heads(marks: Uint8Array | undefined, tokens: number): HeadTokens[] {
    if (marks === undefined) throw new KvzFormatError("Cannot read file: a chunk of recipe diffkv has no classes");
    const { shapes } = this.#setup;
    return Array.from({ length: marks.length / tokens }, (_, block) => {
      const of: number[][] = [[], []];
      for (let t = 0; t < tokens; t++) {
        const mark = marks[block * tokens + t];
        if (mark > CLASSES.low) throw new KvzFormatError(`Cannot read file: class ${mark} is none of recipe diffkv`);
        if (mark !== CLASSES.pruned) of[mark - 1].push(t);
      }
      return { of, lengths: of.map((own, c) => pagesLength(shapes[c], own.length)) };
    });
  }
}
