/**
 * Caches that a method keeps compressed while a model goes on: what came of a file, then token after token.
 *
 * @module
 */
import type { KvCache } from "../cache/kv_cache.ts";

/** A cache that a method acts on as tokens come to it. */
export interface RunningCache {
  /** Whether it wants the queries of the tokens that come. */
  readonly needsQueries: boolean;
  /** Bytes of what it holds, as the method keeps it. */
  readonly bytes: number;
  /**
   * Takes tokens that the model has read after those here, one after another: dense, f32, where `needsQueries` says so with
   * the queries of all of them. The method then drops or requantizes older tokens by its rule, which may be one that asks
   * for a decision at every token: what the model saw while it read these was the cache as it stood before the call. After an error the cache is of no use.
   *
   * @throws {KvzMismatchError} They do not follow, or are of another model.
   * @throws {KvzUnsupportedError} A token cannot be kept as the method keeps tokens, or its queries are missing.
   */
  append(read: KvCache): void;
  /** What the model attends to next; ragged where heads hold different tokens. f32. */
  cache(): KvCache;
}
