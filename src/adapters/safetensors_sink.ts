/**
 * Writing caches as safetensors files, in the layout and with the metadata that safetensors.ts reads.
 *
 * @module
 */
import type { CacheShape } from "../cache/builder.ts";
import { checkPositions } from "../cache/layout.ts";
import { checkModel } from "../cache/model.ts";
import { convertPairing } from "../cache/pairing.ts";
import {
  BYTES_PER_ELEMENT,
  type CacheSink,
  type CacheSource,
  type DType,
  type Kind,
  type QueryTensors,
  type RopePairing,
} from "../cache/types.ts";
import type { RandomSink } from "../container/bytes.ts";
import { KvzUnsupportedError } from "../errors.ts";
import { layOutSafetensors, type TensorInfo, type TensorShape } from "./safetensors_file.ts";
import { EXPORT_NAMES, type TensorNames } from "./safetensors_geometry.ts";
import { formatRopeMetadata } from "./safetensors_rope.ts";

/** Options of the writers. */
export interface SafetensorsWriteOptions {
  /** Order of the rotated coordinates in the file. Default: "half-split". */
  readonly pairing?: RopePairing;
  /** More metadata, for instance `text`. The keys `model`, `architecture` and `rope` are written from the cache. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** What files of another program have instead of ours: names, metadata, further tensors. */
export interface SafetensorsDialect {
  /** Names of keys and values. */
  readonly names: TensorNames;
  /** I32 tensors without dimensions, by name. */
  readonly scalars: ReadonlyMap<string, number>;
  /** The file's metadata, from ours. */
  arrangeMetadata(metadata: Readonly<Record<string, string>>): Record<string, string>;
}

const EXPORT_DIALECT: SafetensorsDialect = {
  names: EXPORT_NAMES,
  scalars: new Map(),
  arrangeMetadata: (metadata) => metadata,
};

const DTYPE_NAMES: Readonly<Record<DType, string>> = { f32: "F32", f16: "F16", bf16: "BF16" };
const RESERVED = ["model", "architecture", "rope"];

/**
 * A cache sink that fills a safetensors file by positioned writes, so that nothing is held: call `start`, then `write`
 * in any order, then `finish`.
 */
export class SafetensorsSink implements CacheSink {
  readonly #sink: RandomSink;
  readonly #shape: CacheShape;
  readonly #head: Uint8Array;
  readonly #tensors: ReadonlyMap<string, TensorInfo>;
  /** Order in which keys and queries are written. */
  readonly #pairing: RopePairing;
  readonly #dialect: SafetensorsDialect;
  #missing: number;
  /** Length of the whole file. */
  readonly byteLength: number;

  /**
   * Lays the file out; nothing is written yet.
   *
   * @throws {RangeError} when the shape contradicts itself
   * @throws {TypeError} when the metadata hold a key that is written from the cache
   */
  constructor(
    sink: RandomSink,
    shape: CacheShape,
    options: SafetensorsWriteOptions = {},
    dialect: SafetensorsDialect = EXPORT_DIALECT,
  ) {
    const { model, dtype, positions, inputIds, queries } = shape;
    checkModel(model);
    if (shape.ragged) {
      throw new KvzUnsupportedError(
        "Cannot write safetensors: the heads hold different tokens, expected a dense cache",
      );
    }
    checkPositions("position", positions);
    const reserved = RESERVED.find((key) => options.metadata?.[key] !== undefined);
    if (reserved !== undefined) {
      throw new TypeError(`Cannot write safetensors: metadata "${reserved}" is written from the cache`);
    }
    const { pairing = "half-split" } = options;
    const rope = model.rope === null ? null : { ...model.rope, pairing };
    const metadata = {
      ...(model.id === undefined ? {} : { model: model.id }),
      ...(model.architecture === undefined ? {} : { architecture: model.architecture }),
      ...options.metadata,
      rope: formatRopeMetadata(rope, positions[0] ?? 0),
    };
    const { head, tensors, byteLength } = layOutSafetensors(
      tensorShapes(shape, dialect),
      dialect.arrangeMetadata(metadata),
    );
    this.#sink = sink;
    this.#shape = { model, dtype, positions, ...(inputIds ? { inputIds } : {}), ...(queries ? { queries } : {}) };
    this.#head = head;
    this.#tensors = tensors;
    this.#pairing = pairing;
    this.#dialect = dialect;
    this.#missing = model.layers * model.kvHeads * positions.length * (model.keyDim + model.valueDim) *
      BYTES_PER_ELEMENT[dtype];
    this.byteLength = byteLength;
  }

  /** Writes the header and everything that is known beforehand: token ids, positions, queries. */
  async start(): Promise<void> {
    const { inputIds, positions, queries } = this.#shape;
    await this.#sink.writeAt(0, this.#head);
    if (inputIds !== undefined) await this.#writeTensor("input_ids", littleEndian(inputIds));
    if (this.#tensors.has("positions")) await this.#writeTensor("positions", littleEndian(positions));
    for (const [name, value] of this.#dialect.scalars) {
      await this.#writeTensor(name, littleEndian(Int32Array.of(value)));
    }
    for (const [layer, bytes] of (queries?.layers ?? []).entries()) {
      await this.#writeTensor(`queries.${layer}`, this.#arrange("key", queries!.dtype, bytes));
    }
  }

  /**
   * Writes tokens [begin, begin + n) of layers [layerBegin, layerBegin + k), laid out [k][kvHeads][n][dim], keys in
   * half-split pairing. k follows from the length of `data`, which is left as it is.
   *
   * @throws {RangeError} when the chunk does not fit the shape
   */
  async write(kind: Kind, layerBegin: number, begin: number, n: number, data: Uint8Array): Promise<void> {
    const { model, dtype, positions } = this.#shape;
    const tokens = positions.length;
    const row = (kind === "key" ? model.keyDim : model.valueDim) * BYTES_PER_ELEMENT[dtype];
    const layers = n === 0 ? 0 : data.length / (model.kvHeads * n * row);
    if (
      ![layerBegin, begin, n, layers].every((v) => Number.isSafeInteger(v) && v >= 0) || begin + n > tokens ||
      layerBegin + layers > model.layers || (n === 0 && data.length > 0)
    ) {
      throw new RangeError(
        `Cannot write cache: ${data.length} ${kind} bytes for ${n} tokens from ${begin} and layers from ${layerBegin}, ` +
          `the cache has ${tokens} tokens and ${model.layers} layers`,
      );
    }
    const bytes = this.#arrange(kind, dtype, data);
    const runs = n === tokens ? 1 : model.kvHeads; // The heads of a tensor touch only when all tokens are there.
    const length = bytes.length / (layers * runs);
    for (let layer = 0; layer < layers; layer++) {
      const { begin: tensor } = this.#tensors.get(this.#dialect.names.nameOf(layerBegin + layer, kind))!;
      for (let run = 0; run < runs; run++) {
        const from = (layer * runs + run) * length;
        await this.#sink.writeAt(tensor + (run * tokens + begin) * row, bytes.subarray(from, from + length));
      }
    }
    this.#missing -= bytes.length;
  }

  /**
   * Ends the writing. The sink is not closed.
   *
   * @throws {Error} when fewer or more bytes were written than the cache has
   */
  finish(): void {
    if (this.#missing !== 0) {
      throw new Error(
        this.#missing > 0
          ? `Cannot finish safetensors: ${this.#missing} bytes of the cache have not been written`
          : `Cannot finish safetensors: ${-this.#missing} bytes of the cache have been written twice`,
      );
    }
  }

  /** The bytes in the order of the file: as they are, or a copy. */
  #arrange(kind: Kind, dtype: DType, bytes: Uint8Array): Uint8Array {
    const { rope, keyDim } = this.#shape.model;
    if (kind === "value" || rope === null || this.#pairing === "half-split") return bytes;
    return convertPairing(bytes, { dtype, dim: keyDim, rotaryDim: rope.dim }, "half-split", this.#pairing);
  }

  async #writeTensor(name: string, bytes: Uint8Array): Promise<void> {
    const { begin, end } = this.#tensors.get(name)!;
    if (bytes.length !== end - begin) {
      throw new RangeError(`Cannot write safetensors: ${name} has ${bytes.length} bytes, expected ${end - begin}`);
    }
    await this.#sink.writeAt(begin, bytes);
  }
}

/** Tokens that {@linkcode writeSafetensors} copies at once. */
const CHUNK_TOKENS = 256;

/**
 * Writes a cache as a safetensors file in memory. Queries come along when the source has them (a `KvCache`).
 *
 * @throws {KvzUnsupportedError} when the cache is ragged
 * @throws {RangeError} when it is too large for one array
 */
export async function writeSafetensors(
  cache: CacheSource & { readonly queries?: QueryTensors },
  options: SafetensorsWriteOptions = {},
): Promise<Uint8Array> {
  return await writeSafetensorsAs(EXPORT_DIALECT, cache, options);
}

/**
 * {@linkcode writeSafetensors} for the files of another program.
 *
 * @throws what {@linkcode writeSafetensors} throws
 */
export async function writeSafetensorsAs(
  dialect: SafetensorsDialect,
  cache: CacheSource & { readonly queries?: QueryTensors },
  options: SafetensorsWriteOptions,
): Promise<Uint8Array> {
  if (cache.ragged) {
    throw new KvzUnsupportedError("Cannot write safetensors: the cache is ragged, expected a dense one");
  }
  let bytes = new Uint8Array(0);
  const sink = new SafetensorsSink({ writeAt: (offset, part) => bytes.set(part, offset) }, cache, options, dialect);
  bytes = new Uint8Array(sink.byteLength);
  await sink.start();
  for (let begin = 0; begin < cache.tokens; begin += CHUNK_TOKENS) {
    const end = Math.min(begin + CHUNK_TOKENS, cache.tokens);
    for (const kind of ["key", "value"] as const) {
      await sink.write(kind, 0, begin, end - begin, await cache.read(kind, begin, end));
    }
  }
  sink.finish();
  return bytes;
}

function tensorShapes(
  { model, dtype, positions, inputIds, queries }: CacheShape,
  { names, scalars }: SafetensorsDialect,
): TensorShape[] {
  const tokens = positions.length;
  const shapes: TensorShape[] = [];
  for (let layer = 0; layer < model.layers; layer++) {
    const heads = [1, model.kvHeads, tokens];
    shapes.push({ name: names.nameOf(layer, "key"), dtype: DTYPE_NAMES[dtype], shape: [...heads, model.keyDim] });
    shapes.push({ name: names.nameOf(layer, "value"), dtype: DTYPE_NAMES[dtype], shape: [...heads, model.valueDim] });
    if (queries !== undefined) {
      const shape = [1, queries.heads, queries.tokens, model.keyDim];
      shapes.push({ name: `queries.${layer}`, dtype: DTYPE_NAMES[queries.dtype], shape });
    }
  }
  for (const name of scalars.keys()) shapes.push({ name, dtype: "I32", shape: [] });
  if (inputIds !== undefined) shapes.push({ name: "input_ids", dtype: "I32", shape: [1, tokens] });
  // The rope metadata say where contiguous positions begin; without rotation nothing else does.
  const first = model.rope === null ? 0 : positions[0] ?? 0;
  if (positions.some((position, i) => position !== first + i)) {
    shapes.push({ name: "positions", dtype: "I32", shape: [1, tokens] });
  }
  return shapes;
}

function littleEndian(integers: Int32Array): Uint8Array {
  const bytes = new Uint8Array(integers.length * 4);
  const view = new DataView(bytes.buffer);
  integers.forEach((value, i) => view.setInt32(i * 4, value, true));
  return bytes;
}
