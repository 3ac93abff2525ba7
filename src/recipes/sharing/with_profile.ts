/**
 * KVSharer with the remaining layers coded by a recipe that takes a profile (`inner: "kvtc"` or `"kvz"`): the file has that
 * recipe's regions and streams, of the layers that have keys and values of their own. The profile is one of these layers
 * alone, and says of which map (`kvz calibrate --map`).
 *
 * @module
 */
import type { ModelSpec } from "../../cache/types.ts";
import { KvzFormatError, KvzMismatchError } from "../../errors.ts";
import { requireProfile } from "../../profile/require.ts";
import type { Profile } from "../../profile/types.ts";
import { formatLayerMap, layerMapOf, storedLayers } from "../../stages/sharing/layer_map.ts";
import { outerSetup, type Recipe, type Setup, type SetupFacts } from "../recipe.ts";
import { innerOptions, innerRecipe, type ProfiledInner, requireMap } from "./inner.ts";
import type { KvSharerOptions } from "./kvsharer.ts";

/** Setup of the lanes: that of the inner recipe for the layers of their own. */
export interface OwnLayersSetup extends Setup {
  readonly own: Setup;
  readonly map: readonly number[];
  /** The model with all layers. */
  readonly model: ModelSpec;
  readonly storedDType: SetupFacts["storedDType"];
}

/** The inner recipe's profile without its map, which that recipe knows nothing of; one object each. */
const plainProfiles = new WeakMap<Profile, Profile>();

/** The recipe as it is with that inner one. */
export function withProfile(recipe: Recipe<KvSharerOptions>, name: ProfiledInner): Recipe<KvSharerOptions> {
  const inner = innerRecipe(name);
  const own = (options: KvSharerOptions) => innerOptions(name, options);

  function wrap(facts: SetupFacts, options: KvSharerOptions, setup: Setup): OwnLayersSetup {
    const map = layerMapOf(options.map, facts.model.layers);
    const { model, storedDType } = facts;
    const outer = outerSetup(setup, `${recipe.name} ${options.map}`);
    return { recipe: recipe.name, ...outer, own: setup, map, model, storedDType };
  }

  return {
    ...recipe,
    needs: [...recipe.needs, "profile"],
    profile: name,
    stages: ["split", "share", ...inner.stages.filter((stage) => stage !== "split")],
    groups: inner.groups,
    chunkTokens: inner.chunkTokens,
    regions: (options, tokens) => inner.regions(own(options), tokens),
    tags: inner.tags,
    async planSetup(profile, facts, options) {
      requireMap(options.map);
      const plain = requireOwnLayers(profile, name, options.map, facts.model.layers);
      return wrap(facts, options, await inner.planSetup(plain, ownFacts(facts, options.map), own(options)));
    },
    async loadSetup(profile, facts, plan, append, options) {
      requireMapOf(options.map, facts.model.layers);
      const plain = requireOwnLayers(profile, name, options.map, facts.model.layers);
      const fewer = ownFacts(facts, options.map);
      return wrap(facts, options, await inner.loadSetup(plain, fewer, plan, append && own(append), own(options)));
    },
  };
}

function ownFacts(facts: SetupFacts, map: string): SetupFacts {
  const layers = storedLayers(layerMapOf(map, facts.model.layers)).length;
  return { ...facts, model: { ...facts.model, layers } };
}

function requireMapOf(map: string, layers: number): void {
  try {
    layerMapOf(map, layers);
  } catch (cause) {
    throw new KvzFormatError(`Cannot read file: ${(cause as Error).message}`, { cause });
  }
}

/**
 * The profile as the inner recipe takes it.
 *
 * @throws {KvzMismatchError} There is none, or it is of another recipe, of all layers, or of those of another map.
 */
function requireOwnLayers(profile: Profile | null, name: ProfiledInner, map: string, layers: number): Profile {
  if (profile === null) {
    throw new KvzMismatchError(`Cannot use recipe kvsharer with inner ${name}: it needs a profile, none is given`);
  }
  const wanted = formatLayerMap(layerMapOf(map, layers));
  if (profile.layerMap !== wanted) {
    const has = profile.layerMap === undefined ? "of all layers" : `of the layers that map ${profile.layerMap} leaves`;
    throw new KvzMismatchError(
      `Cannot use profile ${
        profile.fingerprint.slice(0, 12)
      }: it is ${has}, expected those that map ${wanted} leaves ` +
        `(kvz calibrate --map)`,
    );
  }
  let plain = plainProfiles.get(profile);
  if (plain === undefined) {
    const { layerMap: _, ...rest } = profile;
    plainProfiles.set(profile, plain = rest as Profile);
  }
  return requireProfile(plain, name);
}
