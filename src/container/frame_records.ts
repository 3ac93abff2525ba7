/**
 * The parts of a framed file after its header, byte by byte: record headers, the index and the footer.
 *
 * @module
 */
import { KvzFormatError } from "../errors.ts";
import { crc32c } from "./crc32c.ts";
import {
  checkCrc,
  FOOTER_BYTES,
  INDEX_ENTRY_BYTES,
  INDEX_TAG,
  MAX_DEFLATE_RATIO,
  RECORD_HEADER_BYTES,
  type RecordCodec,
  type RecordInfo,
  viewOf,
} from "./frame.ts";

const CODECS: readonly RecordCodec[] = ["raw", "deflate-raw"];
const END_MAGIC = 0x455a564b; // "KVZE"
const RECORD_FIELDS_BYTES = RECORD_HEADER_BYTES - 4;

function readU64(view: DataView, at: number, what: string): number {
  const value = view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
  if (!Number.isSafeInteger(value)) throw new KvzFormatError(`Cannot read file: ${what} exceeds 2^53 - 1`);
  return value;
}

function writeU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

function writeRecordFields(bytes: Uint8Array, at: number, r: Omit<RecordInfo, "offset">): void {
  const view = viewOf(bytes);
  for (let i = 0; i < 4; i++) bytes[at + i] = r.tag.charCodeAt(i);
  view.setUint32(at + 4, r.chunk, true);
  view.setUint32(at + 8, r.tokens, true);
  bytes[at + 12] = CODECS.indexOf(r.codec);
  writeU64(view, at + 16, r.rawLength);
  writeU64(view, at + 24, r.storedLength);
  view.setUint32(at + 32, r.crc, true);
}

function readRecordFields(bytes: Uint8Array, at: number): Omit<RecordInfo, "offset"> {
  const view = viewOf(bytes);
  const tag = String.fromCharCode(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
  if (!isTag(tag)) {
    throw new KvzFormatError(`Cannot read file: record tag ${JSON.stringify(tag)} is not printable ASCII`);
  }
  const codec = CODECS[bytes[at + 12]];
  if (codec === undefined) {
    throw new KvzFormatError(`Cannot read file: record ${tag} has codec ${bytes[at + 12]}, expected 0 or 1`);
  }
  if (bytes[at + 13] !== 0 || bytes[at + 14] !== 0 || bytes[at + 15] !== 0) {
    throw new KvzFormatError(`Cannot read file: record ${tag} has bytes set that must be zero`);
  }
  const record = {
    tag,
    chunk: view.getUint32(at + 4, true),
    tokens: view.getUint32(at + 8, true),
    codec,
    rawLength: readU64(view, at + 16, `raw length of record ${tag}`),
    storedLength: readU64(view, at + 24, `stored length of record ${tag}`),
    crc: view.getUint32(at + 32, true),
  };
  const fault = lengthFault(record);
  if (fault !== undefined) throw new KvzFormatError(`Cannot read file: record ${tag} ${fault}`);
  return record;
}

/** Whether a text can be a record tag: four printable ASCII characters. */
export function isTag(tag: string): boolean {
  return /^[\x20-\x7e]{4}$/.test(tag);
}

/** What is wrong between the two lengths of a record, or `undefined`. */
export function lengthFault(r: { codec: RecordCodec; rawLength: number; storedLength: number }): string | undefined {
  if (r.codec === "raw" && r.rawLength !== r.storedLength) {
    return `is raw and stores ${r.storedLength} bytes, expected ${r.rawLength}`;
  }
  if (r.codec === "deflate-raw" && r.rawLength > r.storedLength * MAX_DEFLATE_RATIO) {
    return `claims that ${r.storedLength} bytes inflate to ${r.rawLength}, DEFLATE reaches ${MAX_DEFLATE_RATIO} times`;
  }
  return undefined;
}

/** Encodes a record header. */
export function encodeRecordHeader(r: Omit<RecordInfo, "offset">): Uint8Array {
  const bytes = new Uint8Array(RECORD_HEADER_BYTES);
  writeRecordFields(bytes, 0, r);
  viewOf(bytes).setUint32(RECORD_FIELDS_BYTES, crc32c(bytes.subarray(0, RECORD_FIELDS_BYTES)), true);
  return bytes;
}

/**
 * Decodes and checks a record header that stands at `offset`.
 *
 * @throws {KvzFormatError} when it is damaged or impossible
 */
export function decodeRecordHeader(bytes: Uint8Array, offset: number): RecordInfo {
  const fields = bytes.subarray(0, RECORD_FIELDS_BYTES);
  checkCrc(fields, viewOf(bytes).getUint32(RECORD_FIELDS_BYTES, true), `the record header at ${offset}`);
  return { ...readRecordFields(bytes, 0), offset };
}

/** File offset of the byte after a record. */
export function recordEnd(r: { offset: number; storedLength: number }): number {
  return r.offset + RECORD_HEADER_BYTES + r.storedLength;
}

/** Encodes the payload of the index record. */
export function encodeIndex(records: readonly RecordInfo[]): Uint8Array {
  const bytes = new Uint8Array(records.length * INDEX_ENTRY_BYTES);
  const view = viewOf(bytes);
  records.forEach((record, i) => {
    writeRecordFields(bytes, i * INDEX_ENTRY_BYTES, record);
    writeU64(view, i * INDEX_ENTRY_BYTES + RECORD_FIELDS_BYTES, record.offset);
  });
  return bytes;
}

/**
 * Decodes an index payload and checks that the records tile [headerEnd, indexOffset) without holes or overlaps.
 *
 * @throws {KvzFormatError} when an entry is impossible or the records do not tile
 */
export function decodeIndex(payload: Uint8Array, headerEnd: number, indexOffset: number): RecordInfo[] {
  if (payload.length % INDEX_ENTRY_BYTES !== 0) {
    throw new KvzFormatError(
      `Cannot read file: index has ${payload.length} bytes, expected a multiple of ${INDEX_ENTRY_BYTES}`,
    );
  }
  const view = viewOf(payload);
  const records: RecordInfo[] = [];
  let end = headerEnd;
  for (let at = 0; at < payload.length; at += INDEX_ENTRY_BYTES) {
    const offset = readU64(view, at + RECORD_FIELDS_BYTES, "record offset");
    const record: RecordInfo = { ...readRecordFields(payload, at), offset };
    if (record.tag === INDEX_TAG) throw new KvzFormatError("Cannot read file: index lists an index record");
    if (offset !== end) {
      throw new KvzFormatError(`Cannot read file: record ${record.tag} begins at ${offset}, expected ${end}`);
    }
    end = recordEnd(record);
    if (end > indexOffset) {
      throw new KvzFormatError(
        `Cannot read file: record ${record.tag} ends at ${end}, past the index at ${indexOffset}`,
      );
    }
    records.push(record);
  }
  if (end !== indexOffset) {
    throw new KvzFormatError(`Cannot read file: records end at ${end}, the index begins at ${indexOffset}`);
  }
  return records;
}

/** Encodes the index record and the footer, which end a file whose index begins at `indexOffset`. */
export function encodeTail(records: readonly RecordInfo[], indexOffset: number): Uint8Array {
  const index = encodeIndex(records);
  const bytes = new Uint8Array(RECORD_HEADER_BYTES + index.length + FOOTER_BYTES);
  bytes.set(encodeRecordHeader({
    tag: INDEX_TAG,
    chunk: 0,
    tokens: 0,
    codec: "raw",
    rawLength: index.length,
    storedLength: index.length,
    crc: crc32c(index),
  }));
  bytes.set(index, RECORD_HEADER_BYTES);
  const at = RECORD_HEADER_BYTES + index.length;
  const view = viewOf(bytes);
  writeU64(view, at, indexOffset);
  writeU64(view, at + 8, indexOffset + bytes.length);
  view.setUint32(at + 16, END_MAGIC, true);
  view.setUint32(at + 20, crc32c(bytes.subarray(at, at + 20)), true);
  return bytes;
}

/**
 * Decodes the footer of a file of `fileLength` bytes and returns the offset of its index record.
 *
 * @throws {KvzFormatError} when it is damaged, absent, or belongs to a file of another length
 */
export function decodeFooter(bytes: Uint8Array, fileLength: number): number {
  const view = viewOf(bytes);
  if (view.getUint32(16, true) !== END_MAGIC) {
    throw new KvzFormatError(
      "Cannot read file: it does not end with a kvz footer, it is truncated or still being written",
    );
  }
  checkCrc(bytes.subarray(0, 20), view.getUint32(20, true), "the footer");
  const length = readU64(view, 8, "file length");
  if (length !== fileLength) {
    throw new KvzFormatError(`Cannot read file: footer says ${length} bytes, the file has ${fileLength}`);
  }
  const indexOffset = readU64(view, 0, "index offset");
  if (indexOffset + RECORD_HEADER_BYTES + FOOTER_BYTES > fileLength) {
    throw new KvzFormatError(`Cannot read file: index begins at ${indexOffset}, past the end of the file`);
  }
  return indexOffset;
}

/**
 * Checks the header of the index record against its place in the file.
 *
 * @throws {KvzFormatError} when it is not an index record that ends where the footer begins
 */
export function checkIndexRecord(record: RecordInfo, payloadLength: number): void {
  if (record.tag !== INDEX_TAG || record.codec !== "raw" || record.chunk !== 0 || record.tokens !== 0) {
    throw new KvzFormatError(`Cannot read file: record ${record.tag} at ${record.offset} is not an index record`);
  }
  if (record.storedLength !== payloadLength) {
    throw new KvzFormatError(`Cannot read file: index has ${record.storedLength} bytes, expected ${payloadLength}`);
  }
}
