/**
 * The codec: a profile and a set of lanes, kept open over many calls.
 *
 * @module
 */
import type { Backend } from "../backend/backend.ts";
import { KvCacheBuilder } from "../cache/builder.ts";
import type { KvCache } from "../cache/kv_cache.ts";
import type { CacheSink, CacheSource } from "../cache/types.ts";
import { type ByteSink, MemorySink } from "../container/bytes.ts";
import type { FrameWriter } from "../container/frame_writer.ts";
import { KvzBackendError, KvzFormatError, KvzUnsupportedError } from "../errors.ts";
import type { Profile } from "../profile/types.ts";
import type { TaggedStream } from "../recipes/recipe.ts";
import type { AppendResult } from "./append.ts";
import { type CacheBlock, FileDecoder } from "./decode.ts";
import { chooseRecipe, encodeCache, type PreparedEncode, prepareEncode, type SetupCache } from "./encode.ts";
import { openFile, type RecordGroup, streamGroups } from "./groups.ts";
import type { DeviceCache } from "./device_cache.ts";
import type { Lanes } from "./lanes.ts";
import type { LayerBlock } from "./layers.ts";
import {
  type CallOptions,
  type CompressOptions,
  type CompressReport,
  type DecompressOptions,
  type DecompressReport,
  DEFAULT_MAX_BYTES,
  type KvzInput,
  type WorkReport,
} from "./options.ts";
import { collect, fileBlocks, loadPlan, readPrefix, type RestoredShape, restoredShape, Timer } from "./restore.ts";
import { fp16Bytes, paperRatio, streamBytes } from "./report.ts";

/**
 * An open codec. Calls on one codec run one after another, so end every iteration of `blocks` and `layers` before you
 * wait for another call; open several codecs for more at a time.
 */
export class Codec implements AsyncDisposable {
  /** The profile it was opened with; null: only recipes that need none can be used. */
  readonly profile: Profile | null;
  readonly #lanes: Lanes;
  readonly #setups: SetupCache = new Map();
  #busy: Promise<unknown> = Promise.resolve();
  #closed = false;

  /** @ignore use {@linkcode openCodec} */
  constructor(profile: Profile | null, lanes: Lanes) {
    this.profile = profile;
    this.#lanes = lanes;
  }

  /**
   * Backend in use, its build, the number of lanes, why it stands in for a GPU that failed, and what WebAssembly computes
   * beside it.
   */
  get info(): {
    readonly backend: string;
    readonly build: string;
    readonly threads: number;
    readonly fallback?: string;
    readonly host?: readonly string[];
  } {
    return { ...this.#lanes.info, threads: this.#lanes.size };
  }

  /** @ignore The backend of the only lane, whose device memory callers may share. */
  get backend(): Backend {
    return this.#lanes.device;
  }

  /**
   * Compresses a cache into a .kvz file in memory.
   *
   * @throws {KvzMismatchError} when cache and profile are of different models
   * @throws {KvzUnsupportedError} when the cache holds NaN or infinities before its window, or is ragged
   * @throws {RangeError} when an option is out of range
   */
  async compress(
    cache: CacheSource,
    options: CompressOptions = {},
  ): Promise<{ bytes: Uint8Array; report: CompressReport }> {
    // What lanes return is the writer's own until it is joined; other sinks might keep what they are given.
    const sink = new MemorySink(true);
    const lent: (readonly TaggedStream[])[] = [];
    const report = await this.#compress(cache, sink, options, (streams) => lent.push(streams));
    const bytes = sink.bytes();
    for (const streams of lent) this.#lanes.reuse(streams);
    return { bytes, report };
  }

  /** Like {@linkcode compress}, writing front to back into a sink; memory is bounded by a few chunks. */
  async compressTo(cache: CacheSource, sink: ByteSink, options: CompressOptions = {}): Promise<CompressReport> {
    return await this.#compress(cache, sink, options);
  }

  async #compress(
    cache: CacheSource,
    sink: ByteSink,
    options: CompressOptions,
    written?: (streams: readonly TaggedStream[]) => void,
  ): Promise<CompressReport> {
    const lock = await this.#acquire();
    try {
      const chosen = await this.#settleRatio(cache, options);
      const timer = new Timer();
      const prepared = await prepareEncode(this.#lanes, this.profile, cache, chosen, this.#setups);
      timer.setupDone();
      const writer = await encodeCache(this.#lanes, this.profile, cache, sink, chosen, prepared, written);
      return this.#compressReport(cache, writer, prepared, timer);
    } finally {
      lock();
    }
  }

  /** The .kvz file as a web stream. An error of compressing errors the stream. */
  compressStream(cache: CacheSource, options: CompressOptions = {}): ReadableStream<Uint8Array> {
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const writer = writable.getWriter();
    const sink = { write: (bytes: Uint8Array) => writer.write(new Uint8Array(bytes)) };
    this.compressTo(cache, sink, options).then(() => writer.close(), (error) => writer.abort(error));
    return readable;
  }

  /**
   * Restores a cache into memory.
   *
   * @throws {KvzFormatError} when the file is damaged, truncated or of an unknown version
   * @throws {KvzMismatchError} when it was made with another profile or for another model
   * @throws {KvzLimitError} when the cache would exceed `maxBytes`
   */
  async decompress(
    input: KvzInput | ReadableStream<Uint8Array>,
    options: DecompressOptions = {},
  ): Promise<{ cache: KvCache; report: DecompressReport }> {
    let builder: { build(): KvCache } | null = null;
    const source = input instanceof ReadableStream ? await collect(input, options) : input;
    const makeSink = async (shape: RestoredShape): Promise<CacheSink> => {
      // Imported when used: few recipes evict.
      const Builder = shape.ragged ? (await import("../cache/ragged_builder.ts")).RaggedCacheBuilder : KvCacheBuilder;
      const made = new Builder(shape);
      builder = made;
      return made;
    };
    const report = await this.decompressTo(source, makeSink, options);
    return { cache: (builder as { build(): KvCache } | null)!.build(), report };
  }

  /** Like {@linkcode decompress}, into any sink, which is made when the shape is known; memory is bounded by a few chunks. */
  async decompressTo(
    input: KvzInput,
    makeSink: (shape: RestoredShape) => CacheSink | Promise<CacheSink>,
    { onProgress, ...options }: DecompressOptions = {},
  ): Promise<DecompressReport> {
    const lock = await this.#acquire();
    try {
      const timer = new Timer();
      const file = await openFile(input);
      const decoder = await FileDecoder.open(this.#lanes, this.profile, file.header, options);
      await loadPlan(file, decoder);
      timer.setupDone();
      const shape = await restoredShape(file, decoder, options);
      const sink = await makeSink(shape);
      const total = shape.positions.length;
      for await (const block of fileBlocks(file, decoder, { shared: true, sink })) {
        const { kind, layerBegin, layerEnd, begin, tokens, data, kept } = block;
        await sink.write(kind, layerBegin - decoder.layerBegin, begin, tokens, data, kept ?? undefined);
        if (kind === "value" && layerEnd === decoder.layerEnd) onProgress?.({ done: begin + tokens, total });
      }
      return this.#report(total, timer);
    } finally {
      lock();
    }
  }

  /**
   * Like {@linkcode decompress}, into the memory of the codec's GPU: only the file's bytes go there.
   *
   * @param makeCache makes the cache, of the shape given, from memory of the caller; default: memory of the backend, which
   * the caller frees with `free`.
   * @throws {KvzBackendError} when the codec's backend is not a GPU.
   */
  async decompressOnDevice(
    input: KvzInput,
    makeCache?: (shape: RestoredShape) => DeviceCache | Promise<DeviceCache>,
    options: DecompressOptions = {},
  ): Promise<{ cache: DeviceCache; report: DecompressReport; free: () => void }> {
    const lock = await this.#acquire();
    let free = () => {};
    try {
      // Imported when used: programs without a GPU do not carry it.
      const { allocDeviceCache, finished } = await import("./device_cache.ts");
      const { restoreOnDevice } = await import("./device_restore.ts");
      const timer = new Timer();
      const file = await openFile(input);
      const decoder = await FileDecoder.open(this.#lanes, this.profile, file.header, options);
      await loadPlan(file, decoder);
      timer.setupDone();
      const shape = await restoredShape(file, decoder, options);
      if (shape.ragged) {
        throw new KvzUnsupportedError("Cannot restore into device memory: the file's heads hold different tokens");
      }
      const own = makeCache === undefined ? allocDeviceCache(this.#lanes.device, shape) : null;
      if (own !== null) free = own.free;
      const cache = own?.cache ?? await makeCache!(shape);
      await restoreOnDevice(this.#lanes, file, decoder, shape, cache, options);
      // Errors of what is still under way belong to this call.
      await finished(this.#lanes.device);
      return { cache, report: this.#report(shape.positions.length, timer), free };
    } catch (error) {
      free();
      throw error;
    } finally {
      lock();
    }
  }

  /**
   * Restores block by block, in token order, from a file or from a pipe that is still arriving. Memory is bounded by a
   * few chunks. A pipe's last error (truncation, damage) comes after the blocks before it.
   */
  async *blocks(
    input: KvzInput | ReadableStream<Uint8Array>,
    options: DecompressOptions = {},
  ): AsyncGenerator<CacheBlock, void, void> {
    const lock = await this.#acquire();
    try {
      if (!(input instanceof ReadableStream)) {
        const file = await openFile(input);
        const decoder = await FileDecoder.open(this.#lanes, this.profile, file.header, options);
        await loadPlan(file, decoder);
        yield* fileBlocks(file, decoder);
        return;
      }
      const parts = streamGroups(input, options.maxBytes ?? DEFAULT_MAX_BYTES);
      const first = await parts.next();
      if (first.done || !("header" in first.value)) throw new KvzFormatError("Cannot read file: it has no header");
      const decoder = await FileDecoder.open(this.#lanes, this.profile, first.value.header, options);
      const plan = await parts.next();
      if (plan.done || "header" in plan.value) throw new KvzFormatError("Cannot read file: it has no plan");
      await decoder.loadPlan(plan.value);
      yield* decoder.blocks(parts as AsyncIterable<RecordGroup>);
    } finally {
      lock();
    }
  }

  /** Restores layer after layer, each over all tokens: a model can start on the first while the last is decoded. */
  async *layers(input: KvzInput, options: DecompressOptions = {}): AsyncGenerator<LayerBlock, void, void> {
    const lock = await this.#acquire();
    try {
      const file = await openFile(input);
      const decoder = await FileDecoder.open(this.#lanes, this.profile, file.header, options);
      const shape = await restoredShape(file, decoder, options);
      await loadPlan(file, decoder);
      const { decodeLayers } = await import("./layers.ts");
      yield* decodeLayers(this.#lanes, file, decoder, shape, options.signal);
    } finally {
      lock();
    }
  }

  /**
   * Adds the tokens of `more` to a file. Full chunks and sinks stay as they are, byte for byte; tokens that leave the
   * raw window go into the tail chunk; no token is quantized twice. `more` holds only the new tokens.
   *
   * @throws {KvzMismatchError} when file, profile and new tokens do not belong together
   */
  async append(
    input: KvzInput,
    more: CacheSource,
    options: CallOptions = {},
  ): Promise<{ bytes: Uint8Array; report: AppendResult }> {
    const lock = await this.#acquire();
    try {
      const source = await openFile(input);
      const sink = new MemorySink();
      // Imported when used: most programs only compress and restore.
      const { appendCache } = await import("./append.ts");
      const result = await appendCache(this.#lanes, this.profile, source, more, sink, options);
      const tail = sink.bytes();
      const bytes = new Uint8Array(result.keptBytes + tail.length);
      bytes.set(await readPrefix(input, result.keptBytes));
      bytes.set(tail, result.keptBytes);
      return { bytes, report: result };
    } finally {
      lock();
    }
  }

  /** Stops the lanes; calls under way fail. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The same as disposing. */
  close(): Promise<void> {
    if (!this.#closed) this.#lanes.close();
    this.#closed = true;
    return Promise.resolve();
  }

  /** Waits for the calls before; returns what ends this one. */
  async #acquire(): Promise<() => void> {
    const before = this.#busy;
    let release = () => {};
    this.#busy = new Promise<void>((resolve) => release = resolve);
    await before;
    if (this.#closed) {
      release();
      throw new KvzBackendError("Cannot use the codec: it is closed");
    }
    return release;
  }

  /** Replaces a wanted ratio of the whole file by the recipe's own option that gives it. */
  async #settleRatio(cache: CacheSource, options: CompressOptions): Promise<CompressOptions> {
    const { recipe } = await chooseRecipe({ recipe: options.recipe }, this.profile);
    const { fileRatio, ...rest } = options;
    const wanted = fileRatio ?? (recipe.ratioOfFile ? options.ratio : undefined);
    if (wanted === undefined) return options;
    const { knob } = recipe;
    if (knob === null) {
      throw new TypeError(`Cannot use a file ratio: recipe ${recipe.name} has nothing that changes it`);
    }
    if (recipe.ratioOfFile && fileRatio === undefined) delete (rest as { ratio?: number }).ratio;
    for (const other of new Set(["ratio", "keyRatio", "valueRatio", knob.name])) {
      if ((rest as Record<string, unknown>)[other] !== undefined) {
        throw new TypeError(
          `Cannot use options "${fileRatio === undefined ? "ratio" : "fileRatio"}" and "${other}" together`,
        );
      }
    }
    const bytes = fp16Bytes(cache.model, cache.tokens);
    const discard: ByteSink = { write: () => {} };
    // Imported when used, as are layers and append: most programs do without.
    const { findRatio } = await import("./file_ratio.ts");
    const found = await findRatio(wanted, knob, this.profile, async (value) => {
      const chosen = { ...rest, [knob.name]: value };
      const prepared = await prepareEncode(this.#lanes, this.profile, cache, chosen, this.#setups);
      const writer = await encodeCache(this.#lanes, this.profile, cache, discard, chosen, prepared);
      return bytes / writer.offset;
    });
    return { ...rest, [knob.name]: found };
  }

  #report(tokens: number, { seconds, secondsSetup }: Timer): WorkReport {
    return { tokens, seconds, secondsSetup, tokensPerSecond: tokens / seconds, ...this.info };
  }

  #compressReport(
    cache: CacheSource,
    writer: FrameWriter,
    { recipe, recipeOptions }: PreparedEncode,
    timer: Timer,
  ): CompressReport {
    const bytesIn = fp16Bytes(cache.model, cache.tokens);
    return {
      ...this.#report(cache.tokens, timer),
      recipe: recipe.name,
      bytesIn,
      bytesOut: writer.offset,
      targetRatio: (recipeOptions as { ratio?: number }).ratio ?? null,
      paperRatio: paperRatio(cache.model, cache.dtype, writer.records, cache.tokens),
      fileRatio: bytesIn / writer.offset,
      streams: streamBytes(writer.records),
    };
  }
}
