/**
 * Loading a profile from wherever it lies.
 *
 * @module
 */
import { blobSource, type ByteSource } from "../container/bytes.ts";
import { parseProfile } from "./profile_format.ts";
import type { Profile } from "./types.ts";

/**
 * Loads a profile (.kvzp) from bytes, a Blob or File, a byte source, or a fetch response.
 *
 * @throws {KvzFormatError} when it is not a profile, is truncated or damaged
 *
 * @example
 * ```ts ignore
 * const profile = await loadProfile(await fetch("/smollm2.kvzp"));
 * ```
 */
export async function loadProfile(input: Uint8Array | Blob | ByteSource | Response): Promise<Profile> {
  if (typeof Response !== "undefined" && input instanceof Response) {
    if (!input.ok) throw new TypeError(`Cannot load profile: the response has status ${input.status}`);
    return await parseProfile(new Uint8Array(await input.arrayBuffer()));
  }
  if (typeof Blob !== "undefined" && input instanceof Blob) return await parseProfile(blobSource(input));
  return await parseProfile(input as Uint8Array | ByteSource);
}
