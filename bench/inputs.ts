/**
 * The cache and the profile that benchmarks run on: `--cache` and `--profile`, or the samples of the repository.
 *
 * @module
 */
import { readSafetensors } from "../src/adapters/safetensors.ts";
import type { KvCache } from "../src/cache/kv_cache.ts";
import { parseProfile } from "../src/profile/profile.ts";
import { requireProfile } from "../src/profile/require.ts";
import type { KvtcProfile } from "../src/profile/types.ts";

/** Value of `--name VALUE` on the command line, `-n VALUE` for a name of one letter. */
export function option(name: string, otherwise: string): string {
  const at = Deno.args.indexOf(name.length === 1 ? `-${name}` : `--${name}`);
  return at < 0 ? otherwise : Deno.args[at + 1];
}

/** Whether `--name` stands on the command line. */
export function flag(name: string): boolean {
  return Deno.args.includes(`--${name}`);
}

/** Loads both. */
export async function loadInputs(): Promise<{ cache: KvCache; profile: KvtcProfile }> {
  const cache = await readSafetensors(await Deno.readFile(option("cache", "samples/smollm2-256.safetensors")));
  const path = option("profile", "samples/smollm2-demo.kvzp");
  const profile = requireProfile(await parseProfile(await Deno.readFile(path)), "kvtc");
  return { cache, profile };
}
