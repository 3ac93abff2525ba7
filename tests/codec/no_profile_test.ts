import { assertRejects } from "deno-std/assert";
import { openCodec } from "../../src/codec/open.ts";
import { KvzMismatchError } from "../../src/errors.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";

Deno.test("without a profile, recipes and files that need one are refused by name", async () => {
  const cache = syntheticCache(200);
  const profile = syntheticProfile();
  await using codec = await openCodec(profile);
  await using bare = await openCodec(null);
  const { bytes } = await codec.compress(cache);
  await assertRejects(() => bare.compress(cache, { recipe: "kvtc" }), KvzMismatchError, "needs a profile");
  await assertRejects(() => bare.decompress(bytes), KvzMismatchError, profile.fingerprint.slice(0, 12));
  await assertRejects(() => bare.append(bytes, cache), KvzMismatchError, "none is given");
});
