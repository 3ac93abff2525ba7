/**
 * Reads a framed file front to back from a pipe. Every record is checked before it is handed on; index and footer are
 * checked at the end.
 *
 * @module
 */
import { KvzFormatError, KvzLimitError } from "../errors.ts";
import type { JsonObject } from "./canonical_json.ts";
import {
  checkCrc,
  checkRecordCrc,
  decodeHeader,
  decodePrelude,
  FOOTER_BYTES,
  type FrameKind,
  INDEX_ENTRY_BYTES,
  INDEX_TAG,
  PRELUDE_BYTES,
  RECORD_HEADER_BYTES,
  type RecordInfo,
} from "./frame.ts";
import { checkIndexRecord, decodeFooter, decodeIndex, decodeRecordHeader, recordEnd } from "./frame_records.ts";
import { StreamBuffer } from "./stream_buffer.ts";

/** What {@linkcode readFrames} yields: the header once, then the records in file order. */
export type Frame =
  | { readonly type: "header"; readonly header: JsonObject }
  | { readonly type: "record"; readonly info: RecordInfo; readonly stored: Uint8Array };

/** Options of {@linkcode readFrames}. */
export interface ReadFramesOptions {
  /** Largest payload that is taken in, in bytes. Default: 1 GiB. */
  readonly maxRecordBytes?: number;
}

/**
 * Reads a framed file forward. Memory stays at the largest record plus one piece of the stream plus the index; a
 * declared length alone allocates nothing. The file is whole and undamaged only when the iteration has ended without an
 * error: a truncated stream fails after its last whole record. The stream is cancelled when the iteration stops early.
 *
 * @throws {KvzFormatError} when the bytes are not such a file, are truncated, damaged or followed by others
 * @throws {KvzLimitError} when a record exceeds `maxRecordBytes`
 */
export async function* readFrames(
  stream: ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>,
  kind: FrameKind,
  options: ReadFramesOptions = {},
): AsyncGenerator<Frame, void, void> {
  const { maxRecordBytes = 2 ** 30 } = options;
  const input = new StreamBuffer(stream);
  try {
    const start = await input.take(PRELUDE_BYTES, "the prelude");
    const rest = await input.take(decodePrelude(start, kind) + 4, "the header");
    const prelude = new Uint8Array(start.length + rest.length);
    prelude.set(start);
    prelude.set(rest, start.length);
    yield { type: "header", header: decodeHeader(prelude) };

    const records: RecordInfo[] = [];
    for (;;) {
      const info = decodeRecordHeader(await input.take(RECORD_HEADER_BYTES, "a record header"), input.offset - 40);
      if (info.tag === INDEX_TAG) {
        await finish(input, info, records, prelude.length);
        return;
      }
      if (info.storedLength > maxRecordBytes) {
        throw new KvzLimitError(
          `Cannot read record ${info.tag}, chunk ${info.chunk}: it has ${info.storedLength} bytes, ` +
            `the limit is ${maxRecordBytes}`,
        );
      }
      const stored = await input.take(info.storedLength, `record ${info.tag}, chunk ${info.chunk}`);
      await checkRecordCrc(stored, info.crc, `record ${info.tag}, chunk ${info.chunk}`);
      records.push(info);
      yield { type: "record", info, stored };
    }
  } finally {
    await input.close();
  }
}

/** Checks that the index lists what was read, that the footer fits, and that nothing follows. */
async function finish(
  input: StreamBuffer,
  index: RecordInfo,
  records: readonly RecordInfo[],
  headerEnd: number,
): Promise<void> {
  checkIndexRecord(index, records.length * INDEX_ENTRY_BYTES);
  const payload = await input.take(index.storedLength, "the index");
  checkCrc(payload, index.crc, "the index");
  decodeIndex(payload, headerEnd, index.offset).forEach((listed, i) => {
    for (const key of Object.keys(listed) as (keyof RecordInfo)[]) {
      if (listed[key] !== records[i][key]) {
        throw new KvzFormatError(
          `Cannot read record ${records[i].tag} at ${records[i].offset}: ${key} is ${records[i][key]}, ` +
            `the index says ${listed[key]}`,
        );
      }
    }
  });
  const footer = await input.take(FOOTER_BYTES, "the footer");
  const indexOffset = decodeFooter(footer, recordEnd(index) + FOOTER_BYTES);
  if (indexOffset !== index.offset) {
    throw new KvzFormatError(`Cannot read file: footer says index at ${indexOffset}, it is at ${index.offset}`);
  }
  if (!await input.atEnd()) throw new KvzFormatError("Cannot read file: bytes follow the footer");
}
