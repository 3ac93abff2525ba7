/**
 * What evaluation measures, as plain data: one point is one setting of one method on one text at one context length.
 *
 * @module
 */

/** A value for keys and one for values. */
export interface PerKind<T> {
  /** Of the keys. */
  readonly key: T;
  /** Of the values. */
  readonly value: T;
}

/** The three ratios (docs/recipes.md); null where a method has none (controls). */
export interface Ratios {
  /** The method's bit budget. */
  readonly target: number | null;
  /** 16-bit bytes of the tokens before the window ÷ bytes of their streams. */
  readonly paper: number | null;
  /** 16-bit bytes of the whole cache ÷ bytes of the file. */
  readonly file: number | null;
}

/** What a model says after a cache was compressed and restored, against what it says after the cache itself. */
export interface Agreement {
  /** Tokens predicted. */
  readonly tokens: number;
  /** exp of the mean negative log-likelihood after the original cache. */
  readonly perplexityBefore: number;
  /** The same after the restored cache. */
  readonly perplexityAfter: number;
  /** Mean KL(original ‖ restored) of the next-token distributions, nats a token. */
  readonly kl: number;
  /** Largest KL of one token, nats. */
  readonly klMax: number;
  /** Share of tokens whose most likely next token is the same. */
  readonly topOne: number;
  /** Mean KL over equal stretches of the continuation, first to last, at most 64 of them. */
  readonly klByPosition: readonly number[];
}

/** Errors of the restored tensors against the original ones, relative: ‖x̂ − x‖ ÷ ‖x‖. */
export interface TensorErrors {
  /** Over the tokens that are neither sinks nor in the raw window; null when there are none. */
  readonly coded: number | null;
  /** Of each layer, over all tokens. */
  readonly layers: readonly (number | null)[];
  /** Root mean square of the tokens' errors over equal stretches of the context, first to last, at most 128 of them. */
  readonly positions: readonly (number | null)[];
  /**
   * Of the principal components of the profile over the coded tokens, in bins: component bins[i] is the first of bin i.
   * null when the method uses no profile.
   */
  readonly components: { readonly first: readonly number[]; readonly errors: readonly (number | null)[] } | null;
}

/** One measurement. */
export interface EvalPoint {
  /** Name of the text. */
  readonly text: string;
  /** Tokens of the cache. */
  readonly context: number;
  /** Name of the method: a recipe, or one of the controls "untouched" and "zeroed". */
  readonly method: string;
  /** What tells this point from others of its method, for instance "16×" or "16×, window 0"; "" for the controls. */
  readonly setting: string;
  /** The method's options. */
  readonly options: Readonly<Record<string, number | string | boolean>>;
  /** How small. */
  readonly ratios: Ratios;
  /** Bytes of the file; null for controls. */
  readonly bytes: number | null;
  /**
   * What the method held after the continuation, where it acted on the cache every so many tokens of it; `ratio`: 16-bit
   * bytes of all tokens ÷ bytes.
   */
  readonly decoded?: {
    readonly every: number;
    readonly tokens: number;
    readonly bytes: number;
    readonly ratio: number;
  };
  /** How good. */
  readonly agreement: Agreement;
  /** Where the errors are. */
  readonly errors: PerKind<TensorErrors>;
  /** Wall time, seconds; null for controls. */
  readonly seconds: { readonly compress: number | null; readonly restore: number | null };
}

/** Means of the points that differ only in the text, with the worst text named. */
export interface EvalSummary {
  /** Tokens of the cache. */
  readonly context: number;
  /** Name of the method. */
  readonly method: string;
  /** As in {@linkcode EvalPoint}. */
  readonly setting: string;
  /** Number of texts. */
  readonly texts: number;
  /** Geometric means over the texts. */
  readonly ratios: Ratios;
  /** Geometric mean of the ratios after the continuation, where the method acted while it was read. */
  readonly decodedRatio?: number;
  /** Geometric means over the texts. */
  readonly perplexityBefore: number;
  /** Geometric means over the texts. */
  readonly perplexityAfter: number;
  /** Mean over the texts, nats a token. */
  readonly kl: number;
  /** Mean over the texts. */
  readonly topOne: number;
  /** Mean over the texts of the coded tokens' relative errors. */
  readonly errors: PerKind<number | null>;
  /** The text with the largest KL, and that KL. */
  readonly worst: { readonly text: string; readonly kl: number };
  /** Means over the texts, seconds; null for controls. */
  readonly seconds: { readonly compress: number | null; readonly restore: number | null };
}

/** Everything that `kvz eval` found. */
export interface EvalResult {
  /** Version of kvz. */
  readonly version: string;
  /** Name of the model, and its geometry in words. */
  readonly model: string;
  /** For instance "30 layers, 3 KV heads of 64". */
  readonly geometry: string;
  /**
   * The profile; null when no recipe needed one. `heldOut` is false when it holds no hashes of its calibration texts, so
   * that it is not known whether these texts are among them.
   */
  readonly profile: {
    readonly fingerprint: string;
    readonly tokens: number;
    readonly sequences: number;
    readonly heldOut: boolean;
  } | null;
  /** Element type in which caches were compressed. */
  readonly dtype: string;
  /** For instance "wasm relaxed, 2 threads". */
  readonly backend: string;
  /** The texts, with the tokens they were cut from. */
  readonly texts: readonly { readonly name: string; readonly tokens: number }[];
  /** Every measurement. */
  readonly points: readonly EvalPoint[];
  /** Means over texts. */
  readonly summaries: readonly EvalSummary[];
  /** Retrieval scores, where they were asked for. */
  readonly retrieval: readonly RetrievalPoint[];
}

/** Score of a retrieval task under one setting. */
export interface RetrievalPoint {
  /** "key-value" or "needle". */
  readonly task: string;
  /** Tokens of the cache. */
  readonly context: number;
  /** As in {@linkcode EvalPoint}. */
  readonly method: string;
  /** As in {@linkcode EvalPoint}. */
  readonly setting: string;
  /** Questions asked. */
  readonly questions: number;
  /** Share of answers found after the original cache. */
  readonly before: number;
  /** Share of answers found after the restored cache. */
  readonly after: number;
  /** Mean log-probability of the answers, nats an answer token, after the original and the restored cache. */
  readonly logProbability: { readonly before: number; readonly after: number };
  /** The whole file's ratio, geometric mean over the prompts; null for controls. */
  readonly fileRatio: number | null;
}
