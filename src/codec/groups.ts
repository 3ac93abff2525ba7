/**
 * Reading a .kvz file as regions: the records of one chunk number together, checked against each other and against the
 * header, from ranged reads or from a pipe.
 *
 * @module
 */
import type { ByteSource } from "../container/bytes.ts";
import { blobSource, memorySource } from "../container/bytes.ts";
import type { RecordInfo } from "../container/frame.ts";
import { FrameReader } from "../container/frame_reader.ts";
import { readFrames } from "../container/frame_stream.ts";
import { type KvzHeader, parseHeader } from "../container/header.ts";
import { KvzFormatError } from "../errors.ts";
import type { TaggedStream } from "../recipes/recipe.ts";
import { decodeStream } from "../stages/entropy/deflate.ts";
import type { KvzInput } from "./options.ts";
import {
  bytesInt32,
  contiguousPositions,
  FILE_CHUNK,
  SINK_CHUNK,
  TAG_IDS,
  TAG_POSITIONS,
  WINDOW_CHUNK,
} from "./regions.ts";

/** The records of one region or chunk. */
export interface RecordGroup {
  readonly chunk: number;
  /** Index of the first token in the cache. */
  readonly begin: number;
  readonly tokens: number;
  readonly records: ReadonlyMap<string, TaggedStream>;
}

/** Opens an input for ranged reads. */
export function toSource(input: KvzInput): ByteSource {
  if (input instanceof Uint8Array) return memorySource(input);
  if (input instanceof Blob) return blobSource(input);
  if (typeof input === "object" && input !== null && "read" in input && typeof input.size === "number") return input;
  throw new TypeError("Cannot open input: it is neither a Uint8Array nor a Blob nor a byte source");
}

/** Order of the regions in a file: plan, sinks, chunks 0, 1, …, window. */
export class GroupOrder {
  readonly #header: KvzHeader;
  #state: "start" | "sinks" | "chunks" | "window" = "start";
  #nextChunk = 0;
  #begin = 0;

  constructor(header: KvzHeader) {
    this.#header = header;
  }

  /**
   * Takes the next group's number and tokens and returns the index of its first token.
   *
   * @throws {KvzFormatError} when it cannot stand there.
   */
  next(chunk: number, tokens: number): number {
    const { chunkTokens } = this.#header;
    const fail = (why: string) => new KvzFormatError(`Cannot read file: chunk ${chunk} of ${tokens} tokens ${why}`);
    if (chunk === FILE_CHUNK) {
      if (this.#state !== "start" || tokens !== 0) throw fail("is out of order");
      return 0;
    }
    if (tokens === 0) throw fail("is empty");
    const begin = this.#begin;
    this.#begin += tokens;
    if (this.#begin > 0x7fffffff) throw fail("makes the cache too long");
    if (chunk === SINK_CHUNK) {
      if (this.#state !== "start") throw fail("is out of order");
      this.#state = "sinks";
      return begin;
    }
    if (this.#state === "window") throw fail("follows the window");
    if (chunk === WINDOW_CHUNK) {
      this.#state = "window";
      return begin;
    }
    this.#state = "chunks";
    if (chunk !== this.#nextChunk++) throw fail("is out of order");
    if (tokens > chunkTokens) throw fail(`has more than ${chunkTokens}`);
    return begin;
  }
}

/** A file opened for ranged reads. */
export interface OpenFile {
  readonly reader: FrameReader;
  readonly header: KvzHeader;
  /** Regions with their records, in file order. */
  readonly groups: readonly { chunk: number; begin: number; tokens: number; infos: readonly RecordInfo[] }[];
  /** Tokens of the whole cache. */
  readonly tokens: number;
}

/** Opens and checks a file; the payloads stay unread. */
export async function openFile(input: KvzInput): Promise<OpenFile> {
  const reader = await FrameReader.open(toSource(input), "cache");
  const header = parseHeader(reader.header);
  const order = new GroupOrder(header);
  const groups: { chunk: number; begin: number; tokens: number; infos: RecordInfo[] }[] = [];
  for (const info of reader.records) {
    const last = groups[groups.length - 1];
    if (last !== undefined && last.chunk === info.chunk) {
      addToGroup(last.infos.map(({ tag }) => tag), last.tokens, info);
      last.infos.push(info);
    } else {
      groups.push({
        chunk: info.chunk,
        begin: order.next(info.chunk, info.tokens),
        tokens: info.tokens,
        infos: [info],
      });
    }
  }
  const last = groups[groups.length - 1];
  return { reader, header, groups, tokens: last === undefined ? 0 : last.begin + last.tokens };
}

/** Reads the records of one group. */
export async function readGroup(file: OpenFile, group: OpenFile["groups"][number]): Promise<RecordGroup> {
  const records = new Map<string, TaggedStream>();
  for (const info of group.infos) records.set(info.tag, { ...info, bytes: await file.reader.read(info) });
  return { chunk: group.chunk, begin: group.begin, tokens: group.tokens, records };
}

/** Reads a pipe: the header first, then group after group as they arrive. */
export async function* streamGroups(
  stream: ReadableStream<Uint8Array>,
  maxRecordBytes: number,
): AsyncGenerator<{ header: KvzHeader } | RecordGroup, void, void> {
  let order: GroupOrder | null = null;
  let group: { chunk: number; begin: number; tokens: number; records: Map<string, TaggedStream> } | null = null;
  for await (const frame of readFrames(stream, "cache", { maxRecordBytes })) {
    if (frame.type === "header") {
      const header = parseHeader(frame.header);
      order = new GroupOrder(header);
      yield { header };
      continue;
    }
    const { info, stored } = frame;
    if (group !== null && group.chunk === info.chunk) {
      addToGroup([...group.records.keys()], group.tokens, info);
    } else {
      if (group !== null) yield group;
      const begin: number = order!.next(info.chunk, info.tokens);
      group = { chunk: info.chunk, begin, tokens: info.tokens, records: new Map() };
    }
    group.records.set(info.tag, { ...info, bytes: stored });
  }
  if (group !== null) yield group;
}

function addToGroup(tags: readonly string[], tokens: number, info: RecordInfo): void {
  if (info.tokens !== tokens) {
    throw new KvzFormatError(
      `Cannot read file: record ${info.tag} of chunk ${info.chunk} has ${info.tokens} tokens, its chunk ${tokens}`,
    );
  }
  if (tags.includes(info.tag)) {
    throw new KvzFormatError(`Cannot read file: chunk ${info.chunk} has two records ${info.tag}`);
  }
}

/** A record of a group. Throws KvzFormatError when it is missing. */
export function requireRecord(group: RecordGroup, tag: string): TaggedStream {
  const record = group.records.get(tag);
  if (record === undefined) {
    throw new KvzFormatError(`Cannot read file: chunk ${group.chunk} has no record ${tag}`);
  }
  return record;
}

/** Positions of a group's tokens. */
export async function groupPositions(header: KvzHeader, group: RecordGroup): Promise<Int32Array> {
  if (header.firstPosition !== undefined) {
    if (header.firstPosition + group.begin + group.tokens > 0x7fffffff) {
      throw new KvzFormatError(`Cannot read file: positions exceed 31 bits in chunk ${group.chunk}`);
    }
    return contiguousPositions(header.firstPosition + group.begin, group.tokens);
  }
  const record = requireRecord(group, TAG_POSITIONS);
  return bytesInt32(await decodeStream(record, group.tokens * 4, "positions"));
}

/** Token ids of a group, null where the file has none. */
export async function groupIds(group: RecordGroup): Promise<Int32Array | null> {
  const record = group.records.get(TAG_IDS);
  return record === undefined ? null : bytesInt32(await decodeStream(record, group.tokens * 4, "token ids"));
}
