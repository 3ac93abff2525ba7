/**
 * What a .kvz file says of itself, without decoding anything.
 *
 * @module
 */
import { FOOTER_BYTES, INDEX_ENTRY_BYTES, RECORD_HEADER_BYTES } from "../container/frame.ts";
import type { KvzHeader } from "../container/header.ts";
import { type OpenFile, openFile } from "./groups.ts";
import type { KvzInput } from "./options.ts";
import { FILE_CHUNK, regionOf, SINK_CHUNK, TAG_IDS, WINDOW_CHUNK } from "./regions.ts";
import { fp16Bytes, paperRatio, streamBytes } from "./report.ts";

/** Facts about a .kvz file. */
export interface Inspection {
  /** The file's header. */
  readonly header: KvzHeader;
  /** Size of the file. */
  readonly bytes: number;
  /** Tokens of the cache. */
  readonly tokens: number;
  /** Tokens in each region. */
  readonly regions: { readonly sinks: number; readonly coded: number; readonly window: number };
  /** Coded chunks. */
  readonly chunks: number;
  /** Whether the file holds the token ids. */
  readonly tokenIds: boolean;
  /** Bytes of the cache at 16 bits an element. */
  readonly fp16Bytes: number;
  /** fp16 bytes before the window ÷ their stored bytes, as KVTC reports it; null when all is window. */
  readonly paperRatio: number | null;
  /** fp16 bytes ÷ file bytes. */
  readonly fileRatio: number;
  /** Stored payload bytes by record tag. */
  readonly streams: Readonly<Record<string, number>>;
}

/**
 * Reads header and index of a .kvz file. `verify: true` also reads every payload and checks its checksum.
 *
 * @throws {KvzFormatError} when it is not a whole, undamaged .kvz file
 */
export async function inspect(input: KvzInput, options: { readonly verify?: boolean } = {}): Promise<Inspection> {
  const file = await openFile(input);
  if (options.verify) await file.reader.verify();
  return inspectFile(file);
}

/** The same for an open file. */
export function inspectFile({ header, reader, groups, tokens }: OpenFile): Inspection {
  const { records } = reader;
  const inRegion = (wanted: number) => groups.find(({ chunk }) => chunk === wanted)?.tokens ?? 0;
  const chunks = groups.filter(({ chunk }) => regionOf(chunk) === "chunk" && chunk !== FILE_CHUNK);
  const size = fileBytes(reader.indexOffset, records.length);
  return {
    header,
    bytes: size,
    tokens,
    regions: {
      sinks: inRegion(SINK_CHUNK),
      coded: chunks.reduce((sum, { tokens }) => sum + tokens, 0),
      window: inRegion(WINDOW_CHUNK),
    },
    chunks: chunks.length,
    tokenIds: records.some(({ tag }) => tag === TAG_IDS),
    fp16Bytes: fp16Bytes(header.model, tokens),
    paperRatio: paperRatio(header.model, header.dtype, records, tokens),
    fileRatio: fp16Bytes(header.model, tokens) / size,
    streams: streamBytes(records),
  };
}

function fileBytes(indexOffset: number, records: number): number {
  return indexOffset + RECORD_HEADER_BYTES + records * INDEX_ENTRY_BYTES + FOOTER_BYTES;
}
