/**
 * A strict reader of the front of GGUF files: key-value metadata and the list of tensors, never the weights.
 *
 * Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
 *
 * @module
 */
import type { ByteSource } from "../container/bytes.ts";
import { KvzFormatError, KvzLimitError } from "../errors.ts";

/** A metadata value. Arrays of strings (vocabularies) and other long things are skipped and not listed. */
export type GgufValue = number | string | boolean | readonly number[];

/** One tensor of the file. */
export interface GgufTensor {
  readonly name: string;
  readonly dims: readonly number[];
  /** ggml type id. */
  readonly type: number;
  /** Absolute offset of its data in the file. */
  readonly offset: number;
}

/** What the front of a GGUF file says. */
export interface GgufMetadata {
  readonly version: number;
  readonly values: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly GgufTensor[];
}

const MAGIC = 0x46554747; // "GGUF"
const WINDOW = 1 << 18;
/** Limits far above any published model: entries, bytes of a kept string, elements of a kept array, bytes in all. */
const MAX_ENTRIES = 1 << 16;
const MAX_KEY = 65535;
const MAX_STRING = 1 << 16;
const MAX_NUMBERS = 1 << 12;
const MAX_FRONT = 1 << 28;

/** Bytes of each fixed-size value type; 8 is string, 9 array. */
const SIZES: Readonly<Record<number, number>> = {
  0: 1,
  1: 1,
  2: 2,
  3: 2,
  4: 4,
  5: 4,
  6: 4,
  7: 1,
  10: 8,
  11: 8,
  12: 8,
};
const STRING = 8;
const ARRAY = 9;

/** Reads forward through a source, a window at a time. */
class Front {
  readonly #source: ByteSource;
  #window: DataView = new DataView(new ArrayBuffer(0));
  #start = 0;
  at = 0;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  /** Advances over `length` bytes without reading them. */
  skip(length: number, what: string): void {
    if (length > this.#source.size - this.at) {
      throw new KvzFormatError(`Cannot read GGUF: ${what} at ${this.at} runs past the end of the file`);
    }
    if (this.at + length > MAX_FRONT) {
      throw new KvzLimitError(`Cannot read GGUF: metadata are larger than ${MAX_FRONT} bytes`);
    }
    this.at += length;
  }

  /** A view of the next `length` bytes, which are consumed. */
  async take(length: number, what: string): Promise<DataView> {
    const begin = this.at;
    this.skip(length, what);
    const end = begin + length;
    if (begin < this.#start || end > this.#start + this.#window.byteLength) {
      const bytes = await this.#source.read(begin, Math.min(Math.max(length, WINDOW), this.#source.size - begin));
      this.#window = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      this.#start = begin;
    }
    return new DataView(this.#window.buffer, this.#window.byteOffset + begin - this.#start, length);
  }

  async u32(what: string): Promise<number> {
    return (await this.take(4, what)).getUint32(0, true);
  }

  /** A count or length: an unsigned 64-bit number up to a limit. */
  async count(what: string, limit: number): Promise<number> {
    const value = (await this.take(8, what)).getBigUint64(0, true);
    if (value > BigInt(limit)) {
      throw new KvzFormatError(`Cannot read GGUF: ${what} is ${value}, expected at most ${limit}`);
    }
    return Number(value);
  }

  async string(what: string, limit: number): Promise<string> {
    const length = await this.count(`length of ${what}`, limit);
    const view = await this.take(length, what);
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(view);
    } catch (error) {
      throw new KvzFormatError(`Cannot read GGUF: ${what} is not UTF-8`, { cause: error });
    }
  }
}

function readNumber(view: DataView, type: number, at: number, key: string): number | boolean {
  switch (type) {
    case 0:
      return view.getUint8(at);
    case 1:
      return view.getInt8(at);
    case 2:
      return view.getUint16(at, true);
    case 3:
      return view.getInt16(at, true);
    case 4:
      return view.getUint32(at, true);
    case 5:
      return view.getInt32(at, true);
    case 6:
      return view.getFloat32(at, true);
    case 7: {
      const value = view.getUint8(at);
      if (value > 1) throw new KvzFormatError(`Cannot read GGUF: ${key} is ${value}, expected a boolean (0 or 1)`);
      return value === 1;
    }
    case 10:
      return Number(view.getBigUint64(at, true));
    case 11:
      return Number(view.getBigInt64(at, true));
    default:
      return view.getFloat64(at, true);
  }
}

async function readArray(front: Front, key: string): Promise<GgufValue | undefined> {
  const type = await front.u32(`element type of ${key}`);
  const size = SIZES[type];
  const length = await front.count(`length of ${key}`, MAX_FRONT);
  if (type === STRING) {
    for (let i = 0; i < length; i++) front.skip(await front.count(`string ${i} of ${key}`, MAX_FRONT), key);
    return undefined;
  }
  if (size === undefined) {
    throw new KvzFormatError(`Cannot read GGUF: elements of ${key} have type ${type}, expected a number or a string`);
  }
  if (length > MAX_NUMBERS) {
    front.skip(length * size, key);
    return undefined;
  }
  const view = await front.take(length * size, key);
  return Array.from({ length }, (_, i) => Number(readNumber(view, type, i * size, key)));
}

async function readValue(front: Front, key: string): Promise<GgufValue | undefined> {
  const type = await front.u32(`type of ${key}`);
  if (type === ARRAY) return await readArray(front, key);
  if (type === STRING) {
    const length = await front.count(`length of ${key}`, MAX_FRONT);
    if (length > MAX_STRING) {
      front.skip(length, key); // a chat template, not a fact about the model's shape
      return undefined;
    }
    front.at -= 8;
    return await front.string(key, MAX_STRING);
  }
  const size = SIZES[type];
  if (size === undefined) throw new KvzFormatError(`Cannot read GGUF: ${key} has unknown type ${type}`);
  return readNumber(await front.take(size, key), type, 0, key);
}

async function readTensors(front: Front, count: number, alignment: number): Promise<GgufTensor[]> {
  const infos: { name: string; dims: number[]; type: number; offset: number }[] = [];
  for (let i = 0; i < count; i++) {
    const name = await front.string(`name of tensor ${i}`, MAX_KEY);
    const rank = await front.u32(`rank of ${name}`);
    if (rank > 4) throw new KvzFormatError(`Cannot read GGUF: tensor ${name} has ${rank} dimensions, expected up to 4`);
    const dims: number[] = [];
    for (let axis = 0; axis < rank; axis++) {
      dims.push(await front.count(`dimension ${axis} of ${name}`, Number.MAX_SAFE_INTEGER));
    }
    const type = await front.u32(`type of ${name}`);
    infos.push({ name, dims, type, offset: await front.count(`offset of ${name}`, Number.MAX_SAFE_INTEGER) });
  }
  const data = Math.ceil(front.at / alignment) * alignment;
  return infos.map((info) => ({ ...info, offset: data + info.offset }));
}

/** Whether bytes begin like a GGUF file. */
export function isGguf(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true) === MAGIC;
}

/**
 * Reads metadata and tensor list of a GGUF file.
 *
 * @throws {KvzFormatError} The file is no GGUF, of another version, truncated, or contradicts itself.
 * @throws {KvzLimitError} The metadata are larger than 256 MiB.
 */
export async function readGgufMetadata(source: ByteSource): Promise<GgufMetadata> {
  const front = new Front(source);
  const magic = await front.u32("magic");
  if (magic !== MAGIC) {
    throw new KvzFormatError(`Cannot read GGUF: magic is 0x${magic.toString(16)}, expected 0x${MAGIC.toString(16)}`);
  }
  const version = await front.u32("version");
  if (version !== 2 && version !== 3) {
    throw new KvzFormatError(`Cannot read GGUF: version is ${version}, expected 2 or 3`);
  }
  const tensorCount = await front.count("number of tensors", MAX_ENTRIES);
  const entries = await front.count("number of metadata entries", MAX_ENTRIES);
  const values = new Map<string, GgufValue>();
  const seen = new Set<string>();
  for (let i = 0; i < entries; i++) {
    const key = await front.string(`key ${i}`, MAX_KEY);
    if (seen.has(key)) throw new KvzFormatError(`Cannot read GGUF: key ${key} appears twice`);
    seen.add(key);
    const value = await readValue(front, key);
    if (value !== undefined) values.set(key, value);
  }
  const alignment = values.get("general.alignment") ?? 32;
  if (typeof alignment !== "number" || !Number.isSafeInteger(alignment) || alignment < 8 || alignment % 8 !== 0) {
    throw new KvzFormatError(`Cannot read GGUF: general.alignment is ${alignment}, expected a multiple of 8`);
  }
  return { version, values, tensors: await readTensors(front, tensorCount, alignment) };
}
