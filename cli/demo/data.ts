/**
 * What the demo page shows, as plain data.
 *
 * @module
 */

/** A value for keys and one for values. */
export interface PerKind<T> {
  readonly key: T;
  readonly value: T;
}

/** One ratio. */
export interface DemoRun {
  /** Target ratio. */
  readonly ratio: number;
  readonly bytesOut: number;
  readonly paperRatio: number | null;
  readonly fileRatio: number;
  /** Relative errors of the coded tokens (between sinks and window). */
  readonly error: PerKind<number | null>;
  readonly compressTokensPerSecond: number;
  readonly decompressTokensPerSecond: number;
  /** Bytes in the file by what they hold, in the order of {@linkcode PARTS}. */
  readonly parts: readonly number[];
  /** Bytes a coded token after each of {@linkcode STAGES}. */
  readonly stages: readonly number[];
  readonly layers: PerKind<readonly (number | null)[]>;
  readonly tokens: PerKind<readonly (number | null)[]>;
  /** Bits a component with its share of shift and scale: where a level begins, and the level. */
  readonly bits: PerKind<readonly (readonly [first: number, bits: number])[]>;
}

/** Recipe kvz at one quality. */
export interface QualityRun {
  readonly quality: string;
  readonly bytesOut: number;
  readonly fileRatio: number;
  /** KL that the quality stands for, nats; null where the profile has no measured curve. */
  readonly predictedKl: number | null;
  readonly compressTokensPerSecond: number;
  readonly decompressTokensPerSecond: number;
}

/** Everything on the page. */
export interface DemoData {
  readonly version: string;
  readonly model: string;
  readonly geometry: string;
  readonly tokens: number;
  readonly dtype: string;
  readonly fp16Bytes: number;
  readonly sinks: number;
  readonly coded: number;
  readonly window: number;
  readonly profile: { readonly fingerprint: string; readonly tokens: number; readonly sequences: number };
  /** Components of the fit. */
  readonly components: PerKind<number>;
  /** For instance "wasm relaxed, 2 threads". */
  readonly backend: string;
  readonly runs: readonly DemoRun[];
  /** Recipe kvz on the same cache; none without its profile. */
  readonly qualities: readonly QualityRun[];
  /** Names of {@linkcode DemoRun.parts}. */
  readonly partNames: readonly string[];
  /** Names of {@linkcode DemoRun.stages}. */
  readonly stageNames: readonly string[];
}

/** What a .kvz file of recipe kvtc consists of, bottom to top, with a pattern of the record tags (docs/format.md). */
export const PARTS: readonly { readonly name: string; readonly tags: RegExp }[] = [
  { name: "raw window", tags: /^[KV]RAW$/ },
  { name: "key codes", tags: /^KQ/ },
  { name: "key scales", tags: /^KS(LO|HI)$/ },
  { name: "value codes", tags: /^VQ/ },
  { name: "value scales", tags: /^VS(LO|HI)$/ },
  { name: "sinks in FP8", tags: /^[KV]SNK$/ },
  { name: "plan, token ids, header, index", tags: /^(PLAN|IDS |POS )$/ },
];

/** Stages that make a coded token smaller. */
export const STAGES: readonly string[] = ["cache", "PCA", "quantized", "DEFLATE"];
