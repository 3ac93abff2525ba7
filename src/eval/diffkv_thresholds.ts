/**
 * Thresholds of DiffKV for a model, searched as its authors do (param_tuning/try_calibrate_group_1.sh and 2 of
 * zyqCSL/DiffKV): first the one below which tokens are kept in low precision, with nothing pruned; then, under it, the one
 * below which they are pruned. Where no low precision is good enough, the class is left out: both are equal.
 *
 * @module
 */
import type { DType } from "../cache/types.ts";
import type { LaneOptions } from "../codec/lanes.ts";
import { openCodec } from "../codec/open.ts";
import type { PrecisionName } from "../stages/diffkv/presets.ts";
import { evaluateText, type StepOptions } from "./evaluate.ts";
import type { CurveText } from "./kl_curve.ts";
import type { LanguageModel } from "./language_model.ts";
import { recipeMethod } from "./method.ts";

/** Two thresholds, in units of mean attention × tokens. */
export interface DiffKvThresholds {
  /** Low precision below it. */
  readonly alphaHigh: number;
  /** Pruned below it. */
  readonly alphaLow: number;
}

/** What one text lost with one pair of thresholds. */
export interface ThresholdMeasurement extends DiffKvThresholds {
  /** Name of the text. */
  readonly text: string;
  /** Mean KL of the next-token distributions, nats a token. */
  readonly kl: number;
  /** 16-bit bytes of all tokens, continuation included ÷ bytes of the pages that held them at its end. */
  readonly ratio: number;
}

/** Means of a pair over the texts; `ratio` is the geometric one. */
export type ThresholdMeans = Omit<ThresholdMeasurement, "text">;

/** What a search found. */
export interface ThresholdSearch {
  /** The pair that holds least among those that lose no more than was allowed. */
  readonly found: ThresholdMeans;
  /** All pairs in the order in which they were measured; the first keeps everything in high precision. */
  readonly tried: readonly ThresholdMeans[];
  /** By text. */
  readonly measurements: readonly ThresholdMeasurement[];
}

/** Options of {@linkcode searchThresholds}. */
export interface ThresholdOptions extends Pick<StepOptions, "signal"> {
  /** Mean KL that the pair may cost, nats a token. Default 0.05. */
  readonly maxKl?: number;
  /** Values of alphaHigh that are tried. Default: the paper's 1 to 5. */
  readonly alphaHighs?: readonly number[];
  /** Values of alphaLow that are tried. Default: the paper's range, 0.02 to 0.1 in steps of 0.02. */
  readonly alphaLows?: readonly number[];
  /** Other options of the recipe: newest tokens in high precision, the two precisions. */
  readonly recipe?: { readonly buffer?: number; readonly high?: PrecisionName; readonly low?: PrecisionName };
  /** Tokens of a cache. Default 1024. */
  readonly context?: number;
  /** Tokens predicted after it. Default 256. */
  readonly continuation?: number;
  /** Tokens of the continuation after which the rule for decoding acts each time. Default 16. */
  readonly decode?: number;
  /** Element type in which caches are compressed. Default "f16". */
  readonly dtype?: DType;
  /** Threads and backend that compress. Default: this thread. */
  readonly lanes?: LaneOptions;
  /** What an earlier run with the same options measured; it is not measured again. */
  readonly known?: readonly ThresholdMeasurement[];
  /** Called after each measurement, so that it can be kept. */
  readonly onMeasured?: (measurement: ThresholdMeasurement) => void | Promise<void>;
  /** Called with the pairs and texts that are done, of at most so many. */
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void;
}

/** Values that are tried where none are named. */
export const THRESHOLD_GRID: { readonly alphaHighs: readonly number[]; readonly alphaLows: readonly number[] } = {
  alphaHighs: [1, 2, 3, 4, 5],
  alphaLows: [0.02, 0.04, 0.06, 0.08, 0.1],
};

/** All pairs that a search may come to measure, each once. */
export function thresholdPairs({ alphaHighs, alphaLows }: typeof THRESHOLD_GRID): DiffKvThresholds[] {
  const pairs = [
    { alphaHigh: 0, alphaLow: 0 },
    ...alphaHighs.flatMap((alphaHigh) => [0, ...alphaLows].map((alphaLow) => ({ alphaHigh, alphaLow }))),
    ...alphaLows.map((alpha) => ({ alphaHigh: alpha, alphaLow: alpha })),
  ];
  return pairs.filter((pair, i) => pairs.findIndex((one) => isPair(one, pair)) === i);
}

/**
 * Searches. The authors judge by answers to problems of MATH and pick by hand; here a pair is good enough when its mean KL is
 * at most `maxKl`. Both rules act, that of the prompt and that of decoding.
 *
 * @param texts at least context + continuation + 1 tokens each; what they are decides what is found
 * @throws {RangeError} No text, equal names, a grid that is none, too short a text; or high precision alone loses more
 * @throws {KvzUnsupportedError} The model gives no queries or takes no attention bias: the capture graph does.
 */
export async function searchThresholds(
  model: LanguageModel,
  texts: readonly CurveText[],
  options: ThresholdOptions = {},
): Promise<ThresholdSearch> {
  const { maxKl = 0.05, alphaHighs = THRESHOLD_GRID.alphaHighs, alphaLows = THRESHOLD_GRID.alphaLows } = options;
  if (texts.length === 0 || new Set(texts.map(({ name }) => name)).size < texts.length) {
    throw new RangeError(
      `Cannot search thresholds: found ${texts.length} texts, expected at least one and different names`,
    );
  }
  const [highs, lows] = [grid("alphaHigh", alphaHighs), grid("alphaLow", alphaLows)];
  const measurements: ThresholdMeasurement[] = [];
  const total = texts.length * (1 + highs.length + lows.length);
  const tried: ThresholdMeans[] = [];
  const measure = async (pairs: readonly DiffKvThresholds[]) => {
    const found = await measurePairs(model, texts, pairs, options, (measurement) => {
      measurements.push(measurement);
      options.onProgress?.({ done: measurements.length, total });
    });
    tried.push(...pairs.map((pair) => meansOf(pair, found)));
  };

  await measure([{ alphaHigh: 0, alphaLow: 0 }, ...highs.map((alphaHigh) => ({ alphaHigh, alphaLow: 0 }))]);
  const [whole] = tried;
  if (whole.kl > maxKl) {
    throw new RangeError(
      `Cannot search thresholds: everything in high precision costs a KL of ${whole.kl.toPrecision(3)}, expected at ` +
        `most ${maxKl}`,
    );
  }
  const { alphaHigh } = smallest(tried, maxKl);
  await measure(
    alphaHigh === 0
      ? lows.map((alpha) => ({ alphaHigh: alpha, alphaLow: alpha }))
      : lows.filter((alphaLow) => alphaLow <= alphaHigh).map((alphaLow) => ({ alphaHigh, alphaLow })),
  );
  return { found: smallest(tried, maxKl), tried, measurements };
}

function grid(name: string, values: readonly number[]): number[] {
  const sorted = [...new Set(values)].sort((a, b) => a - b);
  if (!sorted.every((value) => value > 0 && value < Infinity)) {
    throw new RangeError(`Cannot search thresholds: ${name} is one of ${values.join(", ")}, expected numbers above 0`);
  }
  return sorted;
}

/** The pair with the largest ratio; the first of equal ones. */
function smallest(tried: readonly ThresholdMeans[], maxKl: number): ThresholdMeans {
  return tried.filter(({ kl }) => kl <= maxKl).reduce((best, one) => one.ratio > best.ratio ? one : best);
}

function meansOf(pair: DiffKvThresholds, measurements: readonly ThresholdMeasurement[]): ThresholdMeans {
  const own = measurements.filter((one) => isPair(one, pair));
  const mean = (of: (one: ThresholdMeasurement) => number) => own.reduce((sum, one) => sum + of(one), 0) / own.length;
  return { ...pair, kl: mean(({ kl }) => kl), ratio: Math.exp(mean(({ ratio }) => Math.log(ratio))) };
}

function isPair(a: DiffKvThresholds, b: DiffKvThresholds): boolean {
  return a.alphaHigh === b.alphaHigh && a.alphaLow === b.alphaLow;
}

/** Measures pairs on all texts, but for what is known. */
async function measurePairs(
  model: LanguageModel,
  texts: readonly CurveText[],
  pairs: readonly DiffKvThresholds[],
  options: ThresholdOptions,
  onDone: (measurement: ThresholdMeasurement) => void,
): Promise<ThresholdMeasurement[]> {
  const { context = 1024, continuation = 256, decode = 16, dtype = "f16", known = [], onMeasured, signal } = options;
  const out: ThresholdMeasurement[] = [];
  const done = (measurement: ThresholdMeasurement) => {
    out.push(measurement);
    onDone(measurement);
  };
  const codec = await openCodec(null, options.lanes ?? { threads: 1 });
  try {
    for (const { name, ids } of texts) {
      const knownPair = (pair: DiffKvThresholds) => known.find((one) => one.text === name && isPair(one, pair));
      for (const pair of pairs) {
        const found = knownPair(pair);
        if (found !== undefined) done(found);
      }
      const open = pairs.filter((pair) => knownPair(pair) === undefined);
      if (open.length === 0) continue;
      await evaluateText(model, name, ids, {
        ...{ context, continuation, dtype },
        methods: open.map((pair) => recipeMethod(codec, "diffkv", { ...options.recipe, ...pair, decode })),
        onPoint: async ({ options: { alphaHigh, alphaLow }, agreement, decoded }) => {
          const pair = open.find((one) => one.alphaHigh === alphaHigh && one.alphaLow === alphaLow)!;
          const measurement = { text: name, ...pair, kl: agreement.kl, ratio: decoded!.ratio };
          await onMeasured?.(measurement);
          done(measurement);
        },
        ...(signal ? { signal } : {}),
      });
    }
    return out;
  } finally {
    await codec.close();
  }
}
