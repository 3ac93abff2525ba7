/**
 * Growing a file. Plan, sinks and full chunks stay as they are; the tail chunk, the window, index and footer are written
 * anew behind them. Tokens leave the raw window bit-exact into the quantizer; those that are coded keep their codes. A
 * tail chunk of newest tokens, which are coded more finely, takes only what is among the newest itself.
 *
 * @module
 */
import { resolveModel } from "../cache/fingerprint.ts";
import { BYTES_PER_ELEMENT, type CacheSource, type Kind } from "../cache/types.ts";
import type { ByteSink } from "../container/bytes.ts";
import { RECORD_HEADER_BYTES } from "../container/frame.ts";
import { FrameWriter } from "../container/frame_writer.ts";
import { KvzMismatchError, KvzUnsupportedError } from "../errors.ts";
import type { Profile } from "../profile/types.ts";
import { splitTokens } from "../stages/tokens/split.ts";
import { FileDecoder } from "./decode.ts";
import { encodeUnits, type UnitEncoder } from "./encode.ts";
import { groupIds, groupPositions, type OpenFile, readGroup, type RecordGroup } from "./groups.ts";
import type { Lanes } from "./lanes.ts";
import type { CallOptions } from "./options.ts";
import { allDone } from "./ordered.ts";
import { codedUnits, FILE_CHUNK, firstOfContiguous, regionOf, SINK_CHUNK, type Unit, WINDOW_CHUNK } from "./regions.ts";

/** What appending did. */
export interface AppendResult {
  /** Tokens of the file now. */
  readonly tokens: number;
  /** Leading bytes of the old file that were kept as they are. */
  readonly keptBytes: number;
  /** Bytes written behind them. */
  readonly writtenBytes: number;
}

/** Writes the new tail of `file` with the tokens of `more`; the kept prefix is not written. */
export async function appendCache(
  lanes: Lanes,
  profile: Profile | null,
  file: OpenFile,
  more: CacheSource,
  sink: ByteSink,
  options: CallOptions,
): Promise<AppendResult> {
  const { header, reader } = file;
  const decoder = await FileDecoder.open(lanes, profile, header, {});
  if (more.ragged) throw new KvzUnsupportedError("Cannot append a ragged cache: its heads hold different tokens");
  if (decoder.recipe.select !== undefined) {
    throw new KvzUnsupportedError(`Cannot append: recipe ${header.recipe.name} chooses from the whole cache at once`);
  }
  resolveModel(more.model, header.model, { found: "the new tokens", wanted: "the file" });
  if (more.dtype !== header.dtype) {
    throw new KvzMismatchError(`Cannot append: the new tokens are ${more.dtype}, the file is ${header.dtype}`);
  }
  await decoder.loadPlan(await readGroup(file, file.groups[0]), { append: true });

  const { chunkTokens } = header;
  const group = (chunk: number) => file.groups.find((g) => g.chunk === chunk);
  const chunks = file.groups.filter((g) => regionOf(g.chunk) === "chunk" && g.chunk !== FILE_CHUNK);
  const oldWindow = group(WINDOW_CHUNK);
  const codedEnd = oldWindow === undefined ? file.tokens : oldWindow.begin;
  const tail = chunks.slice(-1).find((g) => g.tokens < chunkTokens);
  const source = new GrownCache(file, more, codedEnd, await readWindow(lanes, decoder, file, codedEnd));
  checkPositions(header.firstPosition, file, source);

  const { recipe } = decoder;
  const { sinks, window, recent = 0 } = recipe.regions(
    recipe.parseOptions({ ...header.recipe.options }),
    source.tokens,
  );
  const split = splitTokens(source.tokens, sinks, window);
  const hasSinks = group(SINK_CHUNK) !== undefined;
  const units: Unit[] = [];
  // Tokens that were coded stay coded, even if the file was written with a smaller window.
  const newCodedEnd = Math.max(split.codedEnd, codedEnd);
  if (codedEnd === 0 && split.codedBegin > 0) units.push({ chunk: SINK_CHUNK, begin: 0, end: split.codedBegin });
  const codedFrom = codedEnd === 0 ? split.codedBegin : codedEnd;
  if (codedEnd > 0 && sinks > 0 && !hasSinks) throw new KvzMismatchError("Cannot append: the file has no sinks");
  // The first new chunk may be the rest of the tail chunk: of one of recent tokens only where all new ones are recent.
  const added = newCodedEnd - codedFrom;
  const room = tail === undefined || (recent > 0 && added > recent) ? 0 : Math.min(chunkTokens - tail.tokens, added);
  if (tail !== undefined && room > 0) units.push({ chunk: tail.chunk, begin: codedFrom, end: codedFrom + room });
  units.push(...codedUnits(codedFrom + room, newCodedEnd, recent, chunkTokens, chunks.length));
  if (newCodedEnd < source.tokens) units.push({ chunk: WINDOW_CHUNK, begin: newCodedEnd, end: source.tokens });

  const withIds = source.inputIds !== undefined;
  const kept = file.groups.filter((g) => g.chunk !== WINDOW_CHUNK && !(g === tail && room > 0));
  const records = kept.flatMap((g) => g.infos);
  const last = records[records.length - 1];
  const keptBytes = last.offset + RECORD_HEADER_BYTES + last.storedLength;
  const writer = new FrameWriter(sink, "cache", reader.header, { records, offset: keptBytes });
  await writer.start();
  const encoder: UnitEncoder = {
    lanes,
    recipe,
    source,
    writer,
    withIds,
    withPositions: header.firstPosition === undefined,
    settings: decoder.settings,
    ...(tail !== undefined && room > 0 ? { previous: await readTail(decoder, await readGroup(file, tail)) } : {}),
  };
  await encodeUnits(encoder, units, options);
  await writer.finish();
  return { tokens: source.tokens, keptBytes, writtenBytes: writer.bytesWritten };
}

async function readTail(decoder: FileDecoder, group: RecordGroup): Promise<NonNullable<UnitEncoder["previous"]>> {
  return {
    tokens: group.tokens,
    ids: await groupIds(group),
    positions: await groupPositions(decoder.header, group),
    streams: decoder.recipe.groups.map((kinds) => decoder.streamsOf(group, kinds)),
  };
}

interface WindowTokens {
  readonly tokens: number;
  readonly positions: Int32Array;
  readonly ids: Int32Array | null;
  readonly data: Readonly<Record<Kind, Uint8Array>>;
}

async function readWindow(lanes: Lanes, decoder: FileDecoder, file: OpenFile, begin: number): Promise<WindowTokens> {
  const found = file.groups.find((g) => g.begin === begin && g.chunk === WINDOW_CHUNK);
  const none = new Uint8Array(0);
  if (found === undefined) {
    return { tokens: 0, positions: new Int32Array(0), ids: new Int32Array(0), data: { key: none, value: none } };
  }
  const group = await readGroup(file, found);
  const positions = await groupPositions(file.header, group);
  const data = new Map<Kind, Uint8Array>();
  await allDone(decoder.recipe.groups.map(async (kinds) => {
    const all = { positions, targetPositions: positions, layerBegin: 0, layerEnd: file.header.model.layers };
    const parts = await lanes.run(decoder.decodeJob(group, kinds, all)) as Uint8Array[];
    kinds.forEach((kind, i) => data.set(kind, parts[i]));
  }));
  const [key, value] = [data.get("key")!, data.get("value")!];
  return { tokens: group.tokens, positions, ids: await groupIds(group), data: { key, value } };
}

function checkPositions(first: number | undefined, file: OpenFile, source: GrownCache): void {
  const added = source.positions.subarray(source.codedEnd);
  if (first === undefined) return;
  const wanted = first + source.codedEnd;
  if (added.length > 0 && (firstOfContiguous(added) !== wanted)) {
    throw new KvzMismatchError(
      `Cannot append: the file's positions count up from ${first} to ${first + file.tokens - 1}, the new tokens ` +
        `begin at ${source.morePosition} or do not count up`,
    );
  }
}

/** The tokens of the old window and of the new cache, indexed as in the grown file; earlier tokens cannot be read. */
class GrownCache implements CacheSource {
  readonly model: CacheSource["model"];
  readonly dtype: CacheSource["dtype"];
  readonly tokens: number;
  readonly positions: Int32Array;
  readonly inputIds?: Int32Array;
  readonly ragged = false;
  readonly codedEnd: number;
  readonly morePosition: number;
  readonly #window: WindowTokens;
  readonly #more: CacheSource;

  constructor(file: OpenFile, more: CacheSource, codedEnd: number, window: WindowTokens) {
    this.model = file.header.model;
    this.dtype = file.header.dtype;
    this.codedEnd = codedEnd;
    this.tokens = codedEnd + window.tokens + more.tokens;
    this.#window = window;
    this.#more = more;
    this.morePosition = more.positions[0] ?? -1;
    this.positions = new Int32Array(this.tokens);
    this.positions.set(window.positions, codedEnd);
    this.positions.set(more.positions, codedEnd + window.tokens);
    const fileHasIds = file.groups.some(({ infos }) => infos.some(({ tag }) => tag === "IDS "));
    if (fileHasIds && more.inputIds === undefined && more.tokens > 0) {
      throw new KvzMismatchError("Cannot append: the file has token ids, the new tokens come without");
    }
    if (fileHasIds && window.ids !== null) {
      this.inputIds = new Int32Array(this.tokens);
      this.inputIds.set(window.ids, codedEnd);
      if (more.inputIds) this.inputIds.set(more.inputIds, codedEnd + window.tokens);
    }
  }

  async read(kind: Kind, begin: number, end: number): Promise<Uint8Array> {
    const { layers, kvHeads, keyDim, valueDim } = this.model;
    const row = (kind === "key" ? keyDim : valueDim) * BYTES_PER_ELEMENT[this.dtype];
    const border = this.codedEnd + this.#window.tokens;
    const fromWindow = Math.max(0, Math.min(end, border) - begin);
    const moreBegin = Math.max(begin, border) - border;
    const moreEnd = Math.max(end, border) - border;
    const more = moreEnd > moreBegin ? await this.#more.read(kind, moreBegin, moreEnd) : new Uint8Array(0);
    const tokens = end - begin;
    const out = new Uint8Array(layers * kvHeads * tokens * row);
    for (let b = 0; b < layers * kvHeads; b++) {
      const inWindow = (b * this.#window.tokens + begin - this.codedEnd) * row;
      if (fromWindow > 0) {
        out.set(this.#window.data[kind].subarray(inWindow, inWindow + fromWindow * row), b * tokens * row);
      }
      const length = (moreEnd - moreBegin) * row;
      out.set(more.subarray(b * length, (b + 1) * length), (b * tokens + fromWindow) * row);
    }
    return out;
  }
}
