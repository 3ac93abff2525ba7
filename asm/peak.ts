// What the machine gives, for the benchmarks (bench/): copying, multiply-adds in registers, and the register tile of the
// matrix products on operands in L1. Not part of the package.
import { gemmScratchBytes, KC, multiplyTile, panelOf } from "./codec/gemm";
import { madd } from "./codec/lanes";

/** First byte that the host may use. */
export function heapBase(): usize {
  return __heap_base;
}

/** Copies n bytes. */
export function copy(to: usize, from: usize, n: usize): void {
  memory.copy(to, from, n);
}

/** Bytes that tiles needs. */
export function tileBytes(): usize {
  return gemmScratchBytes();
}

/** Floating-point operations of one round of tiles. */
export function tileFlop(): usize {
  return KC * 6 * 8 * 2;
}

/** `rounds` register tiles over one block's depth, always the same operands. */
export function tiles(rounds: i32, at: usize): void {
  const panel = panelOf(at);
  const c = panel + KC * 8 * 4;
  for (let i = 0; i < rounds; i++) multiplyTile(KC, at, panel, c, 32, false);
}

/** Floating-point operations of one round of multiplyAdds. */
export function multiplyAddFlop(): usize {
  return ASC_FEATURE_SIMD ? 12 * 4 * 4 * 2 : 12 * 2;
}

/** `rounds` of 12 independent chains of multiply-adds (four steps each where there are vectors). Returns their sum. */
export function multiplyAdds(rounds: i32, x: f32): f32 {
  if (ASC_FEATURE_SIMD) {
    const a = f32x4.splat(x), b = f32x4.splat(1 - x);
    let c0 = a, c1 = a, c2 = a, c3 = a, c4 = a, c5 = a, c6 = a, c7 = a, c8 = a, c9 = a, c10 = a, c11 = a;
    for (let i = 0; i < rounds; i++) {
      for (let step = 0; step < 4; step++) {
        c0 = madd(c0, a, b), c1 = madd(c1, a, b), c2 = madd(c2, a, b), c3 = madd(c3, a, b);
        c4 = madd(c4, a, b), c5 = madd(c5, a, b), c6 = madd(c6, a, b), c7 = madd(c7, a, b);
        c8 = madd(c8, a, b), c9 = madd(c9, a, b), c10 = madd(c10, a, b), c11 = madd(c11, a, b);
      }
    }
    c0 = f32x4.add(f32x4.add(f32x4.add(c0, c1), f32x4.add(c2, c3)), f32x4.add(f32x4.add(c4, c5), f32x4.add(c6, c7)));
    return f32x4.extract_lane(f32x4.add(c0, f32x4.add(f32x4.add(c8, c9), f32x4.add(c10, c11))), 0);
  } else {
    let c0 = x, c1 = x, c2 = x, c3 = x, c4 = x, c5 = x, c6 = x, c7 = x, c8 = x, c9 = x, c10 = x, c11 = x;
    for (let i = 0; i < rounds; i++) {
      c0 = c0 * x + x, c1 = c1 * x + x, c2 = c2 * x + x, c3 = c3 * x + x, c4 = c4 * x + x, c5 = c5 * x + x;
      c6 = c6 * x + x, c7 = c7 * x + x, c8 = c8 * x + x, c9 = c9 * x + x, c10 = c10 * x + x, c11 = c11 * x + x;
    }
    return c0 + c1 + c2 + c3 + c4 + c5 + c6 + c7 + c8 + c9 + c10 + c11;
  }
}
