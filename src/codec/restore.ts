/**
 * Steps that the codec's calls share: timing, loading a file's plan, its blocks, the shape of what will be restored.
 *
 * @module
 */
import type { CacheSink, DType, ModelSpec } from "../cache/types.ts";
import { MemorySink } from "../container/bytes.ts";
import { KvzFormatError, KvzLimitError } from "../errors.ts";
import type { CacheBlock, FileDecoder } from "./decode.ts";
import { groupIds, groupPositions, type OpenFile, readGroup } from "./groups.ts";
import { type DecompressOptions, DEFAULT_MAX_BYTES, type KvzInput } from "./options.ts";
import { requireRising, TAG_IDS, TAG_KEPT, TAG_POSITIONS } from "./regions.ts";

/** What a restored cache will be, told before its first block. */
export interface RestoredShape {
  /** The file's model, with the layers chosen. */
  readonly model: ModelSpec;
  /** Element type. */
  readonly dtype: DType;
  /** Position of each token, evicted ones included. */
  readonly positions: Int32Array;
  /** Token ids where the file has them. */
  readonly inputIds?: Int32Array;
  /** Whether heads may hold different tokens: writes into the sink say which (`kept` of {@linkcode CacheSink.write}). */
  readonly ragged: boolean;
}

/** Wall time in two parts. */
export class Timer {
  #begin = performance.now();
  secondsSetup = 0;

  setupDone(): void {
    const now = performance.now();
    this.secondsSetup = (now - this.#begin) / 1000;
    this.#begin = now;
  }

  get seconds(): number {
    return (performance.now() - this.#begin) / 1000;
  }
}

export async function loadPlan(file: OpenFile, decoder: FileDecoder): Promise<void> {
  if (file.groups.length === 0) throw new KvzFormatError("Cannot read file: it has no plan");
  await decoder.loadPlan(await readGroup(file, file.groups[0]));
}

/**
 * Blocks of an open file whose plan is loaded; `shared`: lanes may share out chunks by layers, for readers that take blocks
 * of any layers; `sink`: where they will be written ({@linkcode FileDecoder.blocks}).
 */
export function fileBlocks(
  file: OpenFile,
  decoder: FileDecoder,
  { shared = false, sink }: { shared?: boolean; sink?: CacheSink } = {},
): AsyncGenerator<CacheBlock, void, void> {
  return decoder.blocks(
    async function* () {
      for (const group of file.groups.slice(1)) yield await readGroup(file, group);
    }(),
    shared ? Math.min(file.tokens, decoder.tokenLimit) : undefined,
    sink,
  );
}

/** Positions and token ids of what will be restored. */
export async function restoredShape(
  file: OpenFile,
  decoder: FileDecoder,
  { firstPosition }: DecompressOptions,
): Promise<RestoredShape> {
  const tokens = Math.min(file.tokens, decoder.tokenLimit);
  decoder.requireWithinLimit(tokens);
  const positions = new Int32Array(tokens);
  const hasIds = file.reader.records.some(({ tag }) => tag === TAG_IDS);
  let inputIds: Int32Array | null = hasIds ? new Int32Array(tokens) : null;
  for (const info of file.groups.slice(1)) {
    if (info.begin >= tokens) break;
    const side = info.infos.filter(({ tag }) => tag === TAG_IDS || tag === TAG_POSITIONS);
    const group = await readGroup(file, { ...info, infos: side });
    const take = Math.min(info.tokens, tokens - info.begin);
    positions.set((await groupPositions(file.header, group)).subarray(0, take), info.begin);
    const ids = await groupIds(group);
    if (ids === null) inputIds = null;
    else inputIds?.set(ids.subarray(0, take), info.begin);
  }
  requireRising(positions, -1);
  const shift = firstPosition === undefined || tokens === 0 ? 0 : firstPosition - positions[0];
  return {
    model: decoder.model,
    dtype: decoder.dtype,
    ragged: file.reader.records.some(({ tag }) => tag === TAG_KEPT),
    positions: shift === 0 ? positions : positions.map((position) => position + shift),
    ...(inputIds === null ? {} : { inputIds }),
  };
}

export async function readPrefix(input: KvzInput, length: number): Promise<Uint8Array> {
  if (input instanceof Uint8Array) return input.subarray(0, length);
  if (input instanceof Blob) return new Uint8Array(await input.slice(0, length).arrayBuffer());
  return await input.read(0, length);
}

/** Reads a pipe to its end, no further than a file for a cache within the limit can reach. */
export async function collect(stream: ReadableStream<Uint8Array>, options: DecompressOptions): Promise<Uint8Array> {
  const limit = options.maxBytes ?? DEFAULT_MAX_BYTES;
  const sink = new MemorySink();
  let length = 0;
  // A reader instead of `for await`, which Safari's streams lack.
  const reader = stream.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return sink.bytes();
    length += value.length;
    if (length > limit) {
      await reader.cancel();
      throw new KvzLimitError(`Cannot decompress: the pipe holds more than maxBytes, ${limit} bytes`);
    }
    sink.write(value);
  }
}
