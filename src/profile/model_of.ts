/**
 * The model that a profile's caches are of, without what most profiles do without.
 *
 * @module
 */
import type { ModelSpec } from "../cache/types.ts";
import type { Profile } from "./types.ts";

/** As `servedModel` (served.ts), which is imported for profiles of models whose layers share. */
export async function modelOf(profile: Pick<Profile, "model" | "layerMap">): Promise<ModelSpec> {
  return profile.layerMap === undefined ? profile.model : (await import("./served.ts")).servedModel(profile);
}
