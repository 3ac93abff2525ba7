/** What lanes load: once for all files of a profile, whatever their settings, and for encoding as well as decoding. */
import { assert, assertEquals } from "deno-std/assert";
import { openCodec } from "../../src/codec/open.ts";
import { kvz } from "../../src/recipes/kvz.ts";
import { syntheticCache } from "../synthetic.ts";
import { smallKvzProfile } from "./kvz_profile.ts";

const profile = await smallKvzProfile();
const cache = syntheticCache(60, { seed: 3 });

/** Counts how often lanes of this thread load recipe kvz. */
function countLoads(): { readonly loads: () => number } & Disposable {
  const { open } = kvz;
  let loads = 0;
  Object.assign(kvz, { open: (...args: Parameters<typeof open>) => (loads++, open(...args)) });
  return { loads: () => loads, [Symbol.dispose]: () => void Object.assign(kvz, { open }) };
}

Deno.test("files of different settings share what is loaded, and decoding uses what encoding loaded", async () => {
  using counted = countLoads();
  await using codec = await openCodec(profile);
  const files = [];
  for (const options of [{ step: 0.1 }, { step: 0.4 }, { step: 0.2, recent: 0, lambda: 0.1 }]) {
    files.push((await codec.compress(cache, options)).bytes);
  }
  for (const bytes of [...files, ...files.reverse()]) await codec.decompress(bytes);
  await codec.compress(cache, { step: 0.3 });
  assertEquals(counted.loads(), 1);
  await codec.decompress(files[0], { dtype: "f32" });
  assertEquals(counted.loads(), 2);
});

Deno.test("a codec that only decodes loads no forward matrix", async () => {
  await using encoder = await openCodec(profile);
  const files = [(await encoder.compress(cache, { step: 0.1 })).bytes, (await encoder.compress(cache)).bytes];
  using counted = countLoads();
  await using codec = await openCodec(profile);
  for (const bytes of [...files, ...files]) await codec.decompress(bytes);
  assertEquals(counted.loads(), 1);
  // The first file to be written brings the matrix along, which serves both from then on.
  const { bytes } = await codec.compress(cache, { step: 0.1 });
  assertEquals(bytes, files[0]);
  await codec.decompress(files[1]);
  assertEquals(counted.loads(), 2);
});

Deno.test("what was loaded before changes neither bytes nor caches, in this thread and in workers", async () => {
  const settings = [{ step: 0.5 }, { step: 0.05 }, { quality: "small" }, { step: 0.2, recentStep: 0.25 }] as const;
  for (const threads of [1, 2]) {
    await using used = await openCodec(profile, { threads });
    for (const options of settings) {
      await using fresh = await openCodec(profile);
      const wanted = (await fresh.compress(cache, options)).bytes;
      assertEquals((await used.compress(cache, options)).bytes, wanted);
      assert((await used.decompress(wanted)).cache.equals((await fresh.decompress(wanted)).cache));
    }
  }
});
