/**
 * Recipes with rANS on GPUs: the streams of a chunk, and of several chunks under way, go to the coder together, and files
 * are those of the host.
 */
import { assert, assertEquals, assertGreater } from "deno-std/assert";
import type { Backend } from "../../src/backend/backend.ts";
import { createBackend } from "../../src/backend/select.ts";
import { Codec } from "../../src/codec/codec.ts";
import { Lanes } from "../../src/codec/lanes.ts";
import { openCodec } from "../../src/codec/open.ts";
import type { CompressOptions } from "../../src/codec/options.ts";
import type { Profile } from "../../src/profile/types.ts";
import { BACKENDS } from "../backend/backends.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";

const GPUS = BACKENDS.filter(([name]) => name === "cuda" || name === "webgpu");
/** Chunks of 256 (kvtc), 512 (lossless) and 1024 (cachegen) tokens; the last is shorter. */
const TOKENS = 1300;

/** Streams of each call of the kernels that a task makes. */
async function streamsOf(backend: Backend, task: () => Promise<void>): Promise<{ encode: number[]; decode: number[] }> {
  const entropy = backend.gpu!.entropy!;
  const { encode, decode } = entropy;
  const calls: { encode: number[]; decode: number[] } = { encode: [], decode: [] };
  entropy.encode = (symbols, batch, ...rest) => {
    calls.encode.push(batch.streams);
    encode.call(entropy, symbols, batch, ...rest);
  };
  entropy.decode = (bytes, begins, batch, ...rest) => {
    calls.decode.push(batch.streams);
    decode.call(entropy, bytes, begins, batch, ...rest);
  };
  await task();
  Object.assign(entropy, { encode, decode });
  return calls;
}

for (const [name, options] of GPUS) {
  const open = async (profile: Profile | null) => {
    const backend = await createBackend(options);
    return { backend, codec: new Codec(profile, await Lanes.open({}, () => Promise.resolve(backend))) };
  };

  Deno.test(`${name}: kvtc with rANS: several chunks go together, and restore what DEFLATE restores`, async () => {
    const { backend, codec } = await open(syntheticProfile());
    await using _ = codec;
    const cache = syntheticCache(TOKENS);
    const settings: CompressOptions = { recipe: "kvtc", ratio: 6, sinks: 3, window: 20 };
    const { cache: wanted } = await codec.decompress((await codec.compress(cache, settings)).bytes);
    const calls = await streamsOf(backend, async () => {
      const { bytes } = await codec.compress(cache, { ...settings, entropy: "rans" });
      assert((await codec.decompress(bytes)).cache.equals(wanted));
    });
    // A chunk has two streams of one form at most: these are several chunks'. Of few is rANS the shorter code.
    assertGreater(Math.max(...calls.encode), 4);
    assertGreater(Math.max(...calls.decode), 2);
  });

  Deno.test(`${name}: lossless and cachegen: streams go together, files are the host's`, async () => {
    const { backend, codec } = await open(null);
    await using _ = codec;
    await using host = await openCodec(null, { backend: "wasm" });
    for (
      const [settings, dtype, together] of [
        // Keys have a stream a pair of elements that turns: four.
        [{ recipe: "lossless" }, "f16", 4],
        [{ recipe: "lossless" }, "bf16", 4],
        // And one a layer.
        [{ recipe: "cachegen" }, "f16", 3],
      ] as const
    ) {
      const cache = syntheticCache(TOKENS, { dtype, seed: 5 });
      const wanted = (await host.compress(cache, settings)).bytes;
      const calls = await streamsOf(backend, async () => {
        const { bytes } = await codec.compress(cache, settings);
        assertEquals(bytes, wanted);
        assert((await codec.decompress(bytes)).cache.equals((await host.decompress(bytes)).cache));
      });
      for (const list of Object.values(calls)) assertGreater(Math.max(...list), together - 1, settings.recipe);
    }
  });
}
