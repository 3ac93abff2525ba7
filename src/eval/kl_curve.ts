/**
 * The curve of KL by step that a profile for recipe kvz carries: texts are compressed at several steps, and the model
 * says what each step cost. Qualities and the option `maxKl` find their step on it.
 *
 * @module
 */
import type { DType } from "../cache/types.ts";
import type { Codec } from "../codec/codec.ts";
import { inspect } from "../codec/inspect.ts";
import type { LaneOptions } from "../codec/lanes.ts";
import { openCodec } from "../codec/open.ts";
import type { CurvePoint, KvzProfile } from "../profile/kvz/types.ts";
import { KVZ_TAGS } from "../recipes/kvz.ts";
import { stepOf } from "../stages/quantize/trellis/step.ts";
import { evaluateText, evaluationTokens, type StepOptions } from "./evaluate.ts";
import type { LanguageModel } from "./language_model.ts";
import type { Method } from "./method.ts";

/** A text to measure on. */
export interface CurveText {
  /** Its name; names of one measurement differ. */
  readonly name: string;
  /** At least context + continuation + 1 tokens. */
  readonly ids: Int32Array;
}

/** What one text lost at one step. */
export interface StepMeasurement {
  /** Name of the text. */
  readonly text: string;
  /** The step is 2^(−s/60). */
  readonly s: number;
  /** Mean KL of the next-token distributions, nats a token. */
  readonly kl: number;
  /** Bits of the coded chunks a coded token; sinks, profile and header are not among them. */
  readonly bits: number;
}

/** Options of {@linkcode measureSteps}. */
export interface CurveOptions extends StepOptions {
  /** Tokens of a cache. Default 1024. */
  readonly context?: number;
  /** Tokens predicted after it. Default 256. */
  readonly continuation?: number;
  /** Steps, each 2^(−s/60). Default: those that the profile was trained at and its finest. */
  readonly steps?: readonly number[];
  /** Element type in which caches are compressed. Default "f16". */
  readonly dtype?: DType;
  /** Threads and backend that compress. Default: this thread. */
  readonly lanes?: LaneOptions;
  /** What an earlier run with the same options measured; it is not measured again. */
  readonly known?: readonly StepMeasurement[];
  /** Called after each measurement, so that it can be kept. */
  readonly onMeasured?: (measurement: StepMeasurement) => void | Promise<void>;
}

/**
 * The steps that a profile's curve is measured at by default: those of its training and its finest. Steps below the finest
 * lose more than need be, for want of components; the curve says how much.
 */
export function curveSteps({ stepSets, finestS }: Pick<KvzProfile, "stepSets" | "finestS">): number[] {
  const steps = new Set([...stepSets.map(({ s }) => s), finestS]);
  return [...steps].sort((a, b) => a - b);
}

/** Tokens that {@linkcode measureSteps} runs through the model; the unit of progress. */
export function curveTokens(
  profile: KvzProfile,
  texts: readonly Pick<CurveText, "name">[],
  { context = 1024, continuation = 256, steps = curveSteps(profile), known = [] }: CurveOptions = {},
): number {
  return texts.reduce((sum, { name }) => {
    const open = missing(name, steps, known).length;
    return open === 0 ? sum : sum + evaluationTokens(context, continuation, open);
  }, 0);
}

/**
 * Compresses caches of texts at several steps and measures KL and bits of each. The texts should not be among those that
 * the profile was calibrated on.
 *
 * @returns measurements of all texts at all steps, by text and then by step
 * @throws {RangeError} no text or step, equal names, too short a text, or more tokens than the model has positions
 * @throws {KvzMismatchError} the profile is of another model
 */
export async function measureSteps(
  model: LanguageModel,
  profile: KvzProfile,
  texts: readonly CurveText[],
  options: CurveOptions = {},
): Promise<StepMeasurement[]> {
  const { context = 1024, continuation = 256, steps = curveSteps(profile), dtype = "f16", known = [] } = options;
  const { onMeasured, onTokens, signal } = options;
  if (texts.length === 0 || steps.length === 0 || new Set(texts.map(({ name }) => name)).size < texts.length) {
    throw new RangeError(
      `Cannot measure a curve: found ${texts.length} texts and ${steps.length} steps, expected at least one of each and ` +
        `texts with different names`,
    );
  }
  if (!(context >= 2 && continuation >= 1)) {
    throw new RangeError(
      `Cannot measure a curve: context ${context} and continuation ${continuation}, expected at least 2 and 1`,
    );
  }
  const out: StepMeasurement[] = [];
  const codec = await openCodec(profile, options.lanes);
  try {
    for (const { name, ids } of texts) {
      const found = known.filter(({ text, s }) => text === name && steps.includes(s));
      const open = missing(name, steps, known);
      const bits = new Map<string, number>();
      const byName = new Map(open.map((s) => [`s ${s}`, s]));
      if (open.length > 0) {
        await evaluateText(model, name, ids, {
          context,
          continuation,
          dtype,
          methods: open.map((s) => stepMethod(codec, s, (value) => void bits.set(`s ${s}`, value))),
          onPoint: async ({ setting, agreement }) => {
            const measured = { text: name, s: byName.get(setting)!, kl: agreement.kl, bits: bits.get(setting)! };
            found.push(measured);
            await onMeasured?.(measured);
          },
          ...(onTokens ? { onTokens } : {}),
          ...(signal ? { signal } : {}),
        });
      }
      out.push(...found.sort((a, b) => a.s - b.s));
    }
    return out;
  } finally {
    await codec.close();
  }
}

/**
 * The curve of measurements: means over the texts, from coarse to fine. Where a finer step did not lose less, which is
 * noise of the measurement, neighbours become one point, so that KL falls strictly and a step can be looked up by it.
 *
 * @throws {RangeError} a step was not measured on all texts, or its KL is not above 0
 */
export function curveOf(measurements: readonly StepMeasurement[]): CurvePoint[] {
  const texts = new Set(measurements.map(({ text }) => text)).size;
  const pools: { s: number; kl: number; bits: number; steps: number }[] = [];
  for (const s of [...new Set(measurements.map((one) => one.s))].sort((a, b) => a - b)) {
    const at = measurements.filter((one) => one.s === s);
    const kl = at.reduce((sum, one) => sum + one.kl, 0) / at.length;
    if (at.length !== texts || !(kl > 0 && kl < Infinity)) {
      throw new RangeError(
        `Cannot make a curve: step s ${s} has ${at.length} measurements with a mean KL of ${kl}, expected ${texts} and ` +
          "more than 0",
      );
    }
    let pool = { s, kl, bits: at.reduce((sum, one) => sum + one.bits, 0) / at.length, steps: 1 };
    for (let last = pools.at(-1); last !== undefined && last.kl <= pool.kl; last = pools.at(-1)) {
      pools.pop();
      pool = join(last, pool);
    }
    pools.push(pool);
  }
  return pools.map(({ s, kl, bits }) => ({ s: Math.round(s), kl, bits }));
}

/** Means of two pools of neighbouring steps, KL on its logarithm. */
function join<T extends { s: number; kl: number; bits: number; steps: number }>(a: T, b: T) {
  const steps = a.steps + b.steps;
  const mean = (x: number, y: number) => (x * a.steps + y * b.steps) / steps;
  return {
    s: mean(a.s, b.s),
    kl: Math.exp(mean(Math.log(a.kl), Math.log(b.kl))),
    bits: mean(a.bits, b.bits),
    steps,
  };
}

function missing(name: string, steps: readonly number[], known: readonly StepMeasurement[]): number[] {
  return [...new Set(steps)].filter((s) => !known.some((one) => one.text === name && one.s === s));
}

/** Recipe kvz at a step, which also tells the bits of its chunks. */
function stepMethod(codec: Codec, s: number, onBits: (bits: number) => void): Method {
  const options = { step: stepOf(s) };
  return {
    name: "kvz",
    setting: `s ${s}`,
    options,
    usesProfile: false,
    async run(cache, signal) {
      const { bytes, report } = await codec.compress(cache, {
        ...options,
        recipe: "kvz",
        ...(signal ? { signal } : {}),
      });
      const restored = await codec.decompress(bytes, signal ? { signal } : {});
      const { regions, streams } = await inspect(bytes);
      onBits(8 * KVZ_TAGS.chunk.reduce((sum, tag) => sum + (streams[tag] ?? 0), 0) / regions.coded);
      return {
        cache: restored.cache,
        ratios: { target: report.targetRatio, paper: report.paperRatio, file: report.fileRatio },
        bytes: bytes.length,
        regions,
        seconds: { compress: report.seconds, restore: restored.report.seconds },
      };
    },
  };
}
