/** Recipe kvtc, and those that work on the host, over all pairs of backends; kvtc from and to a GPU's memory. */
import { assert, assertEquals, assertLess, assertRejects } from "deno-std/assert";
import { countBus } from "../../bench/gpu/count_bus.ts";
import type { Backend, DeviceBuffer } from "../../src/backend/backend.ts";
import { createBackend } from "../../src/backend/select.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { BYTES_PER_ELEMENT, type Kind, KINDS } from "../../src/cache/types.ts";
import { Codec } from "../../src/codec/codec.ts";
import { DeviceCache, memoryOf } from "../../src/codec/device_cache.ts";
import { Lanes } from "../../src/codec/lanes.ts";
import { openCodec } from "../../src/codec/open.ts";
import type { CompressOptions } from "../../src/codec/options.ts";
import { KvzUnsupportedError } from "../../src/errors.ts";
import { BACKENDS } from "../backend/backends.ts";
import { SMALL_MODEL, syntheticCache, syntheticProfile } from "../synthetic.ts";
import { relativeError } from "./helpers.ts";

const profile = syntheticProfile();
const GPUS = BACKENDS.filter(([name]) => name === "cuda" || name === "webgpu");

/** Codecs on every backend, and the backends, so that the test can use their memory. */
async function openAll(): Promise<{ name: string; codec: Codec; backend: Backend }[]> {
  return await Promise.all(BACKENDS.map(async ([name, options]) => {
    const backend = await createBackend(options);
    return { name, backend, codec: new Codec(profile, await Lanes.open({}, () => Promise.resolve(backend))) };
  }));
}

Deno.test("what one backend encodes every other decodes: kvtc with both coders, lossless, kvz-free", async (t) => {
  const all = await openAll();
  const cache = syntheticCache(150, { seed: 21 });
  const settings: [string, CompressOptions][] = [
    ["kvtc", { recipe: "kvtc", ratio: 4, sinks: 3, window: 20 }],
    ["kvtc with rANS", { recipe: "kvtc", ratio: 4, sinks: 3, window: 20, entropy: "rans" }],
    ["lossless", { recipe: "lossless" }],
    ["kvz-free", { recipe: "kvz-free", step: 0.1 }],
  ];
  for (const [what, options] of settings) {
    await t.step(what, async () => {
      const files = await Promise.all(all.map(async ({ codec }) => (await codec.compress(cache, options)).bytes));
      const host = all.findIndex(({ name }) => name === "wasm relaxed");
      for (const [i, bytes] of files.entries()) {
        const { cache: wanted } = await all[host].codec.decompress(bytes);
        for (const { name, codec } of all) {
          const { cache: found } = await codec.decompress(bytes);
          if (options.recipe === "lossless") {
            assert(found.equals(cache), `${all[i].name} → ${name}`);
            continue;
          }
          // The same codes: what remains is what the products round, on CUDA to binary16.
          for (const kind of KINDS) {
            assertLess(relativeError(wanted, found, kind, 0, 150), 2e-3, `${all[i].name} → ${name}`);
          }
        }
        // Coefficients may differ in their last bits, and a code of many with them; the streams keep their length.
        assertLess(Math.abs(Math.log(bytes.length / files[host].length)), 0.02, all[i].name);
      }
    });
  }
  for (const { codec } of all) await codec.close();
});

/** A cache in memory of the backend. */
function toDevice(backend: Backend, cache: KvCache, buffers: DeviceBuffer[]): DeviceCache {
  const { model, dtype, tokens, positions } = cache;
  const tensor = (kind: Kind, layer: number) => {
    const bytes = cache.read(kind, 0, tokens);
    const length = bytes.length / model.layers;
    const buffer = backend.alloc(length);
    buffers.push(buffer);
    backend.write(buffer, bytes.subarray(layer * length, (layer + 1) * length));
    return { memory: memoryOf(backend).memoryOf(buffer) };
  };
  const layers = Array.from({ length: model.layers }, (_, i) => ({ key: tensor("key", i), value: tensor("value", i) }));
  return new DeviceCache({ model, dtype, positions }, layers);
}

async function toHost(backend: Backend, cache: DeviceCache): Promise<KvCache> {
  const { model, dtype, positions, tokens } = cache;
  const tensor = async (kind: Kind, layer: number) => {
    const row = (kind === "key" ? model.keyDim : model.valueDim) * BYTES_PER_ELEMENT[dtype];
    const bytes = model.kvHeads * tokens * row;
    return await backend.read(memoryOf(backend).wrap(cache.layers[layer][kind].memory, 0, bytes), 0, bytes);
  };
  const layers: { key: Uint8Array; value: Uint8Array }[] = [];
  for (let i = 0; i < model.layers; i++) layers.push({ key: await tensor("key", i), value: await tensor("value", i) });
  return new KvCache({ model, dtype, positions, layers });
}

for (const [name, options] of GPUS) {
  for (const entropy of ["deflate", "rans"] as const) {
    Deno.test(`${name}, ${entropy}: a cache in the GPU's memory gives the host's file, comes back, and nothing leaks`, async () => {
      const backend = await createBackend(options) as Backend & { readonly device: { readonly bytesInUse: number } };
      await using codec = new Codec(profile, await Lanes.open({}, () => Promise.resolve(backend)));
      const cache = syntheticCache(entropy === "rans" ? 600 : 150, { seed: 22, inputIds: false });
      const settings = { recipe: "kvtc", ratio: 4, sinks: 3, window: 20, entropy };
      const wanted = (await codec.compress(cache, settings)).bytes;
      let before = -1;
      for (let round = 0; round < 2; round++) {
        const buffers: DeviceBuffer[] = [];
        const { bytes } = await codec.compress(toDevice(backend, cache, buffers), settings);
        assertEquals(bytes, wanted);
        const { cache: there, free } = await codec.decompressOnDevice(bytes);
        assert((await toHost(backend, there)).equals((await codec.decompress(bytes)).cache));
        free();
        for (const buffer of buffers) buffer.free();
        const { bytesInUse } = backend.device;
        if (round === 0) before = bytesInUse;
        assertEquals(bytesInUse, before);
        assert(bytesInUse > 0);
      }
    });
  }

  Deno.test(`${name}: with rANS, codes come from the GPU as counts and coded bytes, and go back as the latter`, async () => {
    const backend = await createBackend(options);
    const crossed = countBus(backend);
    await using codec = new Codec(profile, await Lanes.open({}, () => Promise.resolve(backend)));
    const tokens = 1300;
    const cache = syntheticCache(tokens, { seed: 23, inputIds: false });
    const device = toDevice(backend, cache, []);
    const run = async (entropy: "deflate" | "rans") => {
      const settings = { recipe: "kvtc", ratio: 6, sinks: 3, window: 0, entropy } as const;
      const { bytes } = await codec.compress(device, settings);
      const there = await crossed(() => codec.compress(device, settings));
      const back = await crossed(async () => (await codec.decompressOnDevice(bytes)).free());
      return { there, back };
    };
    const [deflate, rans] = [await run("deflate"), await run("rans")];
    // The host gets counts and rows of 8 bits, and gives tables and shifts; no code of 2 or 4 bits crosses by itself.
    assertLess(rans.there.written, 1.3 * deflate.there.written);
    assertLess(rans.there.read, 2.5 * deflate.there.read);
    // On the way back it reads whether streams were whole.
    assertLess(rans.back.read, 64);
    assertLess(rans.back.written, 1.15 * deflate.back.written);
  });

  Deno.test(`${name}: coefficients beyond binary16 are refused with the position, by both coders`, async () => {
    const model = { ...SMALL_MODEL, rope: null };
    const key = new Float32Array(2 * 50 * 10);
    // Both heads of the token at 17.
    for (const head of [0, 1]) key.fill(3e5, (head * 50 + 17) * 10, (head * 50 + 18) * 10);
    const layers = Array.from({ length: 3 }, () => ({
      key: new Uint8Array(key.slice().buffer),
      value: new Uint8Array(new Float32Array(2 * 50 * 6).buffer),
    }));
    const positions = Int32Array.from({ length: 50 }, (_, i) => i);
    const cache = new KvCache({ model, dtype: "f32", positions, layers });
    await using codec = await openCodec(syntheticProfile(model), options);
    for (const entropy of ["deflate", "rans"] as const) {
      const settings = { recipe: "kvtc", ratio: 4, window: 0, entropy };
      await assertRejects(() => codec.compress(cache, settings), KvzUnsupportedError, "position 17");
    }
  });
}
