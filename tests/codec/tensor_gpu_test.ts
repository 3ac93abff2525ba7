import { assert, assertEquals } from "deno-std/assert";
import { openCodec } from "../../src/codec/open.ts";
import type { CompressOptions } from "../../src/codec/options.ts";
import type { Profile } from "../../src/profile/types.ts";
import { BACKENDS } from "../backend/backends.ts";
import { makeProfile, RANDOM } from "../kvcar/profiles.ts";
import { BLOCK_MODEL } from "../recipes/models.ts";
import { roundTrip } from "../recipes/recipe_checks.ts";
import { syntheticCache } from "../synthetic.ts";

const kvcar = await makeProfile({ share: 0.5, slope: 0.01, reuse: { key: { 4: 2 }, value: { 3: 1 } }, ...RANDOM });

/** Recipes whose dense layers, rotation, groups or blocks run on the device. */
const RECIPES: readonly (readonly [options: Record<string, unknown>, profile: Profile | null])[] = [
  [{ recipe: "kvcar" }, kvcar],
  [{ recipe: "kvcar", latents: "int8" }, kvcar],
  [{ recipe: "kvcar", latents: "int8", entropy: "rans" }, kvcar],
  [{ recipe: "turboquant", bits: 3, variant: "prod" }, null],
  [{ recipe: "xkv" }, null],
  [{ recipe: "quarot" }, null],
  [{ recipe: "kivi" }, null],
  [{ recipe: "q8_0" }, null],
  [{ recipe: "q4_0" }, null],
];

for (const [label, options] of BACKENDS.filter(([label]) => label === "cuda" || label === "webgpu")) {
  for (const [recipe, profile] of RECIPES) {
    Deno.test(`${label}: ${JSON.stringify(recipe)} gives the host's bytes and caches`, async () => {
      const model = profile?.model ?? BLOCK_MODEL;
      const cache = syntheticCache(300, { model, seed: 4 });
      await using host = await openCodec(profile, { threads: 1, backend: "wasm" });
      await using gpu = await openCodec(profile, { threads: 1, ...options });
      const wanted = await roundTrip(host, cache, recipe as CompressOptions);
      const found = await roundTrip(gpu, cache, recipe as CompressOptions);
      assertEquals(found.bytes, wanted.bytes);
      assert(found.cache.equals(wanted.cache));
    });
  }
}
