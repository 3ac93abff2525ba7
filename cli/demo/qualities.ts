/**
 * The demo's cache through recipe kvz at its three qualities.
 *
 * @module
 */
import type { KvCache } from "../../src/cache/kv_cache.ts";
import type { CacheSource } from "../../src/cache/types.ts";
import type { Codec } from "../../src/codec/codec.ts";
import { QUALITIES, QUALITY_KL } from "../../src/recipes/kvz.ts";
import type { DemoOptions } from "./measure.ts";
import type { QualityRun } from "./data.ts";

/** Compresses and restores at every quality, from the smallest file to the best. */
export async function measureQualities(
  codec: Codec,
  cache: CacheSource | KvCache,
  { signal, onProgress }: Pick<DemoOptions, "signal" | "onProgress">,
): Promise<QualityRun[]> {
  const profile = codec.profile;
  const measured = profile?.method === "kvz" && profile.curve.length > 0;
  const runs: QualityRun[] = [];
  for (const [i, quality] of QUALITIES.entries()) {
    onProgress({ done: i, total: QUALITIES.length, stage: `recipe kvz, ${quality}` });
    const options = { recipe: "kvz", quality, signal };
    // The first call of a quality uploads its basis; it is not timed.
    const { bytes } = await codec.compress(cache, options);
    await codec.decompress(bytes, { signal });
    const { report } = await codec.compress(cache, options);
    const restored = await codec.decompress(bytes, { signal });
    runs.push({
      quality,
      bytesOut: bytes.length,
      fileRatio: report.fileRatio,
      predictedKl: measured ? QUALITY_KL[quality] : null,
      compressTokensPerSecond: cache.tokens / report.seconds,
      decompressTokensPerSecond: cache.tokens / restored.report.seconds,
    });
  }
  return runs;
}
