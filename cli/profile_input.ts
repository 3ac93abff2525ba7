/**
 * Profiles for commands.
 *
 * @module
 */
import type { Command } from "commander";
import type { Profile } from "../src/profile/types.ts";
import { loadProfile } from "../src/profile/load.ts";
import { readInput } from "./files.ts";

/** `--profile`. */
export interface ProfileFlag {
  readonly profile: string;
}

/** Adds `--profile`. */
export function addProfileOption(command: Command): Command {
  return command.requiredOption("-p, --profile <file>", "calibrated profile of the model (.kvzp)");
}

/** Reads a profile. */
export async function readProfile(path: string): Promise<Profile> {
  return await loadProfile(await readInput(path));
}
