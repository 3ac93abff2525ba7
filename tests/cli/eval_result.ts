/**
 * Results of `kvz eval` for tests of its page: made up, with the shapes of real ones.
 *
 * @module
 */
import { componentBins } from "../../src/eval/component_meter.ts";
import type { EvalPoint, EvalResult, PerKind, RetrievalPoint, TensorErrors } from "../../src/eval/point.ts";
import { summarize } from "../../src/eval/summary.ts";

/** What {@linkcode syntheticResult} makes. */
export interface SyntheticOptions {
  readonly texts?: readonly string[];
  readonly contexts?: readonly number[];
  /** Names with a factor of their KL, settings and variants. */
  readonly methods?: readonly SyntheticMethod[];
  readonly controls?: boolean;
  readonly retrieval?: boolean;
}

/** A made-up method. */
export interface SyntheticMethod {
  readonly name: string;
  /** KL at 8×, nats. */
  readonly kl: number;
  readonly ratios: readonly number[];
  /** Newest tokens kept exactly. */
  readonly window: number;
  /** Part of the setting after the ratio. */
  readonly variant?: string;
  readonly usesProfile?: boolean;
}

const METHODS: readonly SyntheticMethod[] = [
  { name: "kvtc", kl: 0.008, ratios: [8, 16, 32, 64], window: 128, usesProfile: true },
  { name: "kvtc", kl: 0.011, ratios: [8, 16, 32, 64], window: 0, variant: "window 0", usesProfile: true },
  { name: "quantize", kl: 0.05, ratios: [4, 5.3, 8], window: 128 },
  { name: "evict", kl: 0.13, ratios: [2, 4, 8, 16], window: 128 },
];

/** A result; the same options give the same numbers. */
export function syntheticResult(options: SyntheticOptions = {}): EvalResult {
  const texts = options.texts ?? ["WikiText-2 test", "GSM8K train 1–40", "Essays: how to do great work", "Python code"];
  const contexts = options.contexts ?? [512, 1024, 2048];
  const methods = options.methods ?? METHODS;
  const random = generator(7);
  const points: EvalPoint[] = [];
  for (const text of texts) {
    const perplexity = 9 + 10 * random();
    const hard = Math.exp(1.2 * (random() - 0.5));
    for (const context of contexts) {
      const before = perplexity * (1 - 0.04 * Math.log2(context / 512));
      if (options.controls ?? true) {
        points.push(point({ text, context, before, method: CONTROL("untouched"), ratio: null, kl: 3e-9, random }));
        points.push(point({ text, context, before, method: CONTROL("zeroed"), ratio: null, kl: 4.6 * hard, random }));
      }
      for (const method of methods) {
        for (const ratio of method.ratios) {
          const kl = method.kl * hard * (ratio / 8) ** 1.35 * (context / 1024) ** 0.2;
          points.push(point({ text, context, before, method, ratio, kl, random }));
        }
      }
    }
  }
  return {
    version: "0.2.0",
    model: "SmolLM2-135M-Instruct",
    geometry: "30 layers, 3 KV heads of 64",
    profile: { fingerprint: "9b1f6c0a2d4e8f7700aa55", tokens: 32_704, sequences: 16, heldOut: true },
    dtype: "f16",
    backend: "wasm relaxed, 2 threads",
    texts: texts.map((name, i) => ({ name, tokens: 40_000 + 1000 * i })),
    points,
    summaries: summarize(points),
    retrieval: options.retrieval ?? true ? retrieval(methods) : [],
  };
}

const CONTROL = (name: string): SyntheticMethod => ({ name, kl: 0, ratios: [], window: 0 });

interface Facts {
  readonly text: string;
  readonly context: number;
  readonly before: number;
  readonly method: SyntheticMethod;
  readonly ratio: number | null;
  readonly kl: number;
  readonly random: () => number;
}

function point({ text, context, before, method, ratio, kl, random }: Facts): EvalPoint {
  const setting = ratio === null ? "" : `${ratio}×${method.variant ? `, ${method.variant}` : ""}`;
  const window = method.window;
  const paper = ratio === null ? null : ratio * (1.1 + 0.05 * random());
  const file = paper === null ? null : context / ((context - window) / paper + window / 1.2);
  // An untouched cache has no error, a zeroed one an error of 1.
  const strength = ratio !== null ? 0.05 * Math.sqrt(ratio / 8) * Math.sqrt(method.kl / 0.008) : kl > 1 ? 1 : 0;
  const noise = (spread: number) => Math.exp(spread * (random() - 0.5));
  const kind = (factor: number): TensorErrors => {
    const size = ratio === null ? strength : Math.min(0.95, factor * strength);
    const stretches = Math.min(context, 128);
    const first = componentBins(2048);
    return {
      coded: size,
      layers: Array.from(
        { length: 30 },
        (_, layer) => ratio === null ? size : size * (0.8 + 0.4 * Math.sin(layer / 4) ** 2) * noise(0.2),
      ),
      positions: Array.from({ length: stretches }, (_, i) => {
        if (ratio === null) return size;
        if ((i + 1) * context / stretches > context - window) return 0;
        return i === 0 ? size * 0.6 : size * noise(0.35);
      }),
      components: method.usesProfile
        ? { first, errors: first.map((from) => Math.min(1, 0.004 * (1 + from) ** 0.62 * size * 20) * noise(0.1)) }
        : null,
    };
  };
  const errors: PerKind<TensorErrors> = { key: kind(1), value: kind(2.3) };
  const drift = 0.6 * kl * (random() - 0.1);
  const tokens = 512;
  return {
    text,
    context,
    method: method.name,
    setting,
    options: ratio === null ? {} : { ratio, window },
    ratios: { target: ratio, paper, file },
    bytes: file === null ? null : Math.round(context * 23_040 / file),
    agreement: {
      tokens,
      perplexityBefore: before,
      perplexityAfter: before * Math.exp(drift),
      kl,
      klMax: kl * 60,
      topOne: Math.max(0.02, 1 - 0.55 * Math.sqrt(kl) * noise(0.2)),
      klByPosition: Array.from({ length: 64 }, (_, i) => kl * (0.7 + Math.exp(-i / 12)) * noise(0.9)),
    },
    errors,
    seconds: ratio === null
      ? { compress: null, restore: null }
      : { compress: context / (900 + 40 * ratio), restore: context / (1000 + 60 * ratio) },
  };
}

function retrieval(methods: readonly SyntheticMethod[]): RetrievalPoint[] {
  return ["key-value", "needle"].flatMap((task, i) =>
    methods.flatMap((method) =>
      method.ratios.map((ratio): RetrievalPoint => {
        const loss = Math.min(0.9, 6 * method.kl * (ratio / 8) ** 1.3 * (1 - 0.4 * i));
        return {
          task,
          context: 1024,
          method: method.name,
          setting: `${ratio}×${method.variant ? `, ${method.variant}` : ""}`,
          questions: 64,
          before: [0.953125, 0.890625][i],
          after: Math.round(64 * [0.953125, 0.890625][i] * (1 - loss)) / 64,
          logProbability: { before: -0.09, after: -0.09 - 3 * loss },
          fileRatio: 1024 / ((1024 - method.window) / ratio + method.window / 1.2),
        };
      })
    )
  );
}

/** Numbers in [0, 1), mulberry32. */
function generator(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
