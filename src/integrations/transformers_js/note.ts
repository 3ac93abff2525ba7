/**
 * What Transformers.js needs beside the cache itself, kept under one key of the file's user data.
 *
 * @module
 */
import type { JsonObject } from "../../container/canonical_json.ts";
import { KvzFormatError } from "../../errors.ts";

/** The key. */
const KEY = "transformersJs";

/** The note of one cache. */
export interface Note {
  /** Ids of the tokens that follow those of the cache: `generate` has chosen them, but not fed them back. */
  readonly pendingIds: readonly number[];
  /** Fingerprint of the tokenizer's vocabulary, where it was given. */
  readonly vocabulary?: string;
}

/**
 * The caller's data with the note.
 *
 * @throws {TypeError} The caller uses the key.
 */
export function addNote(user: JsonObject | undefined, note: Note): JsonObject {
  if (user !== undefined && Object.hasOwn(user, KEY)) {
    throw new TypeError(`Cannot use option "user": its key "${KEY}" is reserved`);
  }
  return { ...user, [KEY]: { ...note } };
}

/**
 * Takes the note out of a file's user data. A file that `saveCache` did not write has none: nothing is pending.
 *
 * @throws {KvzFormatError} The note is malformed.
 */
export function takeNote(data: JsonObject | undefined): { readonly note: Note; readonly user: JsonObject } {
  const { [KEY]: found, ...user } = data ?? {};
  if (found === undefined) return { note: { pendingIds: [] }, user };
  const { pendingIds, vocabulary } = found as { pendingIds?: unknown; vocabulary?: unknown };
  const idsGood = Array.isArray(pendingIds) && pendingIds.length <= 1 &&
    pendingIds.every((id) => Number.isInteger(id) && id >= 0 && id < 2 ** 31);
  const vocabularyGood = vocabulary === undefined ||
    typeof vocabulary === "string" && /^[0-9a-f]{64}$/.test(vocabulary);
  if (!idsGood || !vocabularyGood) {
    throw new KvzFormatError(`Cannot read cache: its user data "${KEY}" is malformed: ${JSON.stringify(found)}`);
  }
  return { note: { pendingIds, ...(vocabulary === undefined ? {} : { vocabulary: vocabulary as string }) }, user };
}
