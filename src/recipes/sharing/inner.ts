/**
 * What stores the layers that KVSharer leaves: nothing, ggml's blocks, or a recipe that takes a profile.
 *
 * @module
 */
import { readChoice } from "../options.ts";
import { kvtc } from "../kvtc.ts";
import { kvz } from "../kvz.ts";
import type { Recipe } from "../recipe.ts";

/** Recipes that take a profile; what their options are is their own business. */
const RECIPES = { kvtc, kvz } as unknown as Readonly<Record<ProfiledInner, Recipe<object>>>;

/** What of their options can be given. */
const OWN: Readonly<Record<ProfiledInner, readonly string[]>> = {
  kvtc: ["ratio", "window"],
  kvz: ["quality", "step", "window"],
};

/** An inner recipe with a profile. */
export type ProfiledInner = "kvtc" | "kvz";

/** All that there are. */
export type Inner = "raw" | "q8_0" | "q4_0" | ProfiledInner;

/** What is stored how; absent: the inner recipe's default. */
export interface InnerOptions {
  readonly inner: Inner;
  readonly ratio?: number;
  readonly quality?: string;
  readonly step?: number;
  readonly window?: number;
}

/** Whether it is a recipe that takes a profile. */
export function isProfiled(inner: Inner): inner is ProfiledInner {
  return inner === "kvtc" || inner === "kvz";
}

/** The recipe of that name. */
export function innerRecipe(inner: ProfiledInner): Recipe<object> {
  return RECIPES[inner];
}

/**
 * Reads the options.
 *
 * @throws {RangeError | TypeError} The inner recipe does not have one, or it is out of range there.
 */
export function readInner(options: Record<string, unknown>): InnerOptions {
  const inner = readChoice(options, "inner", ["raw", "q8_0", "q4_0", "kvtc", "kvz"] as const, "raw");
  const known = isProfiled(inner) ? OWN[inner] : [];
  const given = ["ratio", "quality", "step", "window"].filter((name) => (options[name] ?? null) !== null);
  const foreign = given.find((name) => !known.includes(name));
  if (foreign !== undefined) {
    throw new RangeError(`Cannot use option "${foreign}": inner ${inner} has ${known.join(", ") || "none"}`);
  }
  const own = Object.fromEntries(given.map((name) => [name, options[name]]));
  if (isProfiled(inner)) RECIPES[inner].parseOptions(own);
  return { inner, ...own };
}

/**
 * Asks for the map where a cache is there.
 *
 * @throws {TypeError} It is missing.
 */
export function requireMap(map: string): void {
  if (map !== "") return;
  throw new TypeError('Cannot use recipe kvsharer: option "map" is missing; kvz sharing searches one on the model');
}

/** The inner recipe's own options, with its defaults. */
export function innerOptions(inner: ProfiledInner, { ratio, quality, step, window }: InnerOptions): object {
  const given = Object.entries({ ratio, quality, step, window }).filter(([, value]) => value !== undefined);
  return RECIPES[inner].parseOptions(Object.fromEntries(given));
}
