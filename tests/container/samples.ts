/** Small framed files for the container tests, and ways to damage them. */
import { MemorySink } from "../../src/container/bytes.ts";
import type { JsonObject } from "../../src/container/canonical_json.ts";
import { crc32c } from "../../src/container/crc32c.ts";
import type { FrameKind, RecordHead, RecordInfo } from "../../src/container/frame.ts";
import { FrameReader } from "../../src/container/frame_reader.ts";
import { readFrames, type ReadFramesOptions } from "../../src/container/frame_stream.ts";
import { FrameWriter } from "../../src/container/frame_writer.ts";
import { memorySource } from "../../src/container/bytes.ts";

/** A record and its stored payload. */
export interface Sample {
  head: RecordHead;
  stored: Uint8Array;
}

export const HEADER: JsonObject = { b: [1, 2.5, null, true], a: { "é": "ü", n: -0.001 } };

/** A raw record. */
export function raw(tag: string, chunk: number, tokens: number, bytes: number[]): Sample {
  const stored = Uint8Array.from(bytes);
  return { head: { tag, chunk, tokens, codec: "raw", rawLength: stored.length }, stored };
}

export const SAMPLES: Sample[] = [
  raw("SINK", 0, 4, [1, 2, 3, 4, 5]),
  { head: { tag: "KCOD", chunk: 0, tokens: 256, codec: "deflate-raw", rawLength: 1000 }, stored: new Uint8Array(9) },
  raw("IDS ", 1, 0xffffffff, []),
];

/** Writes a file in memory. */
export async function writeFile(kind: FrameKind, header: JsonObject, samples: Sample[]): Promise<Uint8Array> {
  const sink = new MemorySink();
  const writer = new FrameWriter(sink, kind, header);
  await writer.start();
  for (const { head, stored } of samples) await writer.writeRecord(head, stored);
  await writer.finish();
  return sink.bytes();
}

/** What a full read yields. */
export interface Contents {
  header: JsonObject;
  records: { info: RecordInfo; stored: Uint8Array }[];
}

/** Reads and verifies everything by ranges. */
export async function readByRanges(bytes: Uint8Array, kind: FrameKind): Promise<Contents> {
  const reader = await FrameReader.open(memorySource(bytes), kind);
  await reader.verify();
  const records = [];
  for (const info of reader.records) records.push({ info, stored: (await reader.read(info)).slice() });
  return { header: reader.header, records };
}

/** Reads everything front to back, the stream cut into pieces of `piece` bytes. */
export async function readForward(
  bytes: Uint8Array,
  kind: FrameKind,
  piece: number,
  options?: ReadFramesOptions,
): Promise<Contents> {
  const contents: Contents = { header: {}, records: [] };
  for await (const frame of readFrames(pieces(bytes, piece), kind, options)) {
    if (frame.type === "header") contents.header = frame.header;
    else contents.records.push({ info: frame.info, stored: frame.stored });
  }
  return contents;
}

/** The bytes as a web stream of pieces. */
export function pieces(bytes: Uint8Array, piece: number): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      controller.enqueue(bytes.slice(at, at + piece));
      at += piece;
    },
  });
}

/** Sets bytes and makes the checksum at `crcAt` over [from, crcAt) fit again: damage that no checksum shows. */
export function forge(bytes: Uint8Array, at: number, value: number[], from: number, crcAt: number): Uint8Array {
  const out = bytes.slice();
  out.set(value, at);
  new DataView(out.buffer).setUint32(crcAt, crc32c(out.subarray(from, crcAt)), true);
  return out;
}

/** The eight bytes of a u64. */
export function u64(value: number | bigint): number[] {
  return [...new Uint8Array(new BigUint64Array([BigInt(value)]).buffer)];
}
