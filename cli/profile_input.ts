/**
 * Profiles for commands.
 *
 * @module
 */
import type { Command } from "commander";
import type { Profile } from "../src/profile/types.ts";
import { parseProfile } from "../src/profile/profile_format.ts";
import { UsageError } from "./exit_codes.ts";
import { openFileSource, openInput } from "./files.ts";
import { scoped } from "./scope.ts";

/** `--profile`. */
export interface ProfileFlag {
  readonly profile?: string;
}

/** Adds `--profile`. */
export function addProfileOption(command: Command): Command {
  return command.option(
    "-p, --profile <file>",
    "calibrated profile of the model (.kvzp); recipes that need none do without",
  );
}

/** `--profile`, several. */
export interface ProfilesFlag {
  readonly profile?: string[];
}

/** Adds `--profile` for as many as there are recipes that need one. */
export function addProfilesOption(command: Command): Command {
  return command.option(
    "-p, --profile <file...>",
    "calibrated profiles of the model (.kvzp), one a recipe; recipes that need none do without",
  );
}

/**
 * Reads the profiles of `--profile`.
 *
 * @throws {UsageError} Two are for one recipe.
 */
export async function readProfiles({ profile: paths = [] }: ProfilesFlag): Promise<Profile[]> {
  const profiles: Profile[] = [];
  for (const path of paths) {
    const profile = await readProfile(path);
    if (profiles.some(({ method }) => method === profile.method)) {
      throw new UsageError(`Cannot use two profiles for recipe ${profile.method}: ${path} is the second`);
    }
    profiles.push(profile);
  }
  return profiles;
}

/** Reads the profile of `--profile`, null without one. */
export async function readOptionalProfile({ profile }: ProfileFlag): Promise<Profile | null> {
  return profile === undefined ? null : await readProfile(profile);
}

/** Reads the profile of `--profile` for what cannot do without. */
export async function readRequiredProfile({ profile }: ProfileFlag): Promise<Profile> {
  if (profile === undefined) throw new UsageError("Cannot go on without a profile: -p names one (.kvzp)");
  return await readProfile(profile);
}

/** Reads a profile, section by section: the file is never held beside what is made of it. */
export async function readProfile(path: string): Promise<Profile> {
  return await scoped(async (scope) => {
    const source = path === "-" ? scope.use(await openInput(path)).source : scope.use(await openFileSource(path));
    return await parseProfile(source);
  });
}
