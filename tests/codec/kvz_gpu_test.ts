/** Recipe kvz on the GPU backends: files of either side restore on the other, from and to both kinds of memory. */
import { assert, assertEquals, assertRejects } from "deno-std/assert";
import { createBackend } from "../../src/backend/select.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { BYTES_PER_ELEMENT, type Kind, KINDS } from "../../src/cache/types.ts";
import { Codec } from "../../src/codec/codec.ts";
import { DeviceCache, memoryOf } from "../../src/codec/device_cache.ts";
import { Lanes } from "../../src/codec/lanes.ts";
import { openCodec } from "../../src/codec/open.ts";
import { cutStepSet } from "../../src/stages/quantize/trellis/model.ts";
import { type ChunkCoder, type ChunkStreams, openLevelCoder } from "../../src/stages/quantize/trellis/level_coder.ts";
import type { Backend } from "../../src/backend/backend.ts";
import { KvzFormatError } from "../../src/errors.ts";
import { BACKENDS, generator } from "../backend/backends.ts";
import { syntheticCache } from "../synthetic.ts";
import { relativeError } from "./helpers.ts";
import { smallKvzProfile } from "./kvz_profile.ts";

const profile = await smallKvzProfile();
const GPUS = BACKENDS.filter(([name]) => name === "cuda" || name === "webgpu");

/** Both have the same elements, but for one place in the last digit of binary16 on WebGPU, which may fuse a product and a sum. */
function requireSame(found: KvCache, wanted: KvCache, backend: string): void {
  if (backend !== "webgpu") assert(found.equals(wanted), backend);
  for (const kind of KINDS) {
    const [a, b] = [found, wanted].map((cache) => new Int16Array(cache.read(kind, 0, cache.tokens).slice().buffer));
    // Magnitudes with a sign are in the order of the numbers.
    const order = (bits: number) => bits < 0 ? -(bits & 0x7fff) : bits;
    assert(a.length === b.length && a.every((bits, i) => Math.abs(order(bits) - order(b[i])) <= 1));
  }
}

Deno.test("recipe kvz: what one backend encodes every other decodes", async () => {
  const all = await Promise.all(
    BACKENDS.map(async ([name, options]) => ({ name, codec: await openCodec(profile, options) })),
  );
  const cache = syntheticCache(70, { seed: 15, firstPosition: 5 });
  for (const settings of [{ sinks: 4, window: 20 }, { sinks: 0, window: 0, step: 0.01 }]) {
    const files = await Promise.all(all.map(async ({ codec }) => (await codec.compress(cache, settings)).bytes));
    for (const [i, bytes] of files.entries()) {
      // The reference's, which are the host's whatever its build.
      const { cache: wanted } = await all[0].codec.decompress(bytes);
      for (const { name, codec } of all) requireSame((await codec.decompress(bytes)).cache, wanted, name);
      for (const kind of KINDS) assert(relativeError(cache, wanted, kind, 0, 70) < 0.6, all[i].name);
      // Coefficients differ in their last bits at most.
      assert(Math.abs(Math.log(bytes.length / files[0].length)) < 0.01, all[i].name);
    }
  }
  for (const { codec } of all) await codec.close();
});

for (const [name, options] of GPUS) {
  Deno.test(`${name}: files of recipe kvz restore alike here and on the host, whichever made them`, async () => {
    const cache = syntheticCache(100, { seed: 9, firstPosition: 77 });
    await using host = await openCodec(profile, { backend: "wasm" });
    await using gpu = await openCodec(profile, options);
    for (const settings of [{ sinks: 20, window: 30 }, { step: 1e-4 }]) {
      const { bytes, report } = await gpu.compress(cache, settings);
      // Nothing is left to the host.
      assertEquals(report.host, undefined);
      const files = [(await host.compress(cache, settings)).bytes, bytes];
      assertEquals(files[1], (await gpu.compress(cache, settings)).bytes);
      for (const bytes of files) {
        for (const where of [{}, { firstPosition: 5000 }]) {
          const { cache: wanted } = await host.decompress(bytes, where);
          requireSame((await gpu.decompress(bytes, where)).cache, wanted, name);
        }
      }
      // Coefficients differ in their last bits at most.
      assert(Math.abs(Math.log(files[0].length / files[1].length)) < 0.01);
    }
  });

  Deno.test(`${name}: layers of recipe kvz one by one, and tokens appended`, async () => {
    const cache = syntheticCache(140, { seed: 11 });
    await using host = await openCodec(profile, { backend: "wasm" });
    await using gpu = await openCodec(profile, options);
    const { bytes } = await gpu.compress(cache.slice(0, 90));
    const { cache: whole } = await gpu.decompress(bytes);
    for await (const { layer, key, value } of gpu.layers(bytes)) {
      const one = whole.sliceLayers(layer, layer + 1);
      assertEquals(key, one.read("key", 0, 90));
      assertEquals(value, one.read("value", 0, 90));
    }
    const grown = (await gpu.append(bytes, cache.slice(90, 140))).bytes;
    const { cache: restored } = await gpu.decompress(grown);
    assert(restored.slice(0, 90).equals(whole));
    requireSame(restored, (await host.decompress(grown)).cache, name);
    for (const kind of KINDS) assert(relativeError(cache, restored, kind, 90, 140) < 0.6);
  });

  Deno.test(`${name}: damaged streams of a chunk give the host's errors`, async () => {
    const [components, tokens] = [48, 45];
    const sets = profile.stepSets.map((set) => cutStepSet(set, components));
    const open = async (backend: Backend) => await openLevelCoder(backend, components, sets, profile.tables);
    using gpu = await createBackend(options);
    using host = await createBackend({ backend: "wasm" });
    using there = await open(gpu);
    using here = await open(host);
    const next = generator(5);
    const y = Int32Array.from({ length: components * tokens }, () => Math.round(4000 * (2 * next() - 1) ** 5));
    const { s } = sets[0];
    const streams = await here.encode(y, s, components, tokens, 0.3, null);
    assert(streams.escapes.length > 20);
    const outcome = async (coder: ChunkCoder, damaged: ChunkStreams) => {
      try {
        return await coder.decode(damaged, tokens);
      } catch (error) {
        return `${(error as Error).name}: ${(error as Error).message}`;
      }
    };
    const messages = new Set<unknown>();
    for (let i = 0; i < 60; i++) {
      const name = (["side", "symbols", "escapes"] as const)[i % 3];
      let bytes = streams[name].slice();
      if (i % 4 === 0) bytes = bytes.slice(0, Math.floor(bytes.length * next()) & ~1);
      else bytes[Math.floor(bytes.length * (i % 2 === 0 ? next() : next() ** 4))] ^= 1 << Math.floor(8 * next());
      const damaged = { ...streams, [name]: bytes };
      const wanted = await outcome(here, damaged);
      assertEquals(await outcome(there, damaged), wanted, `damage ${i}, ${name}`);
      if (typeof wanted === "string") messages.add(wanted);
    }
    assert(messages.size >= 8, [...messages].join("\n"));
  });

  Deno.test(`${name}: caches in device memory give the files of those on the host, and come back there`, async () => {
    const cache = syntheticCache(75, { seed: 13 });
    const backend = await createBackend(options);
    await using codec = new Codec(profile, await Lanes.open({}, () => Promise.resolve(backend)));
    const { bytes } = await codec.compress(cache);
    const there = onDevice(backend, cache);
    assertEquals((await codec.compress(there)).bytes, bytes);
    const { cache: restored, free } = await codec.decompressOnDevice(bytes);
    const { cache: wanted } = await codec.decompress(bytes);
    assert((await onHost(backend, restored)).equals(wanted));
    free();
    const broken = bytes.slice(0, -20);
    await assertRejects(() => codec.decompressOnDevice(broken), KvzFormatError);
  });
}

/** A cache in memory of the backend. */
function onDevice(backend: Backend, cache: KvCache): DeviceCache {
  const { model, dtype, positions, tokens } = cache;
  const layers = Array.from({ length: model.layers }, (_, layer) => {
    const tensor = (kind: Kind) => {
      const bytes = cache.sliceLayers(layer, layer + 1).read(kind, 0, tokens);
      const buffer = backend.alloc(bytes.length);
      backend.write(buffer, bytes);
      return { memory: memoryOf(backend).memoryOf(buffer) };
    };
    return { key: tensor("key"), value: tensor("value") };
  });
  return new DeviceCache({ model, dtype, positions, ...(cache.inputIds ? { inputIds: cache.inputIds } : {}) }, layers);
}

/** A cache of the host from one in device memory. */
async function onHost(backend: Backend, cache: DeviceCache): Promise<KvCache> {
  const { model, dtype, positions, inputIds, tokens } = cache;
  const layers: Record<Kind, Uint8Array>[] = [];
  for (const tensors of cache.layers) {
    const read = async (kind: Kind) => {
      const bytes = model.kvHeads * tokens * (kind === "key" ? model.keyDim : model.valueDim) *
        BYTES_PER_ELEMENT[dtype];
      return await backend.read(memoryOf(backend).wrap(tensors[kind].memory, 0, bytes), 0, bytes);
    };
    layers.push({ key: await read("key"), value: await read("value") });
  }
  return new KvCache({ model, dtype, positions, layers, ...(inputIds ? { inputIds } : {}) });
}
