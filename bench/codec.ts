/**
 * Whole compress and decompress in tokens/s and MB/s (of the cache's bytes), by wasm build and by number of threads, and
 * as a share of a bare f32 GEMM tile in the same process. Runs are interleaved; the best of N counts.
 *
 *     deno run -A bench/codec.ts [--cache C.safetensors] [--profile P.kvzp] [--ratios 8,16,32] [--rounds 5]
 *         [--builds relaxed,simd,base] [--threads 1,2] [--window 128] [--json]
 *
 * @module
 */
import { openCodec } from "../src/codec/open.ts";
import { planComponents } from "../src/stages/quantize/plan_format.ts";
import { planFor } from "../src/profile/profile.ts";
import type { WasmBuild } from "../src/backend/wasm/exports.ts";
import { flag, loadInputs, option } from "./inputs.ts";
import { openPeak } from "./peak.ts";

const { cache, profile } = await loadInputs();
const ratios = option("ratios", "32,64").split(",").map(Number);
const rounds = Number(option("rounds", "5"));
const window = Number(option("window", cache.tokens > 512 ? "128" : "32"));
const builds = option("builds", "relaxed,simd,base").split(",") as WasmBuild[];
// More threads than one only for the first build: what they give does not depend on it.
const variants = builds.flatMap((build, i) =>
  option("threads", "1,2").split(",").map(Number).filter((threads) => i === 0 || threads === 1).map((threads) => ({
    build,
    threads,
  }))
);

interface Row {
  ratio: number;
  build: string;
  threads: number;
  compress: number;
  decompress: number;
  compressMBps: number;
  decompressMBps: number;
  /** Share of the bare GEMM rate of one core and the same build that the transform's FLOP alone account for. */
  compressOfGemm: number;
  decompressOfGemm: number;
}

const rows: Row[] = [];
const gemm: Record<string, number> = {};
const peaks = new Map(await Promise.all(builds.map(async (build) => [build, await openPeak(build)] as const)));

for (const ratio of ratios) {
  const components = planComponents(planFor(profile, "key", ratio)) + planComponents(planFor(profile, "value", ratio));
  // Both kinds have the same number of features in every model so far; each is counted by its own.
  const flop = 2 * (planComponents(planFor(profile, "key", ratio)) * profile.kinds.key.features +
    planComponents(planFor(profile, "value", ratio)) * profile.kinds.value.features);
  const codecs = await Promise.all(variants.map((variant) => openCodec(profile, { backend: "wasm", ...variant })));
  const best = variants.map(() => ({ compress: Infinity, decompress: Infinity }));
  const { bytes } = await codecs[0].compress(cache, { ratio, window });
  // One round more than counted: the first compiles and plans.
  for (let round = 0; round <= rounds; round++) {
    // The yardstick in the same rounds: this machine's speed drifts.
    for (const [build, peak] of peaks) gemm[build] = Math.max(gemm[build] ?? 0, peak.gemmTile(4e9));
    for (const [i, codec] of codecs.entries()) {
      const { report } = await codec.compress(cache, { ratio, window });
      const restored = await codec.decompress(bytes);
      if (round === 0) continue;
      best[i].compress = Math.min(best[i].compress, report.seconds);
      best[i].decompress = Math.min(best[i].decompress, restored.report.seconds);
    }
  }
  for (const codec of codecs) await codec.close();
  const size = (cache.model.keyDim + cache.model.valueDim) * cache.model.layers * cache.model.kvHeads * 2 *
    cache.tokens;
  const coded = cache.tokens - window - 4;
  variants.forEach(({ build, threads }, i) => {
    const { compress, decompress } = best[i];
    rows.push({
      ratio,
      build,
      threads,
      compress: cache.tokens / compress,
      decompress: cache.tokens / decompress,
      compressMBps: size / compress / 1e6,
      decompressMBps: size / decompress / 1e6,
      compressOfGemm: coded * flop / compress / 1e9 / (gemm[build] * threads),
      decompressOfGemm: coded * flop / decompress / 1e9 / (gemm[build] * threads),
    });
  });
  console.error(`ratio ${ratio}: ${components} components, ${(flop / 1e6).toFixed(1)} MFLOP a token each way`);
}

if (flag("json")) {
  console.log(JSON.stringify({ tokens: cache.tokens, window, rounds, gemmGflops: gemm, rows }));
} else {
  console.log(`${cache.tokens} tokens, window ${window}, best of ${rounds}; bare GEMM tile, GFLOP/s a core:`, gemm);
  console.table(rows.map((row) => ({
    ...row,
    compress: Math.round(row.compress),
    decompress: Math.round(row.decompress),
    compressMBps: row.compressMBps.toFixed(1),
    decompressMBps: row.decompressMBps.toFixed(1),
    compressOfGemm: row.compressOfGemm.toFixed(2),
    decompressOfGemm: row.decompressOfGemm.toFixed(2),
  })));
}
