/**
 * Recipes that keep some tokens of each head, or some channels, as they are: what their declarations share. They choose from
 * the whole cache at once; what is kept is stored by kept_codec.ts and comes back bit for bit.
 *
 * @module
 */
import type { CacheSource, Kind } from "../../cache/types.ts";
import { MAX_TOKENS, numberReader } from "../options.ts";
import type { OptionSpec, Recipe, RecipeInfo, Selection } from "../recipe.ts";

/** Record tags, the same in chunks and window. */
export const KEPT_TAGS: Readonly<Record<Kind, string>> = { key: "KEYS", value: "VALS" };

/** How many tokens a head keeps: one of both is null. */
export interface Budget {
  /** Tokens, whatever the length of the cache. */
  readonly capacity: number | null;
  /** Share of the cache's tokens. */
  readonly keep: number | null;
}

/** Reads a number of an option: `(name, otherwise, min, max, whole?)`. */
export type NumberReader = ReturnType<typeof numberReader>;

/** A recipe as its file declares it. */
export interface Evicting<Options extends object>
  extends Pick<RecipeInfo, "name" | "description" | "needs" | "stages"> {
  readonly options: readonly [name: string, otherwise: number | string | null, description: string][];
  /** Whether its plan holds masks of channels. */
  readonly prunes?: boolean;
  /** Newest tokens that are out of the chunks. */
  readonly window?: (options: Options) => number;
  parse(number: NumberReader, options: Record<string, unknown>): Options;
  select(source: CacheSource, options: Options): Promise<Selection>;
}

const codec = () => import("./kept_codec.ts");

/** Completes a declaration. */
export function evicting<Options extends object>(
  { options, prunes = false, window, parse, select, ...info }: Evicting<Options>,
): Recipe<Options> {
  const specs: OptionSpec[] = options.map(([name, value, description]) => ({ name, default: value, description }));
  const recipe: Recipe<Options> = {
    ...info,
    version: 1,
    options: specs,
    groups: [["key"], ["value"]],
    chunkTokens: 1024,
    knob: null,
    ratioOfFile: false,
    parseOptions: (given) => parse(numberReader(recipe, given), given),
    regions: (chosen) => ({ sinks: 0, window: window?.(chosen) ?? 0 }),
    select,
    planSetup: async (_, facts) => (await codec()).planSetup(info.name, facts),
    loadSetup: async (_, facts, plan) => (await codec()).loadSetup(info.name, facts, plan, prunes),
    tags: (region, [kind]) => region === "sinks" ? [] : [KEPT_TAGS[kind]],
    open: async (backend, setup) => (await codec()).openCodec(backend, setup),
  };
  return recipe;
}

/** Declarations of the options of {@linkcode readBudget}. */
export function budgetOptions(capacity: number | null, keep: number | null): Evicting<object>["options"][number][] {
  return [
    ["capacity", capacity, "tokens that a head keeps (the mean over layers)"],
    ["keep", keep, "share of the tokens that a head keeps, instead of a capacity"],
  ];
}

/**
 * Reads options "capacity" and "keep"; the defaults are for where neither is given.
 *
 * @throws {TypeError} Both are given.
 */
export function readBudget(number: NumberReader, capacityDefault: number | null, keepDefault: number | null): Budget {
  const [capacity, keep] = [number("capacity", null, 1, MAX_TOKENS, true), number("keep", null, 1e-6, 1)];
  if (capacity !== null && keep !== null) throw new TypeError('Cannot use options "capacity" and "keep" together');
  return capacity === null && keep === null ? { capacity: capacityDefault, keep: keepDefault } : { capacity, keep };
}

/**
 * Reads an option that is one of a few words.
 *
 * @throws {RangeError} It is another.
 */
export function readWord<T extends string>(options: Record<string, unknown>, name: string, words: readonly T[]): T {
  const value = (options[name] ?? words[0]) as T;
  if (!words.includes(value)) {
    throw new RangeError(`Cannot use option "${name}": it is ${value}, expected ${words.join(", ")}`);
  }
  return value;
}
