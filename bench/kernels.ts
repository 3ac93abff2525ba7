/**
 * Every kernel on one chunk of SmolLM2 (256 tokens, 30 layers × 3 heads × 64, 1560 components, fp16), in each wasm build:
 * GB/s of bytes read and written as a share of memcpy over as many bytes, or GFLOP/s as a share of multiply-adds in
 * registers and of the bare GEMM tile. All are measured in the same process, interleaved; the best of N counts.
 *
 *     deno run -A bench/kernels.ts [--builds relaxed,simd,base] [--rounds 20] [--json]
 *
 * @module
 */
import { createWasmBackend } from "../src/backend/wasm/create.ts";
import type { WasmBuild } from "../src/backend/wasm/exports.ts";
import { flag, option } from "./inputs.ts";
import { COMPONENTS, FEATURES, kernelsOf, TOKENS } from "../cli/bench/kernel_cases.ts";
import { openPeak, seconds } from "./peak.ts";

interface Row {
  readonly build: string;
  readonly kernel: string;
  readonly milliseconds: number;
  readonly gigabytesPerSecond: number;
  readonly ofMemcpy: number;
  readonly gflops?: number;
  readonly ofMultiplyAdds?: number;
  readonly ofGemmTile?: number;
}

async function measure(build: WasmBuild, rounds: number): Promise<{ rows: Row[]; peaks: Record<string, number> }> {
  using backend = await createWasmBackend({ build });
  const peak = await openPeak(build);
  const kernels = kernelsOf(backend);
  const best = kernels.map(() => Infinity);
  const copies = kernels.map(() => 0);
  const peaks = { multiplyAdds: 0, gemmTile: 0 };
  // One round more than counted: the engine compiles the kernels on the way.
  for (let round = 0; round <= rounds; round++) {
    for (const [i, { run, bytes, flop }] of kernels.entries()) {
      const took = seconds(run);
      const copied = peak.memcpy(bytes >> 1);
      const [fma, tile] = flop === undefined ? [0, 0] : [peak.multiplyAdds(flop), peak.gemmTile(flop)];
      if (round === 0) continue;
      best[i] = Math.min(best[i], took);
      copies[i] = Math.max(copies[i], copied);
      peaks.multiplyAdds = Math.max(peaks.multiplyAdds, fma);
      peaks.gemmTile = Math.max(peaks.gemmTile, tile);
    }
  }
  const rows = kernels.map(({ name, bytes, flop }, i): Row => {
    const rate = bytes / best[i] / 1e9;
    const row = {
      build,
      kernel: name,
      milliseconds: best[i] * 1e3,
      gigabytesPerSecond: rate,
      ofMemcpy: rate / copies[i],
    };
    if (flop === undefined) return row;
    const gflops = flop / best[i] / 1e9;
    return { ...row, gflops, ofMultiplyAdds: gflops / peaks.multiplyAdds, ofGemmTile: gflops / peaks.gemmTile };
  });
  return { rows, peaks };
}

const rounds = Number(option("rounds", "20"));
const results: Record<string, Awaited<ReturnType<typeof measure>>> = {};
for (const build of option("builds", "relaxed,simd,base").split(",") as WasmBuild[]) {
  results[build] = await measure(build, rounds);
}

if (flag("json")) {
  console.log(JSON.stringify({ tokens: TOKENS, features: FEATURES, components: COMPONENTS, rounds, results }));
} else {
  for (const [build, { rows, peaks }] of Object.entries(results)) {
    const [fma, tile] = [peaks.multiplyAdds.toFixed(1), peaks.gemmTile.toFixed(1)];
    console.log(
      `${build}: best of ${rounds}; multiply-adds in registers ${fma} GFLOP/s, bare GEMM tile ${tile} GFLOP/s`,
    );
    for (const { kernel, milliseconds, gflops, ofMultiplyAdds, ofGemmTile, gigabytesPerSecond, ofMemcpy } of rows) {
      const time = `  ${kernel.padEnd(19)}${milliseconds.toFixed(3).padStart(9)} ms`;
      console.log(
        gflops === undefined
          ? `${time}${gigabytesPerSecond.toFixed(2).padStart(8)} GB/s     ${percent(ofMemcpy)} of memcpy`
          : `${time}${gflops.toFixed(2).padStart(8)} GFLOP/s  ${percent(ofMultiplyAdds!)} of multiply-adds, ${
            percent(ofGemmTile!)
          } of the bare tile`,
      );
    }
  }
}

function percent(share: number): string {
  return `${(share * 100).toFixed(0).padStart(3)} %`;
}
