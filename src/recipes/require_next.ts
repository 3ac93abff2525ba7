/**
 * Tokens that come to a running cache.
 *
 * @module
 */
import { resolveModel } from "../cache/fingerprint.ts";
import type { KvCache } from "../cache/kv_cache.ts";
import type { ModelSpec } from "../cache/types.ts";
import { KvzMismatchError } from "../errors.ts";

/**
 * Refuses tokens that do not follow those before.
 *
 * @throws {KvzMismatchError} They are of another model, or begin at another position, or have gaps.
 */
export function requireNext(recipe: string, read: KvCache, model: ModelSpec, next: number): void {
  resolveModel(read.model, model, { found: "the new tokens", wanted: "the running cache" });
  if (read.tokens === 0 || (!read.ragged && read.positions.every((position, t) => position === next + t))) return;
  throw new KvzMismatchError(
    `Cannot go on with recipe ${recipe}: new tokens begin at position ${read.positions[0]}${
      read.ragged ? " and are ragged" : ""
    }, expected all from ${next} on without gaps`,
  );
}
