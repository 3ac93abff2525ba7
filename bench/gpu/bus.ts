/**
 * Bytes that cross the bus when a cache in a GPU's memory is compressed there and restored into it: SmolLM2's sample, no raw
 * window, by recipe.
 *
 *     deno run -A bench/gpu/bus.ts cuda|webgpu
 *
 * @module
 */
import { readSafetensors } from "../../src/adapters/safetensors.ts";
import type { Backend } from "../../src/backend/backend.ts";
import { type BackendOptions, createBackend } from "../../src/backend/select.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import type { Kind } from "../../src/cache/types.ts";
import { Codec } from "../../src/codec/codec.ts";
import { DeviceCache, memoryOf } from "../../src/codec/device_cache.ts";
import { Lanes } from "../../src/codec/lanes.ts";
import type { CompressOptions } from "../../src/codec/options.ts";
import { countBus } from "./count_bus.ts";
import { parseProfile } from "../../src/profile/profile_format.ts";

const SETTINGS: readonly (readonly [name: string, profile: string, options: CompressOptions])[] = [
  ["kvtc, 32×, DEFLATE", "demo", { recipe: "kvtc", ratio: 32, window: 0 }],
  ["kvtc, 32×, rANS", "demo", { recipe: "kvtc", ratio: 32, window: 0, entropy: "rans" }],
  ["kvz, balanced", "kvz", { recipe: "kvz" }],
];

const [name = "webgpu"] = Deno.args;
const cache = await readSafetensors(await Deno.readFile("samples/smollm2-256.safetensors"));
console.log("| recipe | file | read to compress | written | read to restore | written |");
console.log("| --- | --- | --- | --- | --- | --- |");
for (const [recipe, file, options] of SETTINGS) {
  const open = () => createBackend({ backend: name as BackendOptions["backend"] });
  const backend = await open();
  const crossed = countBus(backend);
  const profile = await parseProfile(await Deno.readFile(`samples/smollm2-${file}.kvzp`));
  // The lane's backend is the first; what recipe kvz computes once a profile has one of its own.
  const opened = [backend];
  await using codec = new Codec(profile, await Lanes.open({}, async () => opened.pop() ?? await open()));
  const device = toDevice(backend, cache);
  // The first time bases go there.
  const { bytes } = await codec.compress(device, options);
  const there = await crossed(() => codec.compress(device, options));
  (await codec.decompressOnDevice(bytes)).free();
  const back = await crossed(async () => (await codec.decompressOnDevice(bytes)).free());
  console.log(`| ${[recipe, bytes.length, there.read, there.written, back.read, back.written].join(" | ")} |`);
}

/** A cache in memory of the backend. */
function toDevice(backend: Backend, cache: KvCache): DeviceCache {
  const { model, dtype, tokens, positions } = cache;
  const tensor = (kind: Kind, layer: number) => {
    const bytes = cache.sliceLayers(layer, layer + 1).read(kind, 0, tokens);
    const buffer = backend.alloc(bytes.length);
    backend.write(buffer, bytes);
    return { memory: memoryOf(backend).memoryOf(buffer) };
  };
  const layers = Array.from({ length: model.layers }, (_, i) => ({ key: tensor("key", i), value: tensor("value", i) }));
  return new DeviceCache({ model, dtype, positions }, layers);
}
