/**
 * Codecs for recipes that need different profiles, opened as they are needed.
 *
 * @module
 */
import type { Codec } from "../../src/codec/codec.ts";
import type { LaneOptions } from "../../src/codec/lanes.ts";
import { chooseRecipe } from "../../src/codec/encode.ts";
import { openCodec } from "../../src/codec/open.ts";
import { readDecode } from "../../src/eval/decode_option.ts";
import { type Method, recipeMethod } from "../../src/eval/method.ts";
import type { Profile } from "../../src/profile/types.ts";
import type { RecipeInfo } from "../../src/recipes/recipe.ts";
import type { Scope } from "../scope.ts";

/** The profile that a recipe takes of some, null where it needs none, undefined where it needs one that is not there. */
export function profileFor(
  { name, needs, profile = name }: RecipeInfo,
  profiles: readonly Profile[],
): Profile | null | undefined {
  return needs.includes("profile") ? profiles.find(({ method }) => method === profile) : null;
}

/** One codec a profile, and one without. */
export class CodecPool {
  readonly #profiles: readonly Profile[];
  readonly #lanes: LaneOptions;
  readonly #scope: Scope;
  readonly #codecs = new Map<Profile | null, Promise<Codec>>();
  readonly #used = new Map<Method, Profile | null>();

  constructor(profiles: readonly Profile[], lanes: LaneOptions, scope: Scope) {
    this.#profiles = profiles;
    this.#lanes = lanes;
    this.#scope = scope;
  }

  /** A recipe with options, run by the codec with its profile. Without the one that it needs, running it says so. */
  async method(recipe: string, options: Method["options"]): Promise<Method> {
    const chosen = await chooseRecipe({ ...(await readDecode(recipe, options)).own, recipe }, null);
    const profile = profileFor(chosen.recipe, this.#profiles) ?? null;
    const method = recipeMethod(await this.#open(profile), recipe, options);
    this.#used.set(method, profile);
    return method;
  }

  /** Fingerprint of the profile that a method uses, null without one. */
  fingerprintOf(method: Method): string | null {
    return this.#used.get(method)?.fingerprint ?? null;
  }

  /** For instance "wasm relaxed, 2 threads". */
  async describe(): Promise<string> {
    const { backend, build, threads } = (await (this.#codecs.values().next().value ?? this.#open(null))).info;
    return `${backend} ${build}, ${threads} ${threads === 1 ? "thread" : "threads"}`;
  }

  #open(profile: Profile | null): Promise<Codec> {
    let codec = this.#codecs.get(profile);
    if (codec === undefined) {
      codec = openCodec(profile, this.#lanes).then((opened) => this.#scope.use(opened));
      this.#codecs.set(profile, codec);
    }
    return codec;
  }
}
