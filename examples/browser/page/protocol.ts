/**
 * Messages between the page and the worker that holds the model, and what the page shows.
 *
 * @module
 */

/** How the cache is kept. */
export interface Recipe {
  /** Target ratio of kvtc; null keeps every token bit-exact, in 32 bits. */
  readonly ratio: number | null;
  /** Newest tokens kept as they are, at 16 bits. Not used where ratio is null. */
  readonly window: number;
}

/** Requests of the page. They are answered one after another; each ends with "idle" or "failed". */
export type Request =
  | { readonly type: "open" }
  | { readonly type: "read"; readonly prompt: string; readonly newTokens: number; readonly recipe: Recipe }
  | { readonly type: "restore" }
  | { readonly type: "forget" };

/** What the worker tells. */
export type Event =
  | { readonly type: "progress"; readonly text: string; readonly done?: number; readonly total?: number }
  | { readonly type: "ready"; readonly facts: Facts }
  | { readonly type: "stored"; readonly run: ReadRun | null; readonly bytes: number }
  | { readonly type: "token"; readonly side: Side; readonly text: string; readonly count: number }
  | { readonly type: "read"; readonly run: ReadRun }
  | { readonly type: "restored"; readonly run: RestoredRun }
  | { readonly type: "idle" }
  | { readonly type: "failed"; readonly name: string; readonly message: string };

/** Which of the two continuations. */
export type Side = "read" | "restored";

/** What runs here. */
export interface Facts {
  readonly model: string;
  readonly runtime: string;
  readonly codec: string;
  readonly profile: string;
  readonly storage: Storage;
  /** Ratios that the profile serves. */
  readonly ratios: readonly number[];
  /** Seconds to load and compile the model; needed with and without a stored cache. */
  readonly secondsModel: number;
}

/** Where files are kept, and why not in the private file system. */
export type Storage = { readonly kind: "OPFS" } | { readonly kind: "IndexedDB"; readonly reason: string };

/** What was generated. */
export interface Continuation {
  readonly ids: readonly number[];
  readonly text: string;
  /** Of the tokens after the first; null where there is only one. */
  readonly tokensPerSecond: number | null;
}

/** The uninterrupted run: prompt read, continued, its cache stored. Kept beside the cache to be compared with. */
export interface ReadRun extends Continuation {
  readonly prompt: string;
  readonly newTokens: number;
  readonly recipe: Recipe;
  /** Tokens of the prompt that are in the cache: all but the last. */
  readonly cachedTokens: number;
  readonly seconds: {
    readonly prefill: number;
    readonly firstToken: number;
    readonly compress: number;
    readonly write: number;
  };
  readonly file: {
    readonly bytes: number;
    readonly fp16Bytes: number;
    readonly fileRatio: number;
    readonly paperRatio: number | null;
  };
}

/** The run from the stored cache. */
export interface RestoredRun extends Continuation {
  readonly seconds: { readonly read: number; readonly decompress: number; readonly firstToken: number };
  /** Leading tokens equal to those of the uninterrupted run. */
  readonly equalTokens: number;
}
