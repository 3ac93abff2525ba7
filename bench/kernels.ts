/**
 * Every kernel on one chunk of SmolLM2 (256 tokens, 30 layers × 3 heads × 64, 1560 components, fp16), in each wasm build:
 * GB/s of bytes read and written as a share of memcpy over as many bytes, or GFLOP/s as a share of multiply-adds in
 * registers and of the bare GEMM tile. All are measured in the same process, interleaved; the best of N counts.
 *
 *     deno run -A bench/kernels.ts [--builds relaxed,simd,base] [--rounds 20] [--json]
 *
 * @module
 */
import { type Backend, packedLength, type QuantGroup } from "../src/backend/backend.ts";
import { createWasmBackend } from "../src/backend/wasm/create.ts";
import type { WasmBuild } from "../src/backend/wasm/exports.ts";
import { numberToF16 } from "../src/cache/elements.ts";
import { flag, option } from "./inputs.ts";
import { openPeak, seconds } from "./peak.ts";

const TOKENS = 256;
const SHAPE = { dtype: "f16", blocks: 90, tokens: TOKENS, dim: 64, rotaryDim: 64 } as const;
const FEATURES = SHAPE.blocks * SHAPE.dim;
const COMPONENTS = 1560;
/** Sink rows: FP8 blocks of 4 tokens × 64. */
const FP8_LENGTH = 256;

/** A plan like those at 16×: few strong components in fp8, most in int2. */
const GROUPS: readonly QuantGroup[] = [
  ...Array.from({ length: 8 }, (_, i) => ({ first: i, size: 1, type: 3 as const })),
  { first: 8, size: 16, type: 3 },
  ...Array.from({ length: 4 }, (_, i) => ({ first: 24 + 64 * i, size: 64, type: 2 as const })),
  { first: 280, size: 256, type: 2 },
  { first: 536, size: 1024, type: 1 },
];

interface Kernel {
  readonly name: string;
  readonly run: () => void;
  /** Bytes read and written. */
  readonly bytes: number;
  readonly flop?: number;
}

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

function kernelsOf(backend: Backend): Kernel[] {
  const [rowBytes, coefficientBytes, sourceBytes] = [FEATURES * 4, COMPONENTS * 4, FEATURES * 2].map((n) => n * TOKENS);
  const random = (n: number, scale: number) => Float32Array.from({ length: n }, () => (Math.random() - 0.5) * scale);
  const bits = (n: number, scale: number) => Uint16Array.from(random(n, scale), numberToF16);
  const upload = (data: ArrayBufferView) => {
    const buffer = backend.alloc(data.byteLength);
    backend.write(buffer, data);
    return buffer;
  };
  const source = upload(bits(FEATURES * TOKENS, 4));
  const scattered = backend.alloc(sourceBytes);
  const rotation = upload(random(TOKENS * SHAPE.rotaryDim, 2));
  const mean = upload(random(FEATURES, 1));
  const rows = upload(random(FEATURES * TOKENS, 4));
  const restored = backend.alloc(rowBytes);
  const coefficients = backend.alloc(coefficientBytes);
  const dequantized = backend.alloc(coefficientBytes);
  const basis = backend.uploadBasis(bits(COMPONENTS * FEATURES, 0.05), COMPONENTS, FEATURES);
  const plan = backend.uploadPlan(GROUPS);
  const symbolBytes = TOKENS * plan.components;
  const symbols = backend.alloc(symbolBytes);
  const unpacked = backend.alloc(symbolBytes);
  const paramBytes = TOKENS * GROUPS.length * 4;
  const params = backend.alloc(paramBytes);
  const packedBytes = packedLength(GROUPS, TOKENS);
  const packed = backend.alloc(packedBytes);
  const fp8Rows = FEATURES * TOKENS / FP8_LENGTH;
  const codes = backend.alloc(FEATURES * TOKENS);
  const scales = backend.alloc(fp8Rows * 2);
  const decoded = backend.alloc(rowBytes);
  const flop = 2 * TOKENS * FEATURES * COMPONENTS;
  return [
    { name: "gather", bytes: sourceBytes + rowBytes, run: () => backend.gather(source, SHAPE, rotation, mean, rows) },
    {
      name: "project",
      bytes: rowBytes + coefficientBytes + basis.byteLength,
      flop,
      run: () => backend.project(rows, TOKENS, basis, coefficients),
    },
    {
      name: "quantize",
      bytes: coefficientBytes + symbolBytes + paramBytes,
      run: () => backend.quantize(coefficients, COMPONENTS, TOKENS, plan, symbols, params),
    },
    { name: "pack", bytes: symbolBytes + packedBytes, run: () => backend.pack(symbols, plan, TOKENS, packed) },
    { name: "unpack", bytes: symbolBytes + packedBytes, run: () => backend.unpack(packed, plan, TOKENS, unpacked) },
    {
      name: "dequantize",
      bytes: coefficientBytes + symbolBytes + paramBytes,
      run: () => backend.dequantize(unpacked, params, plan, TOKENS, dequantized, COMPONENTS),
    },
    {
      name: "reconstruct",
      bytes: rowBytes + coefficientBytes + basis.byteLength,
      flop,
      run: () => backend.reconstruct(dequantized, TOKENS, basis, 0, FEATURES, restored),
    },
    {
      name: "scatter",
      bytes: sourceBytes + rowBytes,
      run: () => backend.scatter(restored, SHAPE, rotation, mean, scattered),
    },
    {
      name: "encodeFp8",
      bytes: rowBytes + FEATURES * TOKENS + fp8Rows * 2,
      run: () => backend.encodeFp8(rows, fp8Rows, FP8_LENGTH, codes, scales),
    },
    {
      name: "decodeFp8",
      bytes: rowBytes + FEATURES * TOKENS + fp8Rows * 2,
      run: () => backend.decodeFp8(codes, scales, fp8Rows, FP8_LENGTH, decoded),
    },
  ];
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
      const time = `  ${kernel.padEnd(12)}${milliseconds.toFixed(3).padStart(9)} ms`;
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
