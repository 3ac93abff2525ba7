/**
 * Writes a framed file front to back, so that it can go into a pipe; index and footer come last.
 *
 * @module
 */
import type { ByteSink } from "./bytes.ts";
import type { JsonObject } from "./canonical_json.ts";
import { crc32cOfRecord } from "./crc32c.ts";
import { encodePrelude, type FrameKind, INDEX_TAG, type RecordHead, type RecordInfo } from "./frame.ts";
import { encodeRecordHeader, encodeTail, isTag, lengthFault, recordEnd } from "./frame_records.ts";

/** Where an appender goes on: records that stay, and the file offset after the last of them. */
export interface FrameResume {
  /** What the file holds before the offset; it need not be all that it once held. */
  readonly records: readonly RecordInfo[];
  /** File offset of the first byte to be written; everything before it stays as it is. */
  readonly offset: number;
}

/** Writes one framed file. Calls must be awaited one after another. */
export class FrameWriter {
  readonly #sink: ByteSink;
  readonly #prelude: Uint8Array;
  readonly #records: RecordInfo[] = [];
  readonly #resumed: boolean;
  #begin = 0;
  #offset = 0;
  #state: "new" | "open" | "busy" | "finished" = "new";

  /**
   * Prepares a writer; nothing is written yet.
   *
   * @param sink takes the bytes in order; with `resume`, from `resume.offset` on
   * @param header goes into the file as canonical JSON; with `resume`, it must be the header that is there
   * @throws {RangeError} when the header is too large or the resumed records do not tile the bytes before the offset
   * @throws {TypeError} when the header is not JSON
   */
  constructor(sink: ByteSink, kind: FrameKind, header: JsonObject, resume?: FrameResume) {
    this.#sink = sink;
    this.#prelude = encodePrelude(kind, header);
    this.#resumed = resume !== undefined;
    if (resume === undefined) return;
    let end = this.#prelude.length;
    for (const record of resume.records) {
      if (record.offset !== end) {
        throw new RangeError(`Cannot append: record ${record.tag} begins at ${record.offset}, expected ${end}`);
      }
      end = recordEnd(record);
      this.#records.push(record);
    }
    if (resume.offset !== end) {
      throw new RangeError(`Cannot append: records end at ${end}, writing is to begin at ${resume.offset}`);
    }
    this.#begin = this.#offset = end;
  }

  /** Bytes that this writer has given to its sink. */
  get bytesWritten(): number {
    return this.#offset - this.#begin;
  }

  /** File offset of the next byte: {@linkcode bytesWritten} plus what was there before, so in the end the file's size. */
  get offset(): number {
    return this.#offset;
  }

  /** The records so far, resumed ones included. */
  get records(): readonly RecordInfo[] {
    return this.#records;
  }

  /** Writes magic and header (nothing when resuming). */
  async start(): Promise<void> {
    this.#enter("new", "start");
    if (!this.#resumed) await this.#write(this.#prelude);
    this.#state = "open";
  }

  /**
   * Writes one record whose payload is already in its stored form.
   *
   * @throws {RangeError} when a field does not fit the format
   */
  async writeRecord(record: RecordHead, stored: Uint8Array): Promise<void> {
    const { tag, chunk, tokens, codec, rawLength } = record;
    if (!isTag(tag) || tag === INDEX_TAG) {
      throw new RangeError(
        `Cannot write record: tag is ${JSON.stringify(tag)}, expected four printable ASCII characters`,
      );
    }
    for (const [name, value] of Object.entries({ chunk, tokens })) {
      if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
        throw new RangeError(`Cannot write record ${tag}: ${name} is ${value}, expected an unsigned 32-bit integer`);
      }
    }
    if (!Number.isSafeInteger(rawLength) || rawLength < 0) {
      throw new RangeError(`Cannot write record ${tag}: raw length is ${rawLength}`);
    }
    const fault = lengthFault({ codec, rawLength, storedLength: stored.length });
    if (fault !== undefined) throw new RangeError(`Cannot write record: ${tag} ${fault}`);

    this.#enter("open", "write record");
    const crc = await crc32cOfRecord(stored);
    const fields = { tag, chunk, tokens, codec, rawLength, storedLength: stored.length, crc };
    const info: RecordInfo = { ...fields, offset: this.#offset };
    await this.#write(encodeRecordHeader(fields));
    await this.#write(stored);
    this.#records.push(info);
    this.#state = "open";
  }

  /** Writes index and footer. The sink is not closed. */
  async finish(): Promise<void> {
    this.#enter("open", "finish");
    await this.#write(encodeTail(this.#records, this.#offset));
    this.#state = "finished";
  }

  /** After a failed write the state stays "busy": what the sink holds is unknown and nothing may follow. */
  #enter(expected: "new" | "open", action: string): void {
    if (this.#state !== expected) {
      throw new Error(`Cannot ${action}: the writer is ${this.#state}, expected ${expected}`);
    }
    this.#state = "busy";
  }

  async #write(bytes: Uint8Array): Promise<void> {
    if (bytes.length > 0) await this.#sink.write(bytes);
    this.#offset += bytes.length;
  }
}
