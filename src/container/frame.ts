/**
 * The framing that all kvz files share: prelude (magic, version, header), records, index, footer. Written down for a
 * second reader in docs/format.md. This module holds the types, the constants and the prelude; frame_records.ts the
 * records, the index and the footer; the writer and the readers (frame_writer.ts, frame_reader.ts, frame_stream.ts)
 * stand on both. All integers are little-endian.
 *
 * @module
 */
import { KvzFormatError } from "../errors.ts";
import { canonicalJson, type JsonObject } from "./canonical_json.ts";
import { crc32c, crc32cOfRecord } from "./crc32c.ts";

/** The three kinds of framed file: `.kvz`, `.kvzp` and `.kvzs`. */
export type FrameKind = "cache" | "profile" | "statistics";

/** How a record's payload is stored: as it is, or as a raw DEFLATE stream (RFC 1951). */
export type RecordCodec = "raw" | "deflate-raw";

/** What a writer says of a record. */
export interface RecordHead {
  /** Four printable ASCII characters that name the stream. */
  readonly tag: string;
  /** Number of the chunk within the stream, u32. */
  readonly chunk: number;
  /** Tokens that the record covers, u32. */
  readonly tokens: number;
  /** How the payload is stored. */
  readonly codec: RecordCodec;
  /** Bytes of the payload before the codec. */
  readonly rawLength: number;
}

/** A record as the index lists it. */
export interface RecordInfo extends RecordHead {
  /** Bytes of the payload in the file. */
  readonly storedLength: number;
  /** CRC32C of the stored payload. */
  readonly crc: number;
  /** File offset of the record header; the payload follows at `offset + RECORD_HEADER_BYTES`. */
  readonly offset: number;
}

/** Version of the framing that this library writes and reads. */
export const FORMAT_VERSION = 1;
/** Largest JSON header. */
export const MAX_HEADER_BYTES = 16 << 20;
/** Magic, version, flags and header length. */
export const PRELUDE_BYTES = 16;
/** Size of a record header. */
export const RECORD_HEADER_BYTES = 40;
/** Size of an index entry: a record header without its checksum, and the record's offset. */
export const INDEX_ENTRY_BYTES = 44;
/** Size of the footer. */
export const FOOTER_BYTES = 24;
/** Tag of the last record. */
export const INDEX_TAG = "INDX";
/** No DEFLATE stream expands more: 258 bytes need at least two bits. */
export const MAX_DEFLATE_RATIO = 1032;

const KIND_BYTE: Readonly<Record<FrameKind, number>> = { cache: 0x43, profile: 0x50, statistics: 0x53 };
const KIND_NAME: Readonly<Record<FrameKind, string>> = {
  cache: "a compressed cache (.kvz)",
  profile: "a profile (.kvzp)",
  statistics: "calibration statistics (.kvzs)",
};

/** The words for a kind in messages, for instance "profile". */
export function kindLabel(kind: FrameKind): string {
  return KIND_NAME[kind];
}

/** A view on the bytes of an array. */
export function viewOf(bytes: Uint8Array): DataView<ArrayBufferLike> {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Encodes everything before the first record: magic, version, flags, header and checksum.
 *
 * @throws {RangeError} when the header exceeds {@linkcode MAX_HEADER_BYTES}
 * @throws {TypeError} when it is not JSON
 */
export function encodePrelude(kind: FrameKind, header: JsonObject): Uint8Array {
  const json = new TextEncoder().encode(canonicalJson(header));
  if (json.length > MAX_HEADER_BYTES) {
    throw new RangeError(`Cannot write file: header has ${json.length} bytes, the limit is ${MAX_HEADER_BYTES}`);
  }
  const bytes = new Uint8Array(PRELUDE_BYTES + json.length + 4);
  const view = viewOf(bytes);
  bytes.set([0x89, 0x4b, 0x56, 0x5a, KIND_BYTE[kind], 0x0d, 0x0a, 0x1a]);
  view.setUint16(8, FORMAT_VERSION, true);
  view.setUint16(10, 0, true);
  view.setUint32(12, json.length, true);
  bytes.set(json, PRELUDE_BYTES);
  view.setUint32(bytes.length - 4, crc32c(bytes.subarray(0, bytes.length - 4)), true);
  return bytes;
}

/**
 * Checks the first {@linkcode PRELUDE_BYTES} bytes and returns the length of the JSON header.
 *
 * @throws {KvzFormatError} on another magic, kind, version, flag, or a length over the cap
 */
export function decodePrelude(bytes: Uint8Array, kind: FrameKind): number {
  const view = viewOf(bytes);
  const magic = [0x89, 0x4b, 0x56, 0x5a, bytes[4], 0x0d, 0x0a, 0x1a];
  if (magic.some((byte, i) => bytes[i] !== byte)) {
    throw new KvzFormatError(`Cannot read file: it does not begin with the kvz magic, expected ${KIND_NAME[kind]}`);
  }
  if (bytes[4] !== KIND_BYTE[kind]) {
    const other = (Object.keys(KIND_BYTE) as FrameKind[]).find((k) => KIND_BYTE[k] === bytes[4]);
    const found = other === undefined ? `of unknown kind 0x${bytes[4].toString(16)}` : KIND_NAME[other];
    throw new KvzFormatError(`Cannot read file: it is ${found}, expected ${KIND_NAME[kind]}`);
  }
  const version = view.getUint16(8, true);
  if (version !== FORMAT_VERSION) {
    throw new KvzFormatError(`Cannot read file: format version is ${version}, expected ${FORMAT_VERSION}`);
  }
  const flags = view.getUint16(10, true);
  if (flags !== 0) throw new KvzFormatError(`Cannot read file: flags are 0x${flags.toString(16)}, expected 0`);
  const length = view.getUint32(12, true);
  if (length > MAX_HEADER_BYTES) {
    throw new KvzFormatError(`Cannot read file: header has ${length} bytes, the limit is ${MAX_HEADER_BYTES}`);
  }
  return length;
}

/**
 * Decodes a whole prelude, from the magic to its checksum.
 *
 * @throws {KvzFormatError} on a bad checksum or a header that is not one canonical JSON object
 */
export function decodeHeader(prelude: Uint8Array): JsonObject {
  const end = prelude.length - 4;
  checkCrc(prelude.subarray(0, end), viewOf(prelude).getUint32(end, true), "the header");
  const json = prelude.subarray(PRELUDE_BYTES, end);
  let header: unknown;
  let canonical: string;
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(json);
    header = JSON.parse(text);
    canonical = canonicalJson(header as JsonObject);
  } catch (cause) {
    throw new KvzFormatError("Cannot read file: header is not JSON in UTF-8", { cause });
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) {
    throw new KvzFormatError("Cannot read file: header is not a JSON object");
  }
  // One text for one header: an appender writes the same bytes again, and repeated keys cannot hide.
  if (canonical !== text) throw new KvzFormatError("Cannot read file: header is not canonical JSON (RFC 8785)");
  return header as JsonObject;
}

/** Throws a {@linkcode KvzFormatError} that names the part when its checksum is not what the file says. */
export function checkCrc(bytes: Uint8Array, expected: number, what: string): void {
  requireSame(crc32c(bytes), expected, what);
}

/** {@linkcode checkCrc} of a record's bytes. */
export async function checkRecordCrc(bytes: Uint8Array, expected: number, what: string): Promise<void> {
  requireSame(await crc32cOfRecord(bytes), expected, what);
}

function requireSame(actual: number, expected: number, what: string): void {
  if (actual !== expected) {
    throw new KvzFormatError(`Cannot read file: checksum of ${what} is ${hex(actual)}, expected ${hex(expected)}`);
  }
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, "0")}`;
}
