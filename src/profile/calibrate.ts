/**
 * Calibration: from caches of a model to a profile. Streams over the caches, holding one run of tokens at a time beside
 * the statistics, and can be spread over jobs whose partial statistics are merged.
 *
 * @module
 */
import type { BackendOptions } from "../backend/select.ts";
import type { CacheSource } from "../cache/types.ts";
import type { WorkerHandle } from "../platform/worker.ts";
import { type CalibrationInput, Gatherer } from "./gatherer.ts";
import { fitFingerprint } from "./fingerprint.ts";
import type { Statistics } from "./statistics.ts";
import { ownLayersOfAll } from "./own_layers.ts";
import { trimProfile } from "./trim.ts";
import type { KvtcProfile } from "./types.ts";

/** A cache with the name that messages use. */
export type { CalibrationInput, NamedCache } from "./gatherer.ts";

/** How far a calibration is. */
export interface CalibrationProgress {
  /** `read`: caches are being read; `fit`: bases are being fitted and quantization errors measured. */
  readonly phase: "read" | "fit";
  /** From 0 to 1 within the phase; absent while reading an unknown number of caches. */
  readonly fraction?: number;
  /** Tokens that have entered the statistics. */
  readonly tokens: number;
}

/** Options of {@linkcode calibratePartial}. */
export interface PartialOptions {
  /** Seed of the sample and of the randomized decomposition. Default 0. */
  readonly seed?: number;
  /** Leading tokens of each sequence left out. Default 4. */
  readonly sinks?: number;
  /** 1 runs in the calling thread, 2 and more (default) keys and values in a worker each. */
  readonly threads?: number;
  /** Shingles (shingleHashes) of texts kept for evaluation: a cache that shares 32 tokens with them is refused. */
  readonly heldOut?: Iterable<bigint>;
  /** Rows kept for the error table. Default 4096. */
  readonly sampleRows?: number;
  /** What gathers and projects rows. Default: the WASM backend. */
  readonly backend?: BackendOptions;
  /** Makes a worker that runs src/profile/calibrate_worker, for bundlers that rename files. */
  readonly createWorker?: () => WorkerHandle;
  /** Called as tokens are read and fits advance. */
  readonly onProgress?: (progress: CalibrationProgress) => void;
  /** Stops between runs of tokens; a fit in workers stops at once. */
  readonly signal?: AbortSignal;
}

/** Options of a fit. */
export interface FitProfileOptions {
  /** Components kept at most; fewer where there are fewer features or tokens. Default 2048. */
  readonly rank?: number;
  /**
   * `randomized` (default): Halko's subspace iteration with 8 iterations; `exact`: all eigenpairs, in seconds up to
   * 2000 features and in minutes at 5760.
   */
  readonly svd?: "randomized" | "exact";
  /** Trims the profile for these ratios. Default: the whole fit is kept. */
  readonly ratios?: readonly number[];
}

/** An option of calibration on caches. */
export interface LayerMapOption {
  /** Shared layers with their sources, 27:3+28:5: they are left out, and the profile is one for kvsharer with this map. */
  readonly layerMap?: string;
}

/** Options of {@linkcode calibrate}. */
export type CalibrateOptions = PartialOptions & FitProfileOptions & LayerMapOption;

/** Options of {@linkcode mergeCalibration}: seed, sinks and sample are those of the partials. */
export type MergeOptions =
  & FitProfileOptions
  & Pick<PartialOptions, "threads" | "backend" | "createWorker" | "onProgress" | "signal">;

/** Caches to calibrate on, one after another. An array lets progress be given as a fraction. */
export type CalibrationInputs = Iterable<CalibrationInput> | AsyncIterable<CalibrationInput>;

/**
 * Calibrates a profile on caches of one model.
 *
 * @throws {KvzMismatchError} when caches are of different models, a cache is given twice, or one overlaps with a
 * held-out text; the cache and token are named.
 * @throws {KvzUnsupportedError} when a cache is ragged or holds NaN or infinity; layer, head and token are named.
 * @throws {KvzLimitError} when the statistics do not fit a WebAssembly memory (about 16,000 features).
 * @throws {RangeError} when an option is out of range or fewer than 2 tokens are left.
 */
export async function calibrate(caches: CalibrationInputs, options: CalibrateOptions = {}): Promise<KvtcProfile> {
  const { threads, rank, svd, ratios } = checkOptions(options);
  const { layerMap } = options;
  const gatherer = new Gatherer({ ...options, threads });
  try {
    await readAll(gatherer, layerMap === undefined ? caches : ownLayersOfAll(caches, layerMap), options);
    return await fit(gatherer, { rank, svd, ratios }, options);
  } finally {
    gatherer.close();
  }
}

/**
 * Gathers the statistics of some caches, to be merged with others and fitted later.
 *
 * @throws what {@linkcode calibrate} throws
 */
export async function calibratePartial(
  caches: CalibrationInputs,
  options: PartialOptions = {},
): Promise<Statistics> {
  const { threads } = checkOptions(options);
  const gatherer = new Gatherer({ ...options, threads });
  try {
    await readAll(gatherer, caches, options);
    return await gatherer.statistics();
  } finally {
    gatherer.close();
  }
}

/**
 * Fits a profile on partial statistics. They are taken one at a time, so an asynchronous iterable need not hold them
 * all.
 *
 * @throws {KvzMismatchError} when they do not belong together (mergePartials)
 * @throws what {@linkcode calibrate} throws
 */
export async function mergeCalibration(
  partials: Iterable<Statistics> | AsyncIterable<Statistics>,
  options: MergeOptions = {},
): Promise<KvtcProfile> {
  const { threads, rank, svd, ratios } = checkOptions(options);
  let gatherer: Gatherer | null = null;
  try {
    for await (const partial of partials) {
      options.signal?.throwIfAborted();
      gatherer ??= new Gatherer({
        ...options,
        threads,
        seed: partial.seed,
        sinks: partial.sinks,
        sampleRows: partial.sampleCapacity,
      });
      await gatherer.addStatistics(partial);
      options.onProgress?.({ phase: "read", tokens: gatherer.tokens });
    }
    if (gatherer === null) throw new TypeError("Cannot merge statistics: there are none");
    return await fit(gatherer, { rank, svd, ratios }, options);
  } finally {
    gatherer?.close();
  }
}

/** Reads all caches into a gatherer. */
export async function readAll(
  gatherer: Gatherer,
  caches: CalibrationInputs,
  options: Pick<PartialOptions, "onProgress">,
): Promise<void> {
  const total = Array.isArray(caches)
    ? (caches as readonly CalibrationInput[]).reduce((sum, input) => sum + sourceOf(input).tokens, 0)
    : undefined;
  let done = 0;
  for await (const input of caches) {
    await gatherer.addCache(input, (tokens) => {
      options.onProgress?.({
        phase: "read",
        ...(total === undefined ? {} : { fraction: (done + tokens) / total }),
        tokens: gatherer.tokens,
      });
    });
    done += sourceOf(input).tokens;
  }
}

function sourceOf(input: CalibrationInput): CacheSource {
  return "cache" in input ? input.cache : input;
}

async function fit(
  gatherer: Gatherer,
  { rank, svd, ratios }: { rank: number; svd: "randomized" | "exact"; ratios: readonly number[] },
  { onProgress, signal, layerMap }: Pick<PartialOptions, "onProgress" | "signal"> & LayerMapOption,
): Promise<KvtcProfile> {
  const { tokens, sinks } = gatherer;
  if (tokens < 2) {
    throw new RangeError(`Cannot calibrate: ${tokens} tokens are left after ${sinks} sinks a sequence, expected 2`);
  }
  const fractions = { key: 0, value: 0 };
  const kinds = await gatherer.fit({ rank, svd }, (kind, fraction) => {
    signal?.throwIfAborted();
    fractions[kind] = fraction;
    onProgress?.({ phase: "fit", fraction: (fractions.key + fractions.value) / 2, tokens });
  });
  const model = gatherer.model!;
  const facts = { model, ...(layerMap === undefined ? {} : { layerMap }) };
  const profile: KvtcProfile = {
    method: "kvtc",
    ...facts,
    fingerprint: await fitFingerprint(model, kinds, layerMap),
    calibration: { tokens, sinks, sequences: gatherer.sequences, svd, seed: gatherer.seed, ratios: [] },
    shingles: gatherer.shingles(),
    kinds,
  };
  return ratios.length === 0 ? profile : trimProfile(profile, ratios);
}

interface CheckedOptions {
  readonly threads: number;
  readonly rank: number;
  readonly svd: "randomized" | "exact";
  readonly ratios: readonly number[];
}

function checkOptions(options: CalibrateOptions): CheckedOptions {
  const { threads = 2, rank = 2048, svd = "randomized", ratios = [], seed = 0, sinks = 4, sampleRows = 4096 } = options;
  checkWhole([
    ["threads", threads, 1, 256],
    ["rank", rank, 1, 2 ** 20],
    ["seed", seed, 0, 2 ** 32 - 1],
    ["sinks", sinks, 0, 2 ** 20],
    ["sampleRows", sampleRows, 1, 2 ** 20],
  ]);
  if (svd !== "randomized" && svd !== "exact") {
    throw new TypeError(`Cannot calibrate: svd is ${JSON.stringify(svd)}, expected "randomized" or "exact"`);
  }
  for (const ratio of ratios) {
    if (!(ratio > 0 && ratio < Infinity)) {
      throw new RangeError(`Cannot calibrate: ratio is ${ratio}, expected a positive number`);
    }
  }
  return { threads, rank, svd, ratios };
}

/** Refuses options that are no whole numbers in their range: name, value, least and greatest. */
export function checkWhole(
  options: readonly (readonly [name: string, value: number, min: number, max: number])[],
): void {
  for (const [name, value, min, max] of options) {
    if (!(Number.isInteger(value) && value >= min && value <= max)) {
      throw new RangeError(`Cannot calibrate: ${name} is ${value}, expected a whole number from ${min} to ${max}`);
    }
  }
}
