/**
 * Recipes of methods that code tensors, each told in a few lines: what it is called, what its options are, which keys it
 * takes, and where its coder is.
 *
 *     [chunk]  (undo RoPE) → the method's stages
 *     [sinks]  source elements                       (none by default)
 *     [window] source elements, or the method's residual
 *
 * @module
 */
import type { Kind } from "../../cache/types.ts";
import { requireProfile } from "../../profile/require.ts";
import type { Profile } from "../../profile/types.ts";
import { MAX_TOKENS, numberReader } from "../options.ts";
import type { Knob, OptionSpec, Recipe } from "../recipe.ts";
import type { TensorModule } from "./coder.ts";

/** A stream of a method. */
export interface StreamSpec {
  /** Three letters; in the file after K, V or, where both kinds are coded together, J. */
  readonly tag: string;
  /** Whether it goes through DEFLATE. Methods whose papers store plain bits say no, so that sizes are the papers'. */
  readonly deflate?: boolean;
}

/** Options that all recipes of the frame have, beside the method's own. */
export interface TensorOptions {
  /** Oldest tokens kept as they are. */
  readonly sinks: number;
  /** Newest tokens kept as they are; absent in methods with a residual of their own. */
  readonly window?: number;
}

/** A method as the frame takes it. */
export interface TensorMethod<Own extends object> {
  readonly name: string;
  /** One line. */
  readonly description: string;
  /** The method's own options. */
  readonly options: readonly OptionSpec[];
  /** Reads them; `number` as {@linkcode numberReader} makes it. */
  parse(number: ReturnType<typeof numberReader>, options: Record<string, unknown>): Own;
  /** What must be given beside `profile`. Default: nothing. */
  readonly needs?: readonly string[];
  /** The method whose profiles it needs. Default: none. */
  readonly profile?: Profile["method"];
  /** Stages in encoding order. */
  readonly stages: readonly string[];
  /** Tokens of a full chunk, at most 4096. */
  readonly chunkTokens: number;
  /** Oldest tokens kept as they are unless an option says otherwise. Default: none. */
  readonly sinks?: number;
  /** Whether keys are coded with RoPE undone; `profile` is of the method's kind, null where it needs none. */
  preRope(options: Own, profile: Profile | null): boolean;
  /** Whether keys and values are coded together. Default: each by itself. */
  readonly together?: boolean;
  readonly streams: readonly StreamSpec[];
  /**
   * Newest tokens of a cache of `tokens` tokens that the coder of region "window" codes, for methods that keep raw tokens
   * in a way of their own. The tokens before them stand at whole chunks from the first. Default: a raw window of option
   * `window`.
   */
  residual?(options: Own, tokens: number): number;
  /** What a search for a ratio of the file varies. Default: nothing. */
  readonly knob?: Knob;
  /** Loads the coder. */
  load(): Promise<TensorModule<Own>>;
}

const WINDOW: OptionSpec = { name: "window", default: 0, description: "newest tokens kept as they are" };

/** Tags of the raw regions. */
const RAW_TAGS: Readonly<Record<Kind, string>> = { key: "KRAW", value: "VRAW" };

/** The letter before a method's tags. */
function prefix(kinds: readonly Kind[]): string {
  return kinds.length > 1 ? "J" : kinds[0] === "key" ? "K" : "V";
}

/** Makes a method a recipe. What its lanes run is loaded when it is used. */
export function tensorRecipe<Own extends object>(method: TensorMethod<Own>): Recipe<Own & TensorOptions> {
  const residual = method.residual?.bind(method);
  const { sinks: defaultSinks = 0 } = method;
  const sinksSpec: OptionSpec = { name: "sinks", default: defaultSinks, description: "oldest tokens kept as they are" };
  const codec = () => import("./tensor_codec.ts");
  const own = (profile: Profile | null) =>
    method.profile === undefined ? null : requireProfile(profile, method.profile) as Profile;
  return {
    name: method.name,
    version: 1,
    description: method.description,
    options: [...method.options, sinksSpec, ...(residual ? [] : [WINDOW])],
    needs: [...(method.profile === undefined ? [] : ["profile"]), ...(method.needs ?? [])],
    stages: method.stages,
    groups: method.together ? [["key", "value"]] : [["key"], ["value"]],
    chunkTokens: method.chunkTokens,
    knob: method.knob ?? null,
    ratioOfFile: method.knob !== undefined,

    parseOptions(options) {
      const number = numberReader(this, options);
      const sinks = number("sinks", defaultSinks, 0, MAX_TOKENS, true);
      const own = method.parse(number, options);
      return { ...own, sinks, ...(residual ? {} : { window: number("window", 0, 0, MAX_TOKENS, true) }) };
    },

    regions(options, tokens) {
      const { sinks, window = 0 } = options;
      if (residual === undefined) return { sinks, window };
      return { sinks, window: tokens <= sinks ? 0 : residual(options, tokens - sinks) };
    },

    planSetup: async (profile, facts, options) => (await codec()).makeSetup(method.name, facts, options, own(profile)),

    loadSetup: async (profile, facts, plan, append, options) =>
      (await codec()).loadSetup(method, facts, plan, options, append !== undefined, own(profile)),

    tags: (region, kinds) =>
      region === "sinks" || (region === "window" && residual === undefined)
        ? kinds.map((kind) => RAW_TAGS[kind])
        : method.streams.map(({ tag }) => prefix(kinds) + tag),

    open: async (backend, setup) => (await codec()).openCodec(method, backend, setup),
  };
}
