/**
 * Layer maps for commands.
 *
 * @module
 */
import type { Command } from "commander";
import type { ModelSpec } from "../src/cache/types.ts";
import { mapOption, readSharingMap, type SharingMap } from "../src/eval/sharing_map.ts";
import { readInput } from "./files.ts";

/** `--map`. */
export interface MapFlag {
  readonly map?: string;
}

/** Adds `--map`. */
export function addMapOption(command: Command): Command {
  return command.option("--map <file>", "layers that share keys and values, for kvsharer (.json of kvz sharing)");
}

/** Reads the map of `--map`, null without one. */
export async function readOptionalMap({ map }: MapFlag): Promise<SharingMap | null> {
  return map === undefined ? null : await readSharingMap(new TextDecoder().decode(await readInput(map)));
}

/** Option `map` for settings of kvsharer that have none; nothing without `--map`. */
export function mapFor(
  sharing: SharingMap | null,
  recipe: string | undefined,
  options: { readonly map?: unknown },
  model: ModelSpec,
  name: string,
): { readonly map?: string } {
  return sharing === null || recipe !== "kvsharer" || options.map !== undefined
    ? {}
    : { map: mapOption(sharing, model, name) };
}
