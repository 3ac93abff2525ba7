/**
 * KV caches in safetensors files. Tensors have the names that Transformers.js and ONNX exports use:
 * `past_key_values.N.key|value` [1, kv_heads, tokens, dim] in F16, BF16 or F32, keys after RoPE; optional `input_ids`
 * I32 or I64 [1, tokens], `positions` I32 [1, tokens] and `queries.N` [1, q_heads, w, dim] (the last w tokens, after
 * RoPE). Metadata: `model`, `architecture` and `rope` (see safetensors_rope.ts).
 *
 * @module
 */
import { KvCache } from "../cache/kv_cache.ts";
import { checkModel } from "../cache/model.ts";
import { convertPairing } from "../cache/pairing.ts";
import {
  BYTES_PER_ELEMENT,
  type CacheSource,
  type DType,
  type Kind,
  type ModelSpec,
  type QueryTensors,
  type RopeSpec,
} from "../cache/types.ts";
import { type ByteSource, memorySource } from "../container/bytes.ts";
import { KvzFormatError, KvzMismatchError } from "../errors.ts";
import { readSafetensorsHeader, type TensorInfo } from "./safetensors_file.ts";
import { CACHE_DTYPES, type CacheTensors, sortTensors } from "./safetensors_geometry.ts";
import { parseRopeMetadata } from "./safetensors_rope.ts";

/** What the caller knows better than the file. Each wins over the file's metadata. */
export interface SafetensorsOptions {
  /** How the keys are rotated; `null`: not at all. Needed when the file has no `rope` metadata. */
  readonly rope?: RopeSpec | null;
  /** Position of the first token. Default: what the metadata say; 0 when `rope` is given here and they do not say. */
  readonly firstPosition?: number;
  /** Name of the weights. */
  readonly modelId?: string;
  /** Architecture family. */
  readonly architecture?: string;
}

/** Reads in flight at the same time. */
const PARALLEL_READS = 16;

/** A cache in a safetensors file, read by ranges. */
export class SafetensorsCache implements CacheSource {
  /** Facts about the model, as far as the file and the options say them. */
  readonly model: ModelSpec;
  /** Element type of keys and values. */
  readonly dtype: DType;
  /** Tokens of the cache. */
  readonly tokens: number;
  /** Absolute position of each token. */
  readonly positions: Int32Array;
  /** Token ids, where the file has them. */
  readonly inputIds?: Int32Array;
  /** Files of this kind are dense. */
  readonly ragged = false;
  /** All metadata of the file. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly #source: ByteSource;
  readonly #tensors: CacheTensors;

  /** Use {@linkcode openSafetensors}. */
  constructor(
    source: ByteSource,
    tensors: CacheTensors,
    facts: {
      model: ModelSpec;
      positions: Int32Array;
      inputIds?: Int32Array;
      metadata: Readonly<Record<string, string>>;
    },
  ) {
    this.#source = source;
    this.#tensors = tensors;
    this.model = facts.model;
    this.dtype = tensors.dtype;
    this.tokens = tensors.tokens;
    this.positions = facts.positions;
    if (facts.inputIds !== undefined) this.inputIds = facts.inputIds;
    this.metadata = facts.metadata;
  }

  /**
   * Reads tokens [begin, end) of one kind, little-endian [layers][kvHeads][end − begin][dim], keys in half-split
   * pairing. One ranged read a layer and head, fewer where ranges touch.
   *
   * @throws {RangeError} when the range is not inside the cache
   */
  async read(kind: Kind, begin: number, end: number): Promise<Uint8Array> {
    const { tokens, model } = this;
    if (!(Number.isSafeInteger(begin) && Number.isSafeInteger(end) && 0 <= begin && begin <= end && end <= tokens)) {
      throw new RangeError(`Cannot read cache: tokens [${begin}, ${end}) are outside [0, ${tokens})`);
    }
    const dim = kind === "key" ? model.keyDim : model.valueDim;
    const row = dim * BYTES_PER_ELEMENT[this.dtype];
    const { capacity } = this.#tensors;
    const ranges: Range[] = [];
    for (const tensor of this.#tensors[kind]) {
      for (let head = 0; head < model.kvHeads; head++) {
        addRange(ranges, tensor.begin + (head * capacity + begin) * row, (end - begin) * row);
      }
    }
    return this.#normalize(kind, this.dtype, await readRanges(this.#source, ranges));
  }

  /** Reads the queries of the last tokens, in half-split pairing, where the file has them. */
  async readQueries(): Promise<QueryTensors | undefined> {
    const { queries } = this.#tensors;
    if (queries === undefined) return undefined;
    const dtype = CACHE_DTYPES[queries[0].dtype];
    const layers: Uint8Array[] = [];
    for (const { begin, end } of queries) {
      const bytes = await readRanges(this.#source, [{ begin, length: end - begin }]);
      layers.push(this.#normalize("key", dtype, bytes));
    }
    return { dtype, heads: queries[0].shape[1], tokens: queries[0].shape[2], layers };
  }

  #normalize(kind: Kind, dtype: DType, bytes: Uint8Array): Uint8Array {
    const { rope, keyDim } = this.model;
    if (kind === "value" || rope === null || rope.pairing === "half-split") return bytes;
    return convertPairing(bytes, { dtype, dim: keyDim, rotaryDim: rope.dim }, rope.pairing, "half-split");
  }
}

/**
 * Opens a cache in a safetensors file. Only the header, the token ids and the positions are read now.
 *
 * @throws {KvzFormatError} when the file is not strictly safetensors, or holds no cache
 * @throws {KvzUnsupportedError} when it holds another kind of cache; the message names it
 * @throws {KvzMismatchError} when neither the file nor the options say how the keys are rotated
 * @throws {RangeError} when an option is out of range
 */
export async function openSafetensors(
  source: ByteSource,
  options: SafetensorsOptions = {},
): Promise<SafetensorsCache> {
  const { tensors, metadata } = await readSafetensorsHeader(source);
  return await openCacheTensors(source, sortTensors(tensors), metadata, options);
}

/**
 * Opens a cache whose tensors have been found.
 *
 * @param metadata `model`, `architecture` and `rope` as in the files of this module
 * @throws what {@linkcode openSafetensors} throws after the header
 */
export async function openCacheTensors(
  source: ByteSource,
  parts: CacheTensors,
  metadata: Readonly<Record<string, string>>,
  options: SafetensorsOptions,
): Promise<SafetensorsCache> {
  const { rope, firstPosition } = rotationOf(metadata, parts, options);
  const id = options.modelId ?? (metadata.model || undefined);
  const architecture = options.architecture ?? (metadata.architecture || undefined);
  const model: ModelSpec = {
    ...(architecture === undefined ? {} : { architecture }),
    ...(id === undefined ? {} : { id }),
    layers: parts.key.length,
    kvHeads: parts.kvHeads,
    keyDim: parts.keyDim,
    valueDim: parts.valueDim,
    rope,
  };
  checkModel(model);
  const positions = parts.positions === undefined
    ? countPositions(firstPosition ?? 0, parts.tokens)
    : checkPositions(await readIntegers(source, "positions", parts.positions), firstPosition);
  const inputIds = parts.inputIds && await readIntegers(source, "input_ids", parts.inputIds);
  return new SafetensorsCache(source, parts, {
    model,
    positions,
    ...(inputIds === undefined ? {} : { inputIds }),
    metadata,
  });
}

/**
 * Reads a whole cache from the bytes of a safetensors file. The tensors are copied.
 *
 * @throws what {@linkcode openSafetensors} throws
 */
export async function readSafetensors(bytes: Uint8Array, options: SafetensorsOptions = {}): Promise<KvCache> {
  return await loadCache(await openSafetensors(memorySource(bytes), options));
}

/** Reads all of an opened cache into memory. */
export async function loadCache(file: SafetensorsCache): Promise<KvCache> {
  const { model, dtype, positions, inputIds, tokens } = file;
  const key = await file.read("key", 0, tokens);
  const value = await file.read("value", 0, tokens);
  const queries = await file.readQueries();
  const keyBytes = key.length / model.layers;
  const valueBytes = value.length / model.layers;
  return new KvCache({
    model,
    dtype,
    positions,
    ...(inputIds === undefined ? {} : { inputIds }),
    ...(queries === undefined ? {} : { queries }),
    layers: Array.from({ length: model.layers }, (_, layer) => ({
      key: key.subarray(layer * keyBytes, (layer + 1) * keyBytes),
      value: value.subarray(layer * valueBytes, (layer + 1) * valueBytes),
    })),
  });
}

function rotationOf(
  metadata: Readonly<Record<string, string>>,
  { keyDim, tokens }: CacheTensors,
  options: SafetensorsOptions,
): { rope: RopeSpec | null; firstPosition: number | undefined } {
  const { firstPosition } = options;
  if (firstPosition !== undefined && !(Number.isSafeInteger(firstPosition) && firstPosition >= 0)) {
    throw new RangeError(`Cannot read cache: first position is ${firstPosition}, expected a whole number from 0 on`);
  }
  // Metadata that the options replace wholly need not be understood.
  const replaced = options.rope !== undefined && firstPosition !== undefined;
  const said = metadata.rope === undefined || replaced ? undefined : parseRopeMetadata(metadata.rope, keyDim);
  if (said === undefined && options.rope === undefined) {
    throw new KvzMismatchError(
      "Cannot read cache: the file has no rope metadata (theta, dim, pairing, first_position), " +
        "expected it there or in the option `rope` (null for keys that are not rotated)",
    );
  }
  const first = firstPosition ?? said?.firstPosition;
  if ((first ?? 0) + tokens > 2 ** 31) {
    throw new KvzFormatError(`Cannot read cache: ${tokens} tokens from position ${first} on exceed 2^31 positions`);
  }
  return { rope: options.rope === undefined ? said?.rope ?? null : options.rope, firstPosition: first };
}

function countPositions(first: number, tokens: number): Int32Array {
  return Int32Array.from({ length: tokens }, (_, i) => first + i);
}

function checkPositions(positions: Int32Array, first: number | undefined): Int32Array {
  for (let i = 0; i < positions.length; i++) {
    const before = i === 0 ? -1 : positions[i - 1];
    if (positions[i] <= before) {
      throw new KvzFormatError(
        `Cannot read cache: position of token ${i} is ${positions[i]}, expected more than ${before}`,
      );
    }
  }
  if (first !== undefined && positions.length > 0 && positions[0] !== first) {
    throw new KvzFormatError(`Cannot read cache: positions begin at ${positions[0]}, first_position is ${first}`);
  }
  return positions;
}

async function readIntegers(source: ByteSource, name: string, { dtype, begin, end }: TensorInfo): Promise<Int32Array> {
  const bytes = await source.read(begin, end - begin);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const wide = dtype === "I64";
  return Int32Array.from({ length: bytes.length / (wide ? 8 : 4) }, (_, i) => {
    if (!wide) return view.getInt32(i * 4, true);
    const value = view.getBigInt64(i * 8, true);
    if (BigInt.asIntN(32, value) !== value) {
      throw new KvzFormatError(`Cannot read cache: ${name} of token ${i} is ${value}, expected 32 bits`);
    }
    return Number(value);
  });
}

/** A part of a file. */
export interface Range {
  begin: number;
  length: number;
}

/** Appends a range, joining it with the last one where they touch. */
function addRange(ranges: Range[], begin: number, length: number): void {
  const last = ranges.at(-1);
  if (last !== undefined && last.begin + last.length === begin) last.length += length;
  else ranges.push({ begin, length });
}

/** Reads ranges into one array, one after another, which belongs to the caller. */
export async function readRanges(source: ByteSource, ranges: readonly Range[]): Promise<Uint8Array> {
  const out = new Uint8Array(ranges.reduce((sum, { length }) => sum + length, 0));
  let next = 0;
  let at = 0;
  const work = async () => {
    while (next < ranges.length) {
      const { begin, length } = ranges[next++];
      const to = at;
      at += length;
      if (length > 0) out.set(await source.read(begin, length), to);
    }
  };
  await Promise.all(Array.from({ length: Math.min(PARALLEL_READS, ranges.length) }, work));
  return out;
}
