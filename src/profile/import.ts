/**
 * Profiles from what tools in Python have trained or fitted.
 *
 * @module
 */
import { readSafetensorsHeader } from "../adapters/safetensors_file.ts";
import type { ByteSource } from "../container/bytes.ts";
import { KvzFormatError } from "../errors.ts";
import { importKvcar } from "./kvcar/import.ts";
import { importLowRank } from "./lowrank/import.ts";
import type { Profile } from "./types.ts";

/**
 * Reads an export of a tool: a safetensors file whose metadata name the `method` that it is for. What it has to hold is
 * written in the importer of each method (src/profile/kvcar/import.ts, src/profile/lowrank/import.ts).
 *
 * @throws {KvzFormatError} when it is none, or lacks something; the message names it
 */
export async function importProfile(source: ByteSource): Promise<Profile> {
  const { metadata: { method } } = await readSafetensorsHeader(source);
  if (method === "kvcar") return await importKvcar(source);
  if (method === "palu" || method === "recalkv") return await importLowRank(source);
  throw new KvzFormatError(
    `Cannot import profile: its method is ${method ?? "not told"}, expected kvcar, palu or recalkv`,
  );
}
