/**
 * What the lanes of recipe kvcomp run.
 *
 * @module
 */
import type { Backend } from "../backend/backend.ts";
import { HuffmanKernels, WasmCodedTensor } from "../backend/wasm/huffman_kernels.ts";
import { requireFinite } from "../cache/finite.ts";
import type { DType, Kind, ModelSpec } from "../cache/types.ts";
import { KvzFormatError } from "../errors.ts";
import { decodeStream, rawStream } from "../stages/entropy/deflate.ts";
import { decodeBlocks } from "../stages/entropy/huffman_blocks.ts";
import { hostBuild } from "../backend/host.ts";
import {
  chunkLimits,
  decodeChunk,
  type DecodeSymbols,
  encodeChunk,
  type KvCompChunk,
  packChunk,
  parseChunk,
} from "../stages/kvcomp/coder.ts";
import { blockTokens, codedTokens, type KvCompShape, rawTokenBytes } from "../stages/kvcomp/shape.ts";
import { alphabetOf } from "../stages/quantize/relative.ts";
import { retarget } from "../stages/tokens/window.ts";
import { kvcomp, KVCOMP_TAGS, type KvCompOptions } from "./kvcomp.ts";
import type { ChunkCodec, DecodeJob, EncodeJob, InflateJob, Setup, SetupFacts, TaggedStream } from "./recipe.ts";

interface KvCompSetup extends Setup {
  readonly model: ModelSpec;
  readonly storedDType: DType;
  readonly dtype: DType;
  readonly shapes: Readonly<Record<Kind, KvCompShape>>;
  /** null in a decoder. */
  readonly options: KvCompOptions | null;
}

/** The setup of an encoder. */
export function planSetup(facts: SetupFacts, options: KvCompOptions): Setup {
  return makeSetup(facts, planOf(options), options);
}

/** Grouping of keys, alphabets less one. */
function planOf({ keyGroups, keyRel, valueRel }: KvCompOptions): Uint8Array {
  return Uint8Array.of(keyGroups === "channel" ? 1 : 0, alphabetOf(keyRel) - 1, alphabetOf(valueRel) - 1);
}

/**
 * The setup of a decoder, and with options of an encoder of more tokens.
 *
 * @throws {KvzFormatError} The plan is damaged, or not that of the options.
 */
export function loadSetup(facts: SetupFacts, plan: Uint8Array, options: KvCompOptions | null): Setup {
  const wrong = options !== null && planOf(options).some((byte, i) => byte !== plan[i]);
  if (plan.length !== 3 || plan[0] > 1 || plan[1] < 1 || plan[2] < 1 || wrong) {
    throw new KvzFormatError(`Cannot read file: the plan of recipe kvcomp is ${plan.join(", ")}`);
  }
  return makeSetup(facts, plan, options);
}

function makeSetup(facts: SetupFacts, plan: Uint8Array, options: KvCompOptions | null): Setup {
  const { model, storedDType, dtype } = facts;
  const key = `kvcomp ${JSON.stringify([model, storedDType, dtype, Array.from(plan), options])}`;
  const setup: KvCompSetup = {
    recipe: "kvcomp",
    key,
    plan,
    model,
    storedDType,
    dtype,
    shapes: kvCompShapes(model, storedDType, plan),
    options,
  };
  return setup;
}

/** Shapes of both kinds in a file with such a plan. */
export function kvCompShapes(model: ModelSpec, dtype: DType, plan: Uint8Array): Readonly<Record<Kind, KvCompShape>> {
  const { layers, kvHeads: heads, keyDim, valueDim } = model;
  const shape = { layers, heads, dtype };
  return {
    key: { ...shape, kind: "key", dim: keyDim, grouping: plan[0] === 1 ? "channel" : "block", alphabet: plan[1] + 1 },
    value: { ...shape, kind: "value", dim: valueDim, grouping: "token", alphabet: plan[2] + 1 },
  };
}

/** Loads the kernels of the backend's build. */
export async function openCodec(backend: Backend, setup: Setup): Promise<ChunkCodec> {
  const build = hostBuild(backend, "Huffman codes");
  const kernels = build === null ? null : await HuffmanKernels.open(build);
  const decode: DecodeSymbols = kernels === null ? decodeBlocks : (blocks, shape, lengths, begin, end) => {
    const tensor = new WasmCodedTensor(kernels, blocks, shape, lengths);
    try {
      return tensor.symbols(begin, end);
    } finally {
      tensor[Symbol.dispose]();
    }
  };
  return new KvCompCodec(backend, setup as KvCompSetup, decode);
}

class KvCompCodec implements ChunkCodec {
  readonly #backend: Backend;
  readonly #setup: KvCompSetup;
  readonly #decode: DecodeSymbols;

  constructor(backend: Backend, setup: KvCompSetup, decode: DecodeSymbols) {
    this.#backend = backend;
    this.#setup = setup;
    this.#decode = decode;
  }

  async encode(job: EncodeJob): Promise<TaggedStream[]> {
    const { region, kinds: [kind], data: [data], begin, tokens, after, previous } = job;
    if (region !== "chunk") return [{ ...rawStream(data), tag: kvcomp.tags(region, [kind])[0] }];
    const { shapes, options, storedDType } = this.#setup;
    const shape = shapes[kind];
    const { heads, dim } = shape;
    const { keyRel, valueRel, recentKeys, recentValues, sinks } = options!;
    requireFinite(data, storedDType, { kind, heads, tokens, dim, firstToken: begin });
    const before = previous === undefined ? undefined : await parseStreams(previous.streams, shape, previous.tokens);
    const first = begin - (previous?.tokens ?? 0);
    const [rel, recent] = kind === "key" ? [keyRel, recentKeys] : [valueRel, recentValues];
    // Of the whole cache's coded tokens those of this chunk; what is coded stays so.
    const all = codedTokens(begin - sinks + tokens + after, blockTokens(kind), recent) - (first - sinks);
    const whole = begin + tokens - first - (begin + tokens - first) % blockTokens(kind);
    const coded = Math.max(before?.coded ?? 0, Math.min(whole, Math.max(0, all)));
    const chunk = encodeChunk(data, shape, rel, coded, first, before);
    return packChunk(chunk).map((bytes, i) => ({ ...rawStream(bytes), tag: KVCOMP_TAGS[kind][i] }));
  }

  async decode(job: DecodeJob): Promise<Uint8Array[]> {
    const { region, kinds: [kind], tokens, positions, targetPositions, layerBegin, layerEnd, streams } = job;
    const { model, shapes, storedDType, dtype } = this.#setup;
    const shape = shapes[kind];
    const elements = region === "chunk"
      ? decodeChunk(await parseStreams(streams, shape, tokens), shape, layerBegin, layerEnd, this.#decode)
      : await rawLayers(streams[0], shape, tokens, layerBegin, layerEnd);
    const rope = kind === "key" ? model.rope : null;
    const moved = rope !== null && positions.some((position, t) => position !== targetPositions[t]);
    if (!moved && storedDType === dtype) return [elements];
    return [
      await retarget(this.#backend, elements, {
        blocks: (layerEnd - layerBegin) * shape.heads,
        tokens,
        dim: shape.dim,
        from: storedDType,
        to: dtype,
        rope: moved ? { spec: rope, from: positions, to: targetPositions } : null,
      }),
    ];
  }

  /** Streams are as they are decoded. */
  inflate(job: InflateJob): Promise<TaggedStream[]> {
    return Promise.resolve([...job.streams]);
  }

  [Symbol.dispose](): void {}
}

/** A raw region's layers. */
async function rawLayers(stream: TaggedStream, shape: KvCompShape, tokens: number, begin: number, end: number) {
  const each = tokens * rawTokenBytes(shape) / shape.layers;
  return (await decodeStream(stream, each * shape.layers, `stream ${stream.tag}`)).slice(begin * each, end * each);
}

/**
 * Streams of a chunk, refused where geometry says that no encoder makes so many bytes.
 *
 * @throws {KvzFormatError} The streams are none of so many tokens.
 */
export async function parseStreams(
  streams: readonly TaggedStream[],
  shape: KvCompShape,
  tokens: number,
): Promise<KvCompChunk> {
  const limits = chunkLimits(shape, tokens);
  const parts = await Promise.all(streams.map((stream, i) => {
    const { tag, rawLength } = stream;
    if (rawLength > limits[i]) {
      throw new KvzFormatError(
        `Cannot read file: stream ${tag} has ${rawLength} bytes, ${tokens} tokens have at most ${limits[i]}`,
      );
    }
    return decodeStream(stream, rawLength, `stream ${tag}`);
  }));
  return parseChunk(parts, shape, tokens);
}
