/**
 * Reads caches into the two engines of a calibration: checks them, undoes RoPE, leaves out sinks, picks the sample.
 *
 * @module
 */
import type { BackendOptions } from "../backend/select.ts";
import { resolveModel } from "../cache/fingerprint.ts";
import { rotationTable } from "../cache/rope.ts";
import { BYTES_PER_ELEMENT, type CacheSource, type Kind, KINDS, type ModelSpec } from "../cache/types.ts";
import { KvzMismatchError, KvzUnsupportedError } from "../errors.ts";
import type { WorkerHandle } from "../platform/worker.ts";
import { InlineEngine, type KindEngine, openFitter, WorkerEngine } from "./kind_engine.ts";
import type { FitterSetup } from "./kind_fitter.ts";
import { rowPriority, SAMPLE_ROWS, SampleSlots } from "./sample.ts";
import { sequenceHash, shingleHashes, ShingleSet } from "./shingles.ts";
import { checkMergeable, sortHashes, type Statistics } from "./statistics.ts";
import type { KindProfile } from "./types.ts";

/** A cache with the name that messages use, for instance its path. */
export interface NamedCache {
  /** Its name in messages. */
  readonly name: string;
  /** The cache. */
  readonly cache: CacheSource;
}

/** A cache to calibrate on. */
export type CalibrationInput = CacheSource | NamedCache;

/** Options of {@linkcode Gatherer}. */
export interface GathererOptions {
  readonly seed?: number;
  readonly sinks?: number;
  readonly sampleRows?: number;
  readonly threads: number;
  readonly heldOut?: Iterable<bigint>;
  readonly backend?: BackendOptions;
  readonly createWorker?: () => WorkerHandle;
  /** What takes the rows. Default: a fitter of KVTC for each kind. */
  readonly openEngines?: (model: ModelSpec) => Promise<Record<Kind, KindEngine>>;
  readonly signal?: AbortSignal;
}

/** Tokens of a run: 512 rows keep the Gram kernel busy and its float32 sums short. */
const RUN_TOKENS = 512;

/** A calibration under way. */
export class Gatherer {
  readonly seed: number;
  readonly sinks: number;
  readonly #options: GathererOptions;
  readonly #heldOut: ShingleSet | null;
  readonly #slots: SampleSlots;
  readonly #sequences = new Map<bigint, string>();
  readonly #shingles = new Set<bigint>();
  /** Workers end at once; an engine in this thread stops at the next check of the signal. */
  readonly #onAbort = () => {
    if (this.#options.threads > 1) this.#close(this.#options.signal!.reason);
  };
  #model: ModelSpec | undefined;
  #modelName = "";
  #engines: Record<Kind, KindEngine> | undefined;
  #caches = 0;
  #tokens = 0;

  constructor(options: GathererOptions) {
    const { seed = 0, sinks = 4, sampleRows = SAMPLE_ROWS, heldOut, signal } = options;
    this.seed = seed;
    this.sinks = sinks;
    this.#options = options;
    this.#slots = new SampleSlots(sampleRows);
    this.#heldOut = heldOut === undefined ? null : new ShingleSet(heldOut);
    signal?.addEventListener("abort", this.#onAbort);
  }

  /** The model of the caches so far. */
  get model(): ModelSpec | undefined {
    return this.#model;
  }

  /** Rows in the statistics. */
  get tokens(): number {
    return this.#tokens;
  }

  /** Sequences in the statistics. */
  get sequences(): number {
    return this.#sequences.size;
  }

  /** Hashes of the 32-token blocks of all sequences with token ids, ascending. */
  shingles(): BigUint64Array {
    return sortHashes(this.#shingles);
  }

  /**
   * Adds a cache.
   *
   * @param onTokens hears how many of its tokens have been read
   */
  async addCache(input: CalibrationInput, onTokens: (tokens: number) => void): Promise<void> {
    this.#options.signal?.throwIfAborted();
    const { name, cache } = "cache" in input ? input : { name: `cache ${this.#caches + 1}`, cache: input };
    this.#caches++;
    if (cache.ragged) {
      throw new KvzUnsupportedError(
        `Cannot calibrate on ${name}: its heads hold different tokens, expected a dense cache`,
      );
    }
    this.#adoptModel(cache.model, name);
    this.#checkHeldOut(cache, name);
    const sequence = await identify(cache);
    this.#addSequence(sequence, name);
    const engines = await this.#open();
    for (const hash of shingleHashes(cache.inputIds ?? [])) this.#shingles.add(hash);

    // One run is read while the engines work on the run before.
    let working: Promise<unknown> = Promise.resolve();
    for (let begin = Math.min(this.sinks, cache.tokens); begin < cache.tokens; begin += RUN_TOKENS) {
      const end = Math.min(begin + RUN_TOKENS, cache.tokens);
      const slots = new Int32Array(end - begin);
      for (let t = begin; t < end; t++) slots[t - begin] = this.#slots.offer(rowPriority(this.seed, sequence, t));
      const blocks = await settled(working, Promise.all(KINDS.map((kind) => this.#read(cache, kind, begin, end))));
      this.#options.signal?.throwIfAborted();
      working = Promise.all(KINDS.map((kind, i) => {
        const { rope } = cache.model;
        const rotation = kind === "key" && rope !== null
          ? rotationTable(rope, cache.positions.slice(begin, end), "undo")
          : null;
        return engines[kind].add({
          bytes: blocks[i],
          dtype: cache.dtype,
          tokens: end - begin,
          rotation,
          rotaryDim: rotation === null ? 0 : rope!.dim,
          slots,
          positions: cache.positions.slice(begin, end),
          name,
          firstToken: begin,
        });
      }));
      this.#tokens += end - begin;
      // Heard when the next run has been read; a failure surfaces there or below.
      working.catch(() => {});
      onTokens(end);
    }
    await working;
  }

  /** Adds statistics gathered elsewhere. */
  async addStatistics(statistics: Statistics): Promise<void> {
    const name = `partial ${++this.#caches}`;
    if (this.#model !== undefined) {
      checkMergeable(
        {
          model: this.#model,
          sinks: this.sinks,
          seed: this.seed,
          sampleCapacity: this.#slots.capacity,
          sequences: BigUint64Array.from(this.#sequences.keys()),
        },
        statistics,
        this.#modelName,
        name,
      );
    }
    this.#adoptModel(statistics.model, name);
    for (const sequence of statistics.sequences) this.#addSequence(sequence, name);
    for (const hash of statistics.shingles) this.#shingles.add(hash);
    const engines = await this.#open();
    const slots = Int32Array.from(statistics.priorities, (priority) => this.#slots.offer(priority));
    for (const kind of KINDS) await engines[kind].merge(statistics.kinds[kind], slots);
    this.#tokens += statistics.kinds.key.moments.count;
  }

  /**
   * The statistics so far.
   *
   * @throws {TypeError} when there was no cache.
   */
  async statistics(): Promise<Statistics> {
    if (this.#model === undefined || this.#engines === undefined) {
      throw new TypeError("Cannot calibrate: there are no caches");
    }
    const order = this.#slots.order();
    const [key, value] = await this.#both((engine) => engine.statistics(order));
    return {
      model: this.#model,
      sinks: this.sinks,
      seed: this.seed,
      sampleCapacity: this.#slots.capacity,
      sequences: BigUint64Array.from(this.#sequences.keys()).sort(),
      priorities: this.#slots.priorities(),
      shingles: this.shingles(),
      kinds: { key, value },
    };
  }

  /** Fits both kinds. Nothing can be added afterwards. */
  async fit(
    options: { readonly rank: number; readonly svd: "randomized" | "exact" },
    onProgress: (kind: Kind, fraction: number) => void,
  ): Promise<Record<Kind, KindProfile>> {
    const order = this.#slots.order();
    const fitOptions = { ...options, seed: this.seed, order };
    const [key, value] = await this.#both((engine, kind) =>
      engine.fit(fitOptions, (fraction) => onProgress(kind, fraction))
    );
    return { key, value };
  }

  /** Ends the engines. */
  close(): void {
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    this.#close();
  }

  /** Asks both engines, one after the other when they share the thread. */
  async #both<T>(ask: (engine: KindEngine, kind: Kind) => Promise<T>): Promise<[T, T]> {
    this.#options.signal?.throwIfAborted();
    const { key, value } = this.#engines!;
    if (this.#options.threads > 1) return await Promise.all([ask(key, "key"), ask(value, "value")]);
    return [await ask(key, "key"), await ask(value, "value")];
  }

  #close(reason?: Error): void {
    for (const kind of KINDS) this.#engines?.[kind].close(reason);
  }

  async #open(): Promise<Record<Kind, KindEngine>> {
    if (this.#engines !== undefined) return this.#engines;
    const { threads, backend = {}, createWorker, openEngines } = this.#options;
    if (openEngines) return this.#engines = await openEngines(this.#model!);
    const { layers, kvHeads, keyDim, valueDim } = this.#model!;
    const open = async (kind: Kind): Promise<KindEngine> => {
      const setup: FitterSetup = { kind, layers, heads: kvHeads, dim: kind === "key" ? keyDim : valueDim };
      return threads > 1
        ? await WorkerEngine.open(setup, backend, createWorker)
        : new InlineEngine(await openFitter(setup, backend));
    };
    const key = await open("key");
    try {
      return this.#engines = { key, value: await open("value") };
    } catch (error) {
      key.close();
      throw error;
    }
  }

  #adoptModel(model: ModelSpec, name: string): void {
    if (this.#model === undefined) {
      this.#model = model;
      this.#modelName = name;
    } else this.#model = resolveModel(this.#model, model, { found: this.#modelName, wanted: name });
  }

  #addSequence(sequence: bigint, name: string): void {
    const other = this.#sequences.get(sequence);
    if (other !== undefined) {
      throw new KvzMismatchError(`Cannot calibrate on ${name}: it is the same sequence as ${other}`);
    }
    this.#sequences.set(sequence, name);
  }

  #checkHeldOut({ inputIds }: CacheSource, name: string): void {
    if (this.#heldOut === null || this.#heldOut.size === 0) return;
    if (inputIds === undefined) {
      throw new KvzMismatchError(
        `Cannot calibrate on ${name}: it has no token ids, which are needed to keep it apart from the held-out texts`,
      );
    }
    const token = this.#heldOut.find(inputIds);
    if (token >= 0) {
      throw new KvzMismatchError(
        `Cannot calibrate on ${name}: from token ${token} on it overlaps with a held-out text`,
      );
    }
  }

  async #read(cache: CacheSource, kind: Kind, begin: number, end: number): Promise<Uint8Array> {
    const bytes = await cache.read(kind, begin, end);
    const { layers, kvHeads, keyDim, valueDim } = cache.model;
    const elements = layers * kvHeads * (end - begin) * (kind === "key" ? keyDim : valueDim);
    if (bytes.length !== elements * BYTES_PER_ELEMENT[cache.dtype]) {
      throw new RangeError(
        `Cannot read cache: ${kind} tokens [${begin}, ${end}) came in ${bytes.length} bytes, expected ${
          elements * BYTES_PER_ELEMENT[cache.dtype]
        }`,
      );
    }
    // What goes to a worker is transferred; a source may have given a part of something larger.
    return bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes);
  }
}

/** Waits for both; when the first has failed, so does this, even while the second is under way. */
async function settled<T>(first: Promise<unknown>, second: Promise<T>): Promise<T> {
  const [, result] = await Promise.all([first, second]);
  return result;
}

/**
 * Hash of a sequence: of its ids and positions, or where it has no ids of its positions and of the keys of its first
 * and last tokens (which depend on all tokens before).
 */
async function identify(cache: CacheSource): Promise<bigint> {
  const { tokens, positions, inputIds } = cache;
  if (inputIds !== undefined) return sequenceHash([...positions, ...inputIds]);
  if (tokens === 0) return sequenceHash([]);
  const [first, last] = [await cache.read("key", 0, 1), await cache.read("key", tokens - 1, tokens)];
  return sequenceHash([...positions, ...first, ...last]);
}
