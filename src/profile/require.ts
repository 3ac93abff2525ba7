/**
 * Asking for the profile of one method.
 *
 * @module
 */
import { KvzMismatchError } from "../errors.ts";
import type { Profile } from "./types.ts";

/**
 * The profile as that of a method.
 *
 * @throws {KvzMismatchError} when there is none, or it is for another method.
 */
export function requireProfile<Method extends Profile["method"]>(
  profile: Profile | null,
  method: Method,
): Extract<Profile, { method: Method }> {
  if (profile === null) throw new KvzMismatchError(`Cannot use recipe ${method}: it needs a profile, none is given`);
  if (profile.method !== method) {
    throw new KvzMismatchError(
      `Cannot use profile ${profile.fingerprint.slice(0, 12)}: it is for recipe ${profile.method}, expected one for ` +
        `recipe ${method} (docs/recipes.md says how it is made)`,
    );
  }
  if (profile.layerMap !== undefined) {
    throw new KvzMismatchError(
      `Cannot use profile ${profile.fingerprint.slice(0, 12)} with recipe ${method}: it is of the layers that map ` +
        `${profile.layerMap} leaves, for recipe kvsharer with inner ${method}`,
    );
  }
  return profile as Extract<Profile, { method: Method }>;
}
