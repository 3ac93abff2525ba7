/**
 * Whole compress and restore with recipe kvz in tokens/s, by step, wasm build and number of threads. Runs are interleaved;
 * the best of N counts. Times are those of the call without the first one, which uploads the basis.
 *
 *     deno run -A bench/kvz.ts --cache C.safetensors --profile P.kvzp [--steps 0.0095,0.0154] [--rounds 5]
 *         [--recent 128] [--builds relaxed,simd] [--threads 1,2] [--json]
 *
 * @module
 */
import { readSafetensors } from "../src/adapters/safetensors.ts";
import type { WasmBuild } from "../src/backend/wasm/exports.ts";
import { openCodec } from "../src/codec/open.ts";
import { parseProfile } from "../src/profile/profile.ts";
import { flag, option } from "./inputs.ts";

const cache = await readSafetensors(await Deno.readFile(option("cache", "samples/smollm2-256.safetensors")));
const profile = await parseProfile(await Deno.readFile(option("profile", "smollm2.kvzp")));
const rounds = Number(option("rounds", "5"));
const recent = Number(option("recent", "128"));
const builds = option("builds", "relaxed,simd").split(",") as WasmBuild[];
const variants = builds.flatMap((build, i) =>
  option("threads", "1,2").split(",").map(Number).filter((threads) => i === 0 || threads === 1).map((threads) => ({
    build,
    threads,
  }))
);
const rows: Record<string, string | number>[] = [];
const codecs = await Promise.all(variants.map((variant) => openCodec(profile, { backend: "wasm", ...variant })));
for (const step of option("steps", "0.0095,0.0154,0.022").split(",").map(Number)) {
  const best = variants.map(() => ({ compress: Infinity, restore: Infinity }));
  const { bytes, report: { fileRatio } } = await codecs[0].compress(cache, { recipe: "kvz", step, recent });
  for (let round = 0; round <= rounds; round++) {
    for (const [i, codec] of codecs.entries()) {
      const { report } = await codec.compress(cache, { recipe: "kvz", step, recent });
      const restored = await codec.decompress(bytes);
      if (round === 0) continue;
      best[i].compress = Math.min(best[i].compress, report.seconds);
      best[i].restore = Math.min(best[i].restore, restored.report.seconds);
    }
  }
  for (const [i, { build, threads }] of variants.entries()) {
    rows.push({
      step,
      fileRatio: Number(fileRatio.toFixed(1)),
      build,
      threads,
      compress: Math.round(cache.tokens / best[i].compress),
      restore: Math.round(cache.tokens / best[i].restore),
    });
  }
}
for (const codec of codecs) await codec.close();
if (flag("json")) console.log(JSON.stringify({ tokens: cache.tokens, rounds, rows }));
else console.table(rows);
