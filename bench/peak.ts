/**
 * What this machine gives under WebAssembly, as a yardstick for the kernels: asm/peak.ts, compiled on the spot with the
 * same flags as the kernels.
 *
 * @module
 */
import type { WasmBuild } from "../src/backend/wasm/exports.ts";
import { compileAsm } from "../tools/asc.ts";

interface PeakExports {
  readonly memory: WebAssembly.Memory;
  heapBase(): number;
  copy(to: number, from: number, n: number): void;
  tileBytes(): number;
  tileFlop(): number;
  tiles(rounds: number, at: number): void;
  multiplyAddFlop(): number;
  multiplyAdds(rounds: number, x: number): number;
}

/**
 * Yardsticks of one build. Each call does as much work as it is told and gives the rate: a yardstick should take as long
 * as what is measured by it, since a short one finds quiet moments on a busy machine that a long one does not.
 */
export interface Peak {
  /** Multiply-adds in registers, GFLOP/s. */
  multiplyAdds(flop: number): number;
  /** The 6 × 8 register tile of the matrix products on operands in L1, GFLOP/s. */
  gemmTile(flop: number): number;
  /** Copying inside WASM memory, bytes read and written, GB/s. */
  memcpy(bytes: number): number;
}

/** Seconds that a call takes. */
export function seconds(run: () => void): number {
  const begin = performance.now();
  run();
  return (performance.now() - begin) / 1e3;
}

/** Compiles and instantiates the yardsticks. */
export async function openPeak(build: WasmBuild): Promise<Peak> {
  const { instance } = await WebAssembly.instantiate(await compileAsm("peak", build));
  const peak = instance.exports as unknown as PeakExports;
  const base = Math.ceil(peak.heapBase() / 64) * 64 + 64;
  const reserve = (bytes: number) => {
    const pages = Math.ceil((base + bytes - peak.memory.buffer.byteLength) / 65536);
    if (pages > 0) peak.memory.grow(pages);
  };
  reserve(peak.tileBytes());
  return {
    multiplyAdds(flop) {
      const rounds = Math.ceil(flop / peak.multiplyAddFlop());
      return rounds * peak.multiplyAddFlop() / seconds(() => peak.multiplyAdds(rounds, 0.5)) / 1e9;
    },
    gemmTile(flop) {
      const rounds = Math.ceil(flop / peak.tileFlop());
      return rounds * peak.tileFlop() / seconds(() => peak.tiles(rounds, base)) / 1e9;
    },
    memcpy(bytes) {
      reserve(2 * bytes);
      return 2 * bytes / seconds(() => peak.copy(base + bytes, base, bytes)) / 1e9;
    },
  };
}

/** The best rate of the bare GEMM tile in GFLOP/s, over runs of about a tenth of a second. */
export async function gemmRate(build: WasmBuild): Promise<number> {
  const peak = await openPeak(build);
  peak.gemmTile(1e8); // compiles
  const flop = peak.gemmTile(1e8) * 1e8;
  let best = 0;
  for (let i = 0; i < 15; i++) best = Math.max(best, peak.gemmTile(flop));
  return best;
}
