/**
 * Settings in which `kvz compare` runs the recipes when the user names none: those of the papers' tables, so that each
 * method has a point or more where it is meant to be used.
 *
 * @module
 */
import { parseMethodSpec } from "../../src/eval/method.ts";
import type { Profile } from "../../src/profile/types.ts";
import { listRecipes } from "../../src/recipes/registry.ts";
import type { Setting } from "../eval/run.ts";

/** As `--method` takes them; a recipe that is not here runs with its defaults. */
const DEFAULTS: Readonly<Record<string, readonly string[]>> = {
  kvz: ["kvz:quality=high/balanced/small"],
  "kvz-free": ["kvz-free:ratio=4/6/8"],
  kvtc: ["kvtc:ratio=8/16/32"],
  kvcar: ["kvcar:latents=f16/int8"],
  recalkv: ["recalkv:bits=16/4/3"],
  palu: ["palu:bits=16/4/3"],
  kvquant: ["kvquant:bits=4/3/2", "kvquant:bits=2,qnorm=off"],
  kvcomp: ["kvcomp", "kvcomp:keyRel=0.1,valueRel=0.2"],
  packkv: ["packkv:keyRel=0.05/0.1"],
  kivi: ["kivi:bits=4/2"],
  cachegen: ["cachegen:level=3/2/1"],
  turboquant: ["turboquant:bits=4/3/2"],
  kvsharer: ["kvsharer", "kvsharer:inner=q8_0"],
  streamingllm: ["streamingllm:keep=0.5/0.25/0.125"],
  h2o: ["h2o:keep=0.5/0.25/0.125"],
  snapkv: ["snapkv:keep=0.5/0.25/0.125"],
  pyramidkv: ["pyramidkv:keep=0.5/0.25/0.125"],
  diffkv: ["diffkv", "diffkv:alphaHigh=3"],
  think: ["think:prune=0.4/0.6"],
};

/** The default settings of all recipes, in the order of `kvz recipes`; a trimmed profile of kvtc brings its own ratios. */
export async function defaultSettings(profiles: readonly Profile[]): Promise<Setting[]> {
  const kvtc = profiles.find(({ method }) => method === "kvtc");
  const trimmed = kvtc?.method === "kvtc" ? kvtc.calibration.ratios : [];
  return (await listRecipes()).flatMap(({ name }) =>
    name === "kvtc" && trimmed.length > 0
      ? trimmed.map((ratio) => ({ recipe: name, options: { ratio } }))
      : (DEFAULTS[name] ?? [name]).flatMap(parseMethodSpec)
  );
}
