/**
 * Recipes that keep some tokens of each head, or some channels, as they are: what their declarations share. They choose from
 * the whole cache at once; what is kept is stored by kept_codec.ts and comes back bit for bit.
 *
 * @module
 */
import type { KvCache } from "../../cache/kv_cache.ts";
import type { CacheSource, Kind } from "../../cache/types.ts";
import { KvzUnsupportedError } from "../../errors.ts";
import { compositionError } from "../composition.ts";
import { kvz, QUALITIES } from "../kvz.ts";
import { MAX_TOKENS, numberReader, readChoice } from "../options.ts";
import type { OptionSpec, Recipe, RecipeInfo, Selection } from "../recipe.ts";
import type { RunningCache } from "../running.ts";
import { checkCode, type CodeOptions } from "./codes.ts";

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
  /** See {@linkcode Recipe.running}; for what is kept as it is. */
  readonly running?: (source: CacheSource, restored: KvCache, options: Options) => Promise<RunningCache>;
}

const codec = () => import("./kept_codec.ts");

/** Options that all of them have. */
const CODE: Evicting<object>["options"] = [
  ["code", "raw", "how what is kept is coded: raw, kivi, quarot, turboquant, q8_0, q4_0; kvz (needs its profile)"],
  ["bits", null, "bits of kivi, quarot or turboquant"],
  ["quality", null, "quality of kvz: small, balanced (default) or high"],
  ["step", null, "quantization step of kvz instead of a quality"],
];

/** Completes a declaration. */
export function evicting<Options extends object>(
  { options, prunes = false, window, parse, select, running, ...info }: Evicting<Options>,
): Recipe<Options & CodeOptions> {
  const specs: OptionSpec[] = [...options, ...CODE].map(([name, value, description]) => ({
    name,
    default: value,
    description,
  }));
  const recipe: Recipe<Options & CodeOptions> = {
    ...info,
    version: 1,
    options: specs,
    groups: [["key"], ["value"]],
    chunkTokens: 1024,
    knob: null,
    ratioOfFile: false,
    parseOptions(given) {
      const number = numberReader(recipe, given);
      const { code = "raw" } = given;
      if (typeof code !== "string") throw new TypeError(`Cannot use option "code": it is ${code}, expected a name`);
      const own = { ...parse(number, given), code, bits: number("bits", null, 1, 8, true) };
      return { ...own, ...readKvz(number, given, code) };
    },
    async settle(chosen) {
      if (chosen.code !== kvz.name) return recipe;
      const why = compositionError(info, kvz);
      if (why !== null) throw new KvzUnsupportedError(why);
      return (await import("./with_kvz.ts")).withKvz(recipe);
    },
    regions: (chosen) => ({ sinks: 0, window: window?.(chosen) ?? 0 }),
    async select(source, chosen) {
      await checkCode(info, chosen);
      return await select(source, chosen);
    },
    ...(running === undefined ? {} : {
      running: async (source: CacheSource, restored: KvCache, chosen: Options & CodeOptions) => {
        if (chosen.code === "raw") return await running(source, restored, chosen);
        throw new KvzUnsupportedError(
          `Cannot go on with recipe ${info.name}: it keeps tokens as they are while a model decodes, option "code" is ` +
            chosen.code,
        );
      },
    }),
    planSetup: async (_, facts, chosen) => (await codec()).planSetup(info.name, facts, chosen),
    loadSetup: async (_, facts, plan, _append, chosen) =>
      (await codec()).loadSetup(info.name, facts, plan, prunes, chosen),
    tags: (region, [kind]) => region === "sinks" ? [] : [KEPT_TAGS[kind]],
    open: async (backend, setup) =>
      "kvz" in setup
        ? await (await import("./kept_kvz_codec.ts")).openCodec(backend, setup)
        : (await codec()).openCodec(backend, setup),
  };
  return recipe;
}

/** Options of code kvz: none with another, so that files of those say nothing of them. */
function readKvz(
  number: NumberReader,
  options: Record<string, unknown>,
  code: string,
): Pick<CodeOptions, "quality" | "step"> {
  const step = number("step", null, 1e-9, 1e9);
  const quality = options.quality ?? null;
  if (code !== kvz.name) {
    const named = step !== null ? "step" : quality !== null ? "quality" : null;
    if (named === null) return {};
    throw new RangeError(`Cannot use option "${named}": code ${code} has none, it is one of code kvz`);
  }
  if (step !== null && quality !== null) throw new TypeError('Cannot use options "quality" and "step" together');
  return step !== null ? { step } : { quality: readChoice(options, "quality", QUALITIES, "balanced") };
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
