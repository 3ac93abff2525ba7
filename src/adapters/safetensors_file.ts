/**
 * The safetensors file format, strictly: u64 header length, JSON header, tensor bytes that tile the rest of the file.
 * https://huggingface.co/docs/safetensors (format), with the checks of the reference implementation: header cap, known
 * types, sizes that fit the shapes, no holes, no overlaps, nothing after the last tensor, no repeated keys.
 *
 * @module
 */
import type { ByteSource } from "../container/bytes.ts";
import { KvzFormatError } from "../errors.ts";

/** Bytes of one element of each type; types of less than a byte are not supported. */
const ELEMENT_BYTES: Readonly<Record<string, number>> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  I64: 8,
  U64: 8,
  F64: 8,
  C64: 8,
};

/** Largest JSON header, as in the reference implementation. */
export const MAX_SAFETENSORS_HEADER_BYTES = 100 << 20;

/** What the header says of a tensor, with its place in the file. */
export interface TensorInfo {
  /** Element type, for instance "F16". */
  readonly dtype: string;
  /** Sizes, outermost first. */
  readonly shape: readonly number[];
  /** File offset of the first byte. */
  readonly begin: number;
  /** File offset after the last byte. */
  readonly end: number;
}

/** A checked safetensors header. */
export interface SafetensorsHeader {
  /** Tensors by name. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The `__metadata__` of the file. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Reads and checks the header of a safetensors file.
 *
 * @throws {KvzFormatError} when the file is not one; the message names the tensor
 */
export async function readSafetensorsHeader(source: ByteSource): Promise<SafetensorsHeader> {
  if (source.size < 10) throw fault(`file has ${source.size} bytes, expected at least 10`);
  const prefix = await source.read(0, 8);
  const view = new DataView(prefix.buffer, prefix.byteOffset, 8);
  const length = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  if (length > MAX_SAFETENSORS_HEADER_BYTES) {
    throw fault(`header has ${length} bytes, the limit is ${MAX_SAFETENSORS_HEADER_BYTES}`);
  }
  if (length > source.size - 8) throw fault(`header has ${length} bytes, the file has ${source.size}`);
  const json = parseJson(await source.read(8, length));

  const metadata = readMetadata(json["__metadata__"]);
  const tensors = new Map<string, TensorInfo>();
  for (const [name, entry] of Object.entries(json)) {
    if (name !== "__metadata__") tensors.set(name, readTensor(name, entry, 8 + length));
  }
  checkTiling(tensors, 8 + length, source.size);
  return { tensors, metadata };
}

/** A tensor to be written. */
export interface TensorShape {
  /** Unique in the file. */
  readonly name: string;
  /** Element type, for instance "F16". */
  readonly dtype: string;
  /** Sizes, outermost first. */
  readonly shape: readonly number[];
}

/**
 * Lays tensors out as the reference implementation does, larger element types first, then by name, and encodes the
 * header, padded with spaces so that tensors begin at a multiple of eight.
 *
 * @returns the bytes before the first tensor, each tensor's place, and the length of the file
 */
export function layOutSafetensors(
  shapes: readonly TensorShape[],
  metadata: Readonly<Record<string, string>>,
): { head: Uint8Array; tensors: Map<string, TensorInfo>; byteLength: number } {
  const sorted = [...shapes].sort((a, b) =>
    ELEMENT_BYTES[b.dtype] - ELEMENT_BYTES[a.dtype] || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0)
  );
  const json: Record<string, unknown> = { __metadata__: metadata };
  const places: { name: string; info: TensorInfo }[] = [];
  let end = 0;
  for (const { name, dtype, shape } of sorted) {
    const begin = end;
    end += shape.reduce((product, n) => product * n, ELEMENT_BYTES[dtype]);
    if (!Number.isSafeInteger(end)) throw new RangeError(`Cannot write safetensors: tensor ${name} is too large`);
    json[name] = { dtype, shape, data_offsets: [begin, end] };
    places.push({ name, info: { dtype, shape, begin, end } });
  }
  const text = new TextEncoder().encode(JSON.stringify(json));
  const headerLength = Math.ceil(text.length / 8) * 8;
  if (headerLength > MAX_SAFETENSORS_HEADER_BYTES) {
    throw new RangeError(
      `Cannot write safetensors: header has ${headerLength} bytes, the limit is ${MAX_SAFETENSORS_HEADER_BYTES}`,
    );
  }
  const head = new Uint8Array(8 + headerLength).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(headerLength), true);
  head.set(text, 8);
  const tensors = new Map(places.map(({ name, info }) => [
    name,
    { ...info, begin: info.begin + head.length, end: info.end + head.length },
  ]));
  return { head, tensors, byteLength: head.length + end };
}

function fault(message: string, cause?: unknown): KvzFormatError {
  return new KvzFormatError(`Cannot read safetensors: ${message}`, cause === undefined ? undefined : { cause });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parseJson(bytes: Uint8Array): Record<string, unknown> {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text);
  } catch (cause) {
    throw fault("header is not JSON in UTF-8", cause);
  }
  if (!isObject(value) || text[0] !== "{") throw fault("header does not begin with a JSON object");
  // JSON.parse keeps the last of several equal keys and drops the others without a word.
  if (countColons(text) !== countKeys(value)) throw fault("header repeats a key");
  return value;
}

/** Colons outside strings: one for each member of each object. The text is known to be valid JSON. */
function countColons(text: string): number {
  let colons = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === ":") colons++;
    else if (text[i] === '"') {
      for (i++; text[i] !== '"'; i++) if (text[i] === "\\") i++;
    }
  }
  return colons;
}

/** Members of all objects in a value; not recursive, as hostile headers may nest deeply. */
function countKeys(root: unknown): number {
  let keys = 0;
  const open: unknown[] = [root];
  while (open.length > 0) {
    const value = open.pop();
    if (typeof value !== "object" || value === null) continue;
    const members = Object.values(value);
    if (!Array.isArray(value)) keys += members.length;
    for (const member of members) open.push(member);
  }
  return keys;
}

function readMetadata(value: unknown): Record<string, string> {
  if (value === undefined) return {};
  if (!isObject(value)) throw fault("__metadata__ is not an object");
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") throw fault(`__metadata__ ${JSON.stringify(key)} is not a text`);
  }
  return value as Record<string, string>;
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function readTensor(name: string, entry: unknown, dataBegin: number): TensorInfo {
  const label = `tensor ${JSON.stringify(name.slice(0, 80))}`;
  if (!isObject(entry)) throw fault(`${label} is not described by an object`);
  const { dtype, shape, data_offsets: offsets, ...others } = entry;
  const unknown = Object.keys(others)[0];
  if (unknown !== undefined) throw fault(`${label} has an unknown field ${JSON.stringify(unknown.slice(0, 80))}`);
  if (typeof dtype !== "string" || !Object.hasOwn(ELEMENT_BYTES, dtype)) {
    throw fault(`${label} has element type ${JSON.stringify(dtype)?.slice(0, 80)}, expected a known one`);
  }
  if (!Array.isArray(shape) || !shape.every(isSize)) throw fault(`${label} has no valid shape`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize) || offsets[0] > offsets[1]) {
    throw fault(`${label} has no valid data_offsets`);
  }
  const bytes = shape.reduce((product: number, n: number) => product * n, ELEMENT_BYTES[dtype]);
  if (bytes !== offsets[1] - offsets[0]) {
    throw fault(
      `${label} has ${offsets[1] - offsets[0]} bytes, expected ${bytes} (${dtype} [${shape.slice(0, 8).join(", ")}])`,
    );
  }
  return { dtype, shape, begin: dataBegin + offsets[0], end: dataBegin + offsets[1] };
}

function checkTiling(tensors: ReadonlyMap<string, TensorInfo>, dataBegin: number, size: number): void {
  const sorted = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let end = dataBegin;
  for (const [name, info] of sorted) {
    if (info.begin !== end) {
      throw fault(`tensor ${JSON.stringify(name.slice(0, 80))} begins at ${info.begin}, expected ${end}`);
    }
    end = info.end;
  }
  if (end !== size) throw fault(`tensors end at ${end}, the file has ${size} bytes`);
}
