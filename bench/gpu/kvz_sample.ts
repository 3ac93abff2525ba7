/**
 * Whole compress and restore of a cache with recipe kvz, from and to the host's memory and on the device, beside WebAssembly
 * with one thread in the same run. Files of both are restored by both, and compared.
 *
 * @module
 */
import { readSafetensors } from "../../src/adapters/safetensors.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import { f16ToNumber } from "../../src/cache/elements.ts";
import { KINDS } from "../../src/cache/types.ts";
import type { Codec } from "../../src/codec/codec.ts";
import { openCodec } from "../../src/codec/open.ts";
import { parseProfile } from "../../src/profile/profile.ts";

/** Measures and prints JSON lines. */
export async function benchSample(backend: "cuda" | "webgpu", profilePath: string, cachePath: string, rounds: number) {
  const cache = await readSafetensors(await Deno.readFile(cachePath));
  const profile = await parseProfile(await Deno.readFile(profilePath));
  const codecs: [string, Codec][] = [
    [backend, await openCodec(profile, { backend })],
    ["wasm", await openCodec(profile, { backend: "wasm" })],
  ];
  const files: Uint8Array[] = [];
  for (const [name, codec] of codecs) {
    let [compress, restore, device] = [Infinity, Infinity, Infinity];
    let file: Uint8Array = new Uint8Array(0);
    for (let round = 0; round <= rounds; round++) {
      const { bytes, report } = await codec.compress(cache, { recipe: "kvz" });
      const restored = await codec.decompress(bytes);
      file = bytes;
      if (name !== "wasm") {
        const onDevice = await codec.decompressOnDevice(bytes);
        onDevice.free();
        if (round > 0) device = Math.min(device, onDevice.report.seconds);
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
      ...(device < Infinity ? { restoreOnDeviceTokensPerSecond: rate(device) } : {}),
    }));
  }
  for (const [i, file] of files.entries()) {
    const [a, b] = [await codecs[0][1].decompress(file), await codecs[1][1].decompress(file)];
    console.log(JSON.stringify({ fileOf: codecs[i][0], ...differences(a.cache, b.cache) }));
  }
  for (const [, codec] of codecs) await codec.close();
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
