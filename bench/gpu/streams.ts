/**
 * rANS streams on a GPU: calls of the coder's kernels and streams in them, and times of compressing and restoring the
 * sample, eight times over.
 *
 *     deno run -A bench/gpu/streams.ts cuda|webgpu [recipes, by default kvtc,cachegen]
 *
 * @module
 */
import type { GpuEntropy } from "../../src/backend/gpu/entropy.ts";
import { readSafetensors } from "../../src/adapters/safetensors.ts";
import { type BackendOptions, createBackend } from "../../src/backend/select.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import type { Kind } from "../../src/cache/types.ts";
import { Codec } from "../../src/codec/codec.ts";
import { Lanes } from "../../src/codec/lanes.ts";
import type { CompressOptions } from "../../src/codec/options.ts";
import { parseProfile } from "../../src/profile/profile_format.ts";
import { joinRows } from "../../src/stages/tokens/join.ts";

const REPEATS = 8;
const OPTIONS: Record<string, CompressOptions> = {
  kvtc: { recipe: "kvtc", ratio: 32, entropy: "rans" },
  lossless: { recipe: "lossless" },
  cachegen: { recipe: "cachegen" },
};

const [name = "webgpu", recipes = "kvtc,cachegen"] = Deno.args;
const cache = repeated(await readSafetensors(await Deno.readFile("samples/smollm2-256.safetensors")));
const profile = await parseProfile(await Deno.readFile("samples/smollm2-demo.kvzp"));
const backend = await createBackend({ backend: name as BackendOptions["backend"] });
const entropy = backend.gpu?.entropy;
if (!entropy) throw new Error(`Backend ${name} has no entropy kernels`);
const calls = { encode: [] as number[], decode: [] as number[] };
count(entropy);
await using codec = new Codec(profile, await Lanes.open({}, () => Promise.resolve(backend)));
console.log("| recipe | encode: calls, streams | decode: calls, streams | compress, s | restore, s |");
console.log("| --- | --- | --- | --- | --- |");
for (const recipe of recipes.split(",")) {
  calls.encode.length = calls.decode.length = 0;
  const begin = performance.now();
  const { bytes } = await codec.compress(cache, OPTIONS[recipe]);
  const middle = performance.now();
  await codec.decompress(bytes);
  const seconds = [middle - begin, performance.now() - middle].map((ms) => (ms / 1000).toFixed(2));
  const counts = Object.values(calls).map((list) => `${list.length}, ${list.reduce((sum, n) => sum + n, 0)}`);
  console.log(`| ${[recipe, ...counts, ...seconds].join(" | ")} |`);
}

/** Counts what later calls of the kernels code. */
function count(kernels: GpuEntropy): void {
  const { encode, decode } = kernels;
  kernels.encode = (symbols, batch, ...rest) => {
    calls.encode.push(batch.streams);
    encode.call(kernels, symbols, batch, ...rest);
  };
  kernels.decode = (bytes, begins, batch, ...rest) => {
    calls.decode.push(batch.streams);
    decode.call(kernels, bytes, begins, batch, ...rest);
  };
}

/** A cache's tokens again and again. */
function repeated(cache: KvCache): KvCache {
  const { model, dtype, tokens } = cache;
  const tensor = (kind: Kind, layer: number) => {
    const own = cache.sliceLayers(layer, layer + 1).read(kind, 0, tokens);
    let all = own;
    for (let i = 1; i < REPEATS; i++) all = joinRows(all, own, model.kvHeads);
    return all;
  };
  const layers = Array.from({ length: model.layers }, (_, i) => ({ key: tensor("key", i), value: tensor("value", i) }));
  const positions = Int32Array.from({ length: REPEATS * tokens }, (_, i) => i);
  return new KvCache({ model, dtype, positions, layers });
}
