/**
 * Whole compress and restore of a cache with recipe kvz, from and to the host's memory and on the device, beside WebAssembly
 * with one thread in the same run. Files of both are restored by both, and compared.
 *
 * @module
 */
import { readSafetensors } from "../../src/adapters/safetensors.ts";
import { KvCacheBuilder } from "../../src/cache/builder.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import { f16ToNumber } from "../../src/cache/elements.ts";
import { KINDS } from "../../src/cache/types.ts";
import type { Codec } from "../../src/codec/codec.ts";
import { openCodec } from "../../src/codec/open.ts";
import { parseProfile } from "../../src/profile/profile.ts";

/**
 * Measures and prints JSON lines.
 *
 * @param repeat times that the cache's tokens follow each other, restored at the positions where they then are
 */
export async function benchSample(
  backend: "cuda" | "webgpu",
  profilePath: string,
  cachePath: string,
  rounds: number,
  repeat: number,
) {
  const sample = await readSafetensors(await Deno.readFile(cachePath));
  const profile = await parseProfile(await Deno.readFile(profilePath));
  const codecs: [string, Codec][] = [
    [backend, await openCodec(profile, { backend })],
    ["wasm", await openCodec(profile, { backend: "wasm" })],
  ];
  const cache = await repeated(codecs[1][1], sample, repeat);
  const files: Uint8Array[] = [];
  for (const [name, codec] of codecs) {
    let [compress, restore] = [Infinity, Infinity];
    const there = { compress: Infinity, restore: Infinity };
    let file: Uint8Array = new Uint8Array(0);
    for (let round = 0; round <= rounds; round++) {
      const { bytes, report } = await codec.compress(cache, { recipe: "kvz" });
      const restored = await codec.decompress(bytes);
      file = bytes;
      if (name !== "wasm") {
        const onDevice = await codec.decompressOnDevice(bytes);
        const again = await codec.compress(onDevice.cache, { recipe: "kvz" });
        onDevice.free();
        if (round > 0) {
          there.restore = Math.min(there.restore, onDevice.report.seconds);
          there.compress = Math.min(there.compress, again.report.seconds);
        }
      }
      // The first uploads the basis.
      if (round === 0) continue;
      compress = Math.min(compress, report.seconds);
      restore = Math.min(restore, restored.report.seconds);
    }
    files.push(file);
    const rate = (seconds: number) => Math.round(cache.tokens / seconds);
    console.log(JSON.stringify({
      backend: name,
      tokens: cache.tokens,
      bytes: file.length,
      compressTokensPerSecond: rate(compress),
      restoreTokensPerSecond: rate(restore),
      ...(there.restore < Infinity
        ? {
          compressThereTokensPerSecond: rate(there.compress),
          restoreThereTokensPerSecond: rate(there.restore),
        }
        : {}),
    }));
  }
  for (const [i, file] of files.entries()) {
    const [a, b] = [await codecs[0][1].decompress(file), await codecs[1][1].decompress(file)];
    console.log(JSON.stringify({ fileOf: codecs[i][0], ...differences(a.cache, b.cache) }));
  }
  for (const [, codec] of codecs) await codec.close();
}

/** A cache's tokens again and again. */
async function repeated(codec: Codec, cache: KvCache, times: number): Promise<KvCache> {
  const { tokens, model, dtype } = cache;
  const positions = Int32Array.from({ length: tokens * times }, (_, t) => t);
  const builder = new KvCacheBuilder({ model, dtype, positions });
  const { bytes } = await codec.compress(cache, { recipe: "kvz", quality: "high" });
  for (let i = 0; i < times; i++) {
    const part = (await codec.decompress(bytes, { firstPosition: i * tokens })).cache;
    for (const kind of KINDS) builder.write(kind, 0, i * tokens, tokens, part.read(kind, 0, tokens));
  }
  return builder.build();
}

/** Elements of two restored caches that differ, and the largest difference. */
function differences(a: KvCache, b: KvCache) {
  let [differ, largest] = [0, 0];
  for (const kind of KINDS) {
    const [x, y] = [a, b].map((cache) => new Uint16Array(cache.read(kind, 0, cache.tokens).slice().buffer));
    x.forEach((bits, i) => {
      if (bits === y[i]) return;
      differ++;
      largest = Math.max(largest, Math.abs(f16ToNumber(bits) - f16ToNumber(y[i])));
    });
  }
  return { differ, largest };
}
