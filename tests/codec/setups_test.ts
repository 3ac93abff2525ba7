/** What lanes load: once for all files of a profile, whatever their settings, and for encoding as well as decoding. */
import { assert, assertEquals, assertRejects } from "deno-std/assert";
import { createBackend } from "../../src/backend/select.ts";
import { openCodec } from "../../src/codec/open.ts";
import { openFile, readGroup } from "../../src/codec/groups.ts";
import { KvzFormatError } from "../../src/errors.ts";
import { kvz } from "../../src/recipes/kvz.ts";
import { syntheticCache } from "../synthetic.ts";
import { parseProfile } from "../../src/profile/profile.ts";
import type { KvzProfile } from "../../src/profile/kvz/types.ts";

// Of 48 components, of which coarse steps leave 16 or 32.
const read = await Deno.readFile(new URL("./kvz_golden/wide_profile.kvzp", import.meta.url));
const profile = await parseProfile(read) as KvzProfile;
const cache = syntheticCache(60, { seed: 3, model: profile.model });

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
  const settings = [{ step: 3 }, { step: 0.5 }, { step: 0.05 }, { quality: "small" }, {
    step: 0.2,
    recentStep: 0.25,
  }] as const;
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

Deno.test("a chunk of more components than its file's plan says is refused, though the lane has them all", async () => {
  await using encoder = await openCodec(profile);
  const file = await openFile((await encoder.compress(cache, { step: 3, recent: 0 })).bytes);
  const { tokens, records } = await readGroup(file, file.groups.find(({ chunk }) => chunk === 0)!);
  const backend = await createBackend();
  const { model } = file.header;
  const facts = { model, storedDType: "f16", dtype: "f16", openBackend: () => createBackend() } as const;
  const options = kvz.parseOptions({});
  const positions = Int32Array.from({ length: tokens }, (_, t) => t + 1);
  // The chunk's own number, by the length of its side information: four bytes a token and two before them.
  const own = records.get("SIDE")!.rawLength - 2 - 4 * tokens;
  assert(own > 1 && own < profile.components);
  using codec = await kvz.open(backend, await kvz.loadSetup(profile, facts, Uint8Array.of(own, 0), undefined, options));
  for (const most of [own, own - 1]) {
    const { settings } = await kvz.loadSetup(profile, facts, Uint8Array.of(most, 0), undefined, options);
    const streams = kvz.tags("chunk", ["key", "value"]).map((tag) => ({ ...records.get(tag)!, tag }));
    const range = { kinds: ["key", "value"], tokens, positions, streams, settings } as const;
    const decode = () =>
      codec.decode({
        op: "decode",
        region: "chunk",
        ...range,
        targetPositions: positions,
        layerBegin: 0,
        layerEnd: model.layers,
      });
    const inflate = () => codec.inflate({ op: "inflate", region: "chunk", ...range });
    if (most === own) assertEquals((await decode()).length + (await inflate()).length, 3);
    else for (const run of [decode, inflate]) await assertRejects(run, KvzFormatError, "side information");
  }
});
