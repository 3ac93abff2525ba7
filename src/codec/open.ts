/**
 * Opening a codec on the backends of this package.
 *
 * @module
 */
import { createBackend } from "../backend/select.ts";
import type { Profile } from "../profile/types.ts";
import { Codec } from "./codec.ts";
import { type LaneOptions, Lanes } from "./lanes.ts";

/**
 * Opens a codec: starts the lanes once, for any number of calls. Without a profile (null) it has the recipes that need
 * none.
 *
 * @throws {KvzBackendError} when the backend cannot be had
 * @throws {RangeError} when `threads` is out of range
 */
export async function openCodec(profile: Profile | null, options: LaneOptions = {}): Promise<Codec> {
  return new Codec(profile, await Lanes.open(options, createBackend));
}
