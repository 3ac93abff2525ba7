/**
 * Caches for commands: .safetensors or llama.cpp states, told apart by their first bytes.
 *
 * @module
 */
import { openSafetensors } from "../src/adapters/safetensors.ts";
import type { CacheSource } from "../src/cache/types.ts";
import type { JsonObject } from "../src/container/canonical_json.ts";
import type { Input } from "./files.ts";
import { type CacheFlags, safetensorsOptions } from "./options.ts";

/** A cache and what has to be kept to write it back in its own format. */
export interface OpenedCache {
  readonly cache: CacheSource;
  readonly format: "safetensors" | "llama.cpp state";
  /** User metadata for the .kvz file. */
  readonly user?: JsonObject;
}

/** Opens a cache of any known format. */
export async function openCache(input: Input, flags: CacheFlags): Promise<OpenedCache> {
  return { cache: await openSafetensors(input.source, safetensorsOptions(flags)), format: "safetensors" };
}
