/**
 * Reads a framed file by ranges: both ends first, then only the records that are asked for.
 *
 * @module
 */
import { KvzFormatError } from "../errors.ts";
import type { ByteSource } from "./bytes.ts";
import type { JsonObject } from "./canonical_json.ts";
import {
  checkCrc,
  checkRecordCrc,
  decodeHeader,
  decodePrelude,
  FOOTER_BYTES,
  type FrameKind,
  kindLabel,
  PRELUDE_BYTES,
  RECORD_HEADER_BYTES,
  type RecordInfo,
} from "./frame.ts";
import { checkIndexRecord, decodeFooter, decodeIndex, decodeRecordHeader } from "./frame_records.ts";

/** Smallest file: `{}` as header, no records. */
const MIN_FILE_BYTES = PRELUDE_BYTES + 2 + 4 + RECORD_HEADER_BYTES + FOOTER_BYTES;
/** First reads at either end, so that most files open with two requests. */
const HEAD_BYTES = 4096;
const TAIL_BYTES = 16384;

/** A framed file whose header and index have been checked. Records are checked when they are read. */
export class FrameReader {
  readonly #source: ByteSource;
  /** The JSON header; what it means is the matter of the file's kind. */
  readonly header: JsonObject;
  /** All records but the index, in file order. */
  readonly records: readonly RecordInfo[];
  /** File offset after the header, where the first record stands. */
  readonly headerEnd: number;
  /** File offset of the index record, where an appender goes on. */
  readonly indexOffset: number;

  private constructor(
    source: ByteSource,
    header: JsonObject,
    records: readonly RecordInfo[],
    headerEnd: number,
    indexOffset: number,
  ) {
    this.#source = source;
    this.header = header;
    this.records = records;
    this.headerEnd = headerEnd;
    this.indexOffset = indexOffset;
  }

  /**
   * Opens a file and checks its header, footer and index. Allocates at most twice the source's size.
   *
   * @throws {KvzFormatError} when it is not such a file, is truncated or damaged
   */
  static async open(source: ByteSource, kind: FrameKind): Promise<FrameReader> {
    const { size } = source;
    if (size < MIN_FILE_BYTES) {
      if (size >= PRELUDE_BYTES) decodePrelude(await readExactly(source, 0, PRELUDE_BYTES), kind);
      throw new KvzFormatError(
        `Cannot read file: it has ${size} bytes, ${kindLabel(kind)} has at least ${MIN_FILE_BYTES}`,
      );
    }
    const head = await readExactly(source, 0, Math.min(size, HEAD_BYTES));
    const headerLength = decodePrelude(head, kind);
    const headerEnd = PRELUDE_BYTES + headerLength + 4;
    if (headerEnd > size - RECORD_HEADER_BYTES - FOOTER_BYTES) {
      throw new KvzFormatError(`Cannot read file: header ends at ${headerEnd}, the file has ${size} bytes`);
    }
    const tailBegin = size - Math.min(size, TAIL_BYTES);
    const tail = await readExactly(source, tailBegin, size - tailBegin);
    const indexOffset = decodeFooter(tail.subarray(tail.length - FOOTER_BYTES), size);
    if (indexOffset < headerEnd) {
      throw new KvzFormatError(`Cannot read file: index begins at ${indexOffset}, the header ends at ${headerEnd}`);
    }
    const prelude = headerEnd <= head.length ? head.subarray(0, headerEnd) : await readExactly(source, 0, headerEnd);
    const header = decodeHeader(prelude);

    const indexLength = size - FOOTER_BYTES - indexOffset;
    const index = indexOffset >= tailBegin
      ? tail.subarray(indexOffset - tailBegin, tail.length - FOOTER_BYTES)
      : await readExactly(source, indexOffset, indexLength);
    const record = decodeRecordHeader(index.subarray(0, RECORD_HEADER_BYTES), indexOffset);
    checkIndexRecord(record, indexLength - RECORD_HEADER_BYTES);
    const payload = index.subarray(RECORD_HEADER_BYTES);
    checkCrc(payload, record.crc, "the index");
    return new FrameReader(source, header, decodeIndex(payload, headerEnd, indexOffset), headerEnd, indexOffset);
  }

  /**
   * Reads the stored payload of a record. It may alias a source in memory: do not write to it.
   *
   * @throws {KvzFormatError} when the record header disagrees with the index or a checksum fails
   * @throws {RangeError} when `info` is not one of {@linkcode records}
   */
  async read(info: RecordInfo): Promise<Uint8Array> {
    if (info.offset < this.headerEnd || info.offset + RECORD_HEADER_BYTES + info.storedLength > this.indexOffset) {
      throw new RangeError(`Cannot read record ${info.tag} at ${info.offset}: it is not a record of this file`);
    }
    const bytes = await readExactly(this.#source, info.offset, RECORD_HEADER_BYTES + info.storedLength);
    const found = decodeRecordHeader(bytes.subarray(0, RECORD_HEADER_BYTES), info.offset);
    for (const key of Object.keys(found) as (keyof RecordInfo)[]) {
      if (found[key] !== info[key]) {
        throw new KvzFormatError(
          `Cannot read record ${info.tag} at ${info.offset}: ${key} is ${found[key]}, the index says ${info[key]}`,
        );
      }
    }
    const payload = bytes.subarray(RECORD_HEADER_BYTES);
    await checkRecordCrc(payload, info.crc, `record ${info.tag}, chunk ${info.chunk}`);
    return payload;
  }

  /**
   * Reads and checks every record, so that with {@linkcode open} every byte of the file has been checked.
   *
   * @throws {KvzFormatError} at the first damage
   */
  async verify(): Promise<void> {
    for (const record of this.records) await this.read(record);
  }
}

async function readExactly(source: ByteSource, offset: number, length: number): Promise<Uint8Array> {
  const bytes = await source.read(offset, length);
  if (bytes.length !== length) {
    throw new KvzFormatError(
      `Cannot read file: the source gave ${bytes.length} bytes at ${offset}, expected ${length}`,
    );
  }
  return bytes;
}
