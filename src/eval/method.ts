/**
 * Ways to treat a cache that evaluation compares: the recipes of the codec, and two controls.
 *
 * @module
 */
import { castCache, mapHeads } from "../cache/cast.ts";
import type { KvCache } from "../cache/kv_cache.ts";
import type { Codec } from "../codec/codec.ts";
import { inspect } from "../codec/inspect.ts";
import { findRecipe } from "../recipes/registry.ts";
import type { RunningCache } from "../recipes/running.ts";
import { readDecode } from "./decode_option.ts";
import type { RegionCounts } from "./error_meter.ts";
import type { LoadOptions } from "./language_model.ts";
import type { EvalPoint, Ratios } from "./point.ts";

/** What a method made of a cache. */
export interface MethodOutcome {
  /** The restored cache. */
  readonly cache: KvCache;
  /** Layers that it shares; a model that takes them is needed. */
  readonly layerSource?: LoadOptions["layerSource"];
  /** What the method does while the model reads on, every so many tokens. Absent: nothing. */
  readonly running?: { readonly every: number; readonly cache: RunningCache };
  /** How small it was. */
  readonly ratios: Ratios;
  /** Bytes of the file, null without one. */
  readonly bytes: number | null;
  /** Which tokens were stored how. */
  readonly regions: RegionCounts;
  /** Wall time, null for controls. */
  readonly seconds: EvalPoint["seconds"];
}

/** A method with its setting. */
export interface Method {
  /** A recipe's name, or that of a control. */
  readonly name: string;
  /** What tells it from other settings, for instance "16×, window 0". */
  readonly setting: string;
  /** Its options. */
  readonly options: Readonly<Record<string, number | string | boolean>>;
  /** Whether errors by principal component can be had (the method uses the profile). */
  readonly usesProfile: boolean;
  /** Whether it needs a cache with queries. Default: it does not. */
  needsQueries?(): Promise<boolean>;
  /** Layers that it shares, of so many: the prompt is read with them shared. Default: none. */
  layerSource?(layers: number): Promise<LoadOptions["layerSource"]>;
  /** Compresses and restores. */
  run(cache: KvCache, signal?: AbortSignal): Promise<MethodOutcome>;
}

/** Whether queries have to be captured for some of the methods. */
export async function anyNeedsQueries(methods: readonly Method[]): Promise<boolean> {
  return (await Promise.all(methods.map(async (method) => await method.needsQueries?.() ?? false))).includes(true);
}

/**
 * A recipe with options, run by an open codec. Option `decode` is not the recipe's: every so many tokens of the continuation
 * the recipe acts on the cache by its rule for decoding; without it the restored cache stays as it is.
 */
export function recipeMethod(codec: Codec, recipe: string, options: Method["options"]): Method {
  return {
    name: recipe,
    setting: describeSetting(options),
    options,
    usesProfile: true,
    needsQueries: async () => (await findRecipe(recipe)).needs.includes("queries"),
    layerSource: async (layers) => await layerSourceOf(recipe, (await readDecode(recipe, options)).own, layers),
    async run(cache, signal) {
      const { decode, own } = await readDecode(recipe, options);
      const { bytes, report } = await codec.compress(cache, { ...own, recipe, ...(signal ? { signal } : {}) });
      const restored = await codec.decompress(bytes, signal ? { signal } : {});
      const { regions } = await inspect(bytes);
      const layerSource = await layerSourceOf(recipe, own, cache.model.layers);
      const running = decode === null ? undefined : await decode.rule(cache, restored.cache);
      return {
        cache: restored.cache,
        ...(running === undefined ? {} : { running: { every: decode!.every, cache: running } }),
        ...(layerSource === undefined ? {} : { layerSource }),
        ratios: { target: report.targetRatio, paper: report.paperRatio, file: report.fileRatio },
        bytes: bytes.length,
        regions,
        seconds: { compress: report.seconds, restore: restored.report.seconds },
      };
    },
  };
}

async function layerSourceOf(
  name: string,
  options: Method["options"],
  layers: number,
): Promise<LoadOptions["layerSource"]> {
  const recipe = await findRecipe(name);
  return recipe.layerSource?.(recipe.parseOptions(options), layers);
}

const NO_RATIOS: Ratios = { target: null, paper: null, file: null };
const NO_SECONDS: EvalPoint["seconds"] = { compress: null, restore: null };

function control(name: string, change: (cache: KvCache) => KvCache): Method {
  return {
    name,
    setting: "",
    options: {},
    usesProfile: false,
    run: (cache) =>
      Promise.resolve({
        cache: change(cache),
        ratios: NO_RATIOS,
        bytes: null,
        regions: { sinks: 0, coded: cache.tokens, window: 0 },
        seconds: NO_SECONDS,
      }),
  };
}

/**
 * Controls of the measurement itself: "untouched" goes the way of a restored cache without being compressed, so that
 * its KL must be next to 0; "zeroed" has all tokens but no content, so that its KL must be huge.
 */
export const CONTROLS: readonly Method[] = [
  control("untouched", (cache) => castCache(cache, "f32")),
  control("zeroed", (cache) =>
    mapHeads(cache, {}, ({ key, value, positions }) => ({
      key: new Uint8Array(key.length),
      value: new Uint8Array(value.length),
      positions,
    }))),
];

/** "16×, window 0" of { ratio: 16, window: 0 }. */
export function describeSetting(options: Method["options"]): string {
  const { ratio, fileRatio, ...rest } = options;
  const words = Object.entries(rest).map(([name, value]) => `${name} ${value}`);
  if (fileRatio !== undefined) words.unshift(`file ${fileRatio}×`);
  if (ratio !== undefined) words.unshift(`${ratio}×`);
  return words.join(", ");
}

/**
 * Methods of a specification `recipe[:option=value[/value…],…]`, one for every combination of the values:
 * "kvtc:ratio=8/16,window=0/128" names four settings.
 *
 * @throws {RangeError} the text is none; whether recipe and options exist is for the codec to say
 */
export function parseMethodSpec(text: string): { recipe: string; options: Method["options"] }[] {
  const [, recipe, list] = /^([\w-]+)(?::(.+))?$/.exec(text) ?? [];
  if (recipe === undefined) {
    throw new RangeError(`Cannot read method "${text}": expected recipe or recipe:option=value/value,option=value`);
  }
  let settings: Method["options"][] = [{}];
  for (const part of list?.split(",") ?? []) {
    const [, name, values] = /^(\w+)=([^=]+)$/.exec(part) ?? [];
    if (name === undefined) throw new RangeError(`Cannot read method "${text}": "${part}" is not option=value`);
    settings = settings.flatMap((options) =>
      values.split("/").map((value) => ({ ...options, [name]: parseValue(value) }))
    );
  }
  return settings.map((options) => ({ recipe, options }));
}

function parseValue(text: string): number | string | boolean {
  if (text === "true" || text === "false") return text === "true";
  const number = Number(text);
  return text.trim() === "" || Number.isNaN(number) ? text : number;
}
