/**
 * Typed arrays as records of a framed file: an array under a four-letter tag, in pieces of at most 16 MiB.
 *
 * @module
 */
import type { FrameReader } from "../container/frame_reader.ts";
import type { FrameWriter } from "../container/frame_writer.ts";
import { KvzFormatError } from "../errors.ts";
import { decodeStream, encodeStream, rawStream } from "../stages/entropy/deflate.ts";

/** Bytes of a piece. */
const PIECE_BYTES = 1 << 24;

/**
 * Writes an array as it lies in memory (little-endian), each piece deflated where `deflate` is set and it pays. An empty
 * array writes no record.
 */
export async function writeSection(
  writer: FrameWriter,
  tag: string,
  data: ArrayBufferView,
  deflate = false,
): Promise<void> {
  for (let begin = 0, chunk = 0; begin < data.byteLength; begin += PIECE_BYTES, chunk++) {
    const length = Math.min(PIECE_BYTES, data.byteLength - begin);
    const piece = new Uint8Array(data.buffer, data.byteOffset + begin, length);
    const { codec, bytes } = deflate ? await encodeStream(piece) : rawStream(piece);
    await writer.writeRecord({ tag, chunk, tokens: 0, codec, rawLength: length }, bytes);
  }
}

/**
 * Reads the pieces of a tag into one buffer. What the index lists is compared with the wanted length before anything is
 * allocated.
 *
 * @throws {KvzFormatError} when the pieces are not all there, in order, whole and of the wanted length in all.
 */
export async function readSection(
  reader: FrameReader,
  what: string,
  tag: string,
  byteLength: number,
): Promise<ArrayBuffer> {
  const records = reader.records.filter((record) => record.tag === tag);
  const total = records.reduce((sum, { rawLength }) => sum + rawLength, 0);
  if (records.some(({ chunk }, i) => chunk !== i)) {
    throw new KvzFormatError(`Cannot read ${what}: the pieces of ${tag} are not in order`);
  }
  if (total !== byteLength) {
    throw new KvzFormatError(`Cannot read ${what}: ${tag} has ${total} bytes, expected ${byteLength}`);
  }
  const out = new Uint8Array(byteLength);
  let at = 0;
  for (const record of records) {
    const { codec, rawLength } = record;
    out.set(
      await decodeStream({ codec, rawLength, bytes: await reader.read(record) }, rawLength, `${what} ${tag}`),
      at,
    );
    at += rawLength;
  }
  return out.buffer;
}

/**
 * Refuses tags that this version does not know: what they would mean could change what the others mean.
 *
 * @throws {KvzFormatError} when there is one.
 */
export function requireKnownTags(reader: FrameReader, what: string, tags: readonly string[]): void {
  const unknown = reader.records.find(({ tag }) => !tags.includes(tag));
  if (unknown !== undefined) throw new KvzFormatError(`Cannot read ${what}: unknown record ${unknown.tag}`);
}
