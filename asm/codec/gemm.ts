// project and reconstruct: f32 matrix products with a basis that is kept once, in binary16, for both directions.
//
// Basis: tiles of 8 components × 8 features, [component block][feature block][8][8], zero padded. A product takes a
// panel of 8 columns × KC depth out of the tiles into f32 (project transposes them), packs the rows of the other
// operand six at a time, and runs a 6 × 8 register tile (12 accumulators, 2 vectors of the panel, 1 broadcast: the 16
// registers of x86-64). Converting a panel costs a few percent of the 256-token product that uses it and halves the
// memory of the basis. Every row of the result takes the same operations in the same order however many rows there are,
// so that codes do not depend on how tokens are cut into chunks.
import { f16ToF32, widenFiniteF16 } from "./lanes";

/** Rows and columns of the register tile. */
const MR: usize = 6;
const NR: usize = 8;
/** Depth of a block: panel 16 KiB (L1), 256 packed rows 512 KiB (L2). */
const KC: usize = 512;
const TILE_BYTES: usize = 128;

/** Scratch bytes for products of up to `rows` rows: panel, packed rows, spare tile. */
export function gemmScratchBytes(rows: usize): usize {
  return KC * NR * 4 + (rows + MR) * KC * 4 + MR * NR * 4;
}

/** Bytes of a packed basis. */
export function basisBytes(components: usize, features: usize): usize {
  return ((components + 7) >> 3) * ((features + 7) >> 3) * TILE_BYTES;
}

/** Packs `count` ≤ 8 rows of binary16 [count][features] as component block `block`. */
export function packBasis(rows: usize, count: usize, features: usize, block: usize, basis: usize): void {
  const featureBlocks = (features + 7) >> 3;
  let to = basis + block * featureBlocks * TILE_BYTES;
  for (let f: usize = 0; f < features; f += 8) {
    for (let c: usize = 0; c < 8; c++) {
      for (let i: usize = 0; i < 8; i++, to += 2) {
        const inside = c < count && f + i < features;
        store<u16>(to, inside ? load<u16>(rows + ((c * features + f + i) << 1)) : 0);
      }
    }
  }
}

/** coefficients[t][c] = Σ_f x[t][f] · basis[c][f]. Strides in elements, multiples of 8. */
export function project(
  x: usize,
  xStride: usize,
  tokens: usize,
  basis: usize,
  components: usize,
  features: usize,
  out: usize,
  outStride: usize,
  scratch: usize,
): void {
  const panel = scratch, rows = scratch + KC * NR * 4;
  const spare = rows + (tokens + MR) * KC * 4;
  const depth = (features + 7) & ~(<usize>7);
  const componentBlocks = (components + 7) >> 3, featureBlocks = (features + 7) >> 3;
  for (let k: usize = 0; k < depth; k += KC) {
    const kc = min(KC, depth - k);
    packRows(x + (k << 2), xStride, tokens, kc, rows);
    for (let cb: usize = 0; cb < componentBlocks; cb++) {
      transposePanel(basis + (cb * featureBlocks + (k >> 3)) * TILE_BYTES, kc, panel);
      multiplyPanel(rows, tokens, kc, panel, out + (cb << 5), outStride, k > 0, spare, 0, 8);
    }
  }
}

/** x[t][f − begin] = Σ_c coefficients[t][c] · basis[c][f], begin ≤ f < end; padding of x to its stride is zero. */
export function reconstruct(
  coefficients: usize,
  cStride: usize,
  tokens: usize,
  basis: usize,
  components: usize,
  features: usize,
  begin: usize,
  end: usize,
  out: usize,
  outStride: usize,
  scratch: usize,
): void {
  const panel = scratch, rows = scratch + KC * NR * 4;
  const spare = rows + (tokens + MR) * KC * 4;
  const depth = (components + 7) & ~(<usize>7);
  const featureBlocks = (features + 7) >> 3;
  const width = end - begin;
  for (let t: usize = 0; t < tokens; t++) {
    const row = out + ((t * outStride) << 2);
    // No component, or columns that the last block does not reach.
    const from: usize = depth == 0 ? 0 : width;
    memory.fill(row + (from << 2), 0, (outStride - from) << 2);
  }
  for (let k: usize = 0; k < depth; k += KC) {
    const kc = min(KC, depth - k);
    packRows(coefficients + (k << 2), cStride, tokens, kc, rows);
    for (let fb = begin >> 3; fb < (end + 7) >> 3; fb++) {
      const first = fb << 3;
      const skip = first < begin ? begin - first : 0;
      const last = min(<usize>8, end - first);
      straightPanel(basis + ((k >> 3) * featureBlocks + fb) * TILE_BYTES, featureBlocks * TILE_BYTES, kc, panel);
      multiplyPanel(rows, tokens, kc, panel, out + ((first + skip - begin) << 2), outStride, k > 0, spare, skip, last);
    }
  }
}

/** Rows [tokens][kc] → panels of 6 rows [kc][6], the last padded with zero rows. */
function packRows(from: usize, stride: usize, tokens: usize, kc: usize, to: usize): void {
  for (let t: usize = 0; t < tokens; t += MR) {
    const count = min(MR, tokens - t);
    const row = from + ((t * stride) << 2);
    if (count == MR) {
      const step = stride << 2;
      const r1 = row + step, r2 = r1 + step, r3 = r2 + step, r4 = r3 + step, r5 = r4 + step;
      for (let k: usize = 0; k < kc << 2; k += 4, to += 24) {
        store<f32>(to, load<f32>(row + k));
        store<f32>(to, load<f32>(r1 + k), 4);
        store<f32>(to, load<f32>(r2 + k), 8);
        store<f32>(to, load<f32>(r3 + k), 12);
        store<f32>(to, load<f32>(r4 + k), 16);
        store<f32>(to, load<f32>(r5 + k), 20);
      }
    } else {
      for (let k: usize = 0; k < kc; k++, to += 24) {
        for (let i: usize = 0; i < MR; i++) {
          store<f32>(to + (i << 2), i < count ? load<f32>(row + ((i * stride + k) << 2)) : 0);
        }
      }
    }
  }
}

/** Tiles side by side along features → panel [kc features][8 components]. */
function transposePanel(tile: usize, kc: usize, panel: usize): void {
  for (let k: usize = 0; k < kc; k += 8, tile += TILE_BYTES, panel += 256) {
    if (ASC_FEATURE_SIMD) {
      for (let f: usize = 0; f < 8; f += 4) {
        for (let c: usize = 0; c < 8; c += 4) {
          const p = tile + (c << 4) + (f << 1);
          const r0 = widenFiniteF16(v128.load16x4_u(p)), r1 = widenFiniteF16(v128.load16x4_u(p, 16));
          const r2 = widenFiniteF16(v128.load16x4_u(p, 32)), r3 = widenFiniteF16(v128.load16x4_u(p, 48));
          const a = v128.shuffle<i32>(r0, r1, 0, 4, 1, 5), b = v128.shuffle<i32>(r2, r3, 0, 4, 1, 5);
          const d = v128.shuffle<i32>(r0, r1, 2, 6, 3, 7), e = v128.shuffle<i32>(r2, r3, 2, 6, 3, 7);
          const to = panel + (f << 5) + (c << 2);
          v128.store(to, v128.shuffle<i64>(a, b, 0, 2));
          v128.store(to, v128.shuffle<i64>(a, b, 1, 3), 32);
          v128.store(to, v128.shuffle<i64>(d, e, 0, 2), 64);
          v128.store(to, v128.shuffle<i64>(d, e, 1, 3), 96);
        }
      }
    } else {
      for (let f: usize = 0; f < 8; f++) {
        for (let c: usize = 0; c < 8; c++) {
          store<f32>(panel + (f << 5) + (c << 2), f16ToF32(<u32>load<u16>(tile + (c << 4) + (f << 1))));
        }
      }
    }
  }
}

/** Tiles one below the other along components (`step` bytes apart) → panel [kc components][8 features]. */
function straightPanel(tile: usize, step: usize, kc: usize, panel: usize): void {
  for (let k: usize = 0; k < kc; k += 8, tile += step) {
    for (let i: usize = 0; i < TILE_BYTES; i += 16, panel += 32) {
      if (ASC_FEATURE_SIMD) {
        v128.store(panel, widenFiniteF16(v128.load16x4_u(tile + i)));
        v128.store(panel, widenFiniteF16(v128.load16x4_u(tile + i, 8)), 16);
      } else {
        for (let f: usize = 0; f < 8; f++) {
          store<f32>(panel + (f << 2), f16ToF32(<u32>load<u16>(tile + i + (f << 1))));
        }
      }
    }
  }
}

/**
 * out[t][0 … last − skip) (+)= rows · panel columns [skip, last), for all rows. Whole tiles go straight to memory,
 * others by way of a spare tile.
 */
function multiplyPanel(
  rows: usize,
  tokens: usize,
  kc: usize,
  panel: usize,
  out: usize,
  outStride: usize,
  accumulate: bool,
  spare: usize,
  skip: usize,
  last: usize,
): void {
  const whole = skip == 0 && last == 8;
  for (let t: usize = 0; t < tokens; t += MR, rows += kc * 24) {
    const to = out + ((t * outStride) << 2);
    const count = min(MR, tokens - t);
    if (whole && count == MR) {
      tile(kc, rows, panel, to, outStride << 2, accumulate);
    } else {
      if (accumulate) copyTile(to, outStride << 2, spare + (skip << 2), 32, count, last - skip);
      tile(kc, rows, panel, spare, 32, accumulate);
      copyTile(spare + (skip << 2), 32, to, outStride << 2, count, last - skip);
    }
  }
}

function copyTile(from: usize, fromStep: usize, to: usize, toStep: usize, rows: usize, columns: usize): void {
  for (let r: usize = 0; r < rows; r++, from += fromStep, to += toStep) memory.copy(to, from, columns << 2);
}

// @ts-ignore: decorator
@inline
function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

// @ts-ignore: decorator
@inline
function flush(at: usize, x: v128, accumulate: bool): void {
  v128.store(at, accumulate ? f32x4.add(v128.load(at), x) : x);
}

/** The register tile: c[6][8] (+)= Σ_p a[p][6]ᵀ · b[p][8]. `step` is the row length of c in bytes. kc is a multiple of 8. */
function tile(kc: usize, a: usize, b: usize, c: usize, step: usize, accumulate: bool): void {
  if (ASC_FEATURE_SIMD) {
    let c00 = f32x4.splat(0), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00;
    let c30 = c00, c31 = c00, c40 = c00, c41 = c00, c50 = c00, c51 = c00;
    for (const end = a + kc * 24; a < end; a += 48, b += 64) {
      let b0 = v128.load(b), b1 = v128.load(b, 16);
      let x = v128.load32_splat(a);
      c00 = madd(x, b0, c00), c01 = madd(x, b1, c01);
      x = v128.load32_splat(a, 4);
      c10 = madd(x, b0, c10), c11 = madd(x, b1, c11);
      x = v128.load32_splat(a, 8);
      c20 = madd(x, b0, c20), c21 = madd(x, b1, c21);
      x = v128.load32_splat(a, 12);
      c30 = madd(x, b0, c30), c31 = madd(x, b1, c31);
      x = v128.load32_splat(a, 16);
      c40 = madd(x, b0, c40), c41 = madd(x, b1, c41);
      x = v128.load32_splat(a, 20);
      c50 = madd(x, b0, c50), c51 = madd(x, b1, c51);
      b0 = v128.load(b, 32), b1 = v128.load(b, 48);
      x = v128.load32_splat(a, 24);
      c00 = madd(x, b0, c00), c01 = madd(x, b1, c01);
      x = v128.load32_splat(a, 28);
      c10 = madd(x, b0, c10), c11 = madd(x, b1, c11);
      x = v128.load32_splat(a, 32);
      c20 = madd(x, b0, c20), c21 = madd(x, b1, c21);
      x = v128.load32_splat(a, 36);
      c30 = madd(x, b0, c30), c31 = madd(x, b1, c31);
      x = v128.load32_splat(a, 40);
      c40 = madd(x, b0, c40), c41 = madd(x, b1, c41);
      x = v128.load32_splat(a, 44);
      c50 = madd(x, b0, c50), c51 = madd(x, b1, c51);
    }
    flush(c, c00, accumulate), flush(c + 16, c01, accumulate);
    c += step;
    flush(c, c10, accumulate), flush(c + 16, c11, accumulate);
    c += step;
    flush(c, c20, accumulate), flush(c + 16, c21, accumulate);
    c += step;
    flush(c, c30, accumulate), flush(c + 16, c31, accumulate);
    c += step;
    flush(c, c40, accumulate), flush(c + 16, c41, accumulate);
    c += step;
    flush(c, c50, accumulate), flush(c + 16, c51, accumulate);
  } else {
    for (let i: usize = 0; i < MR; i++, c += step) {
      for (let j: usize = 0; j < NR; j += 4) {
        let s0: f32 = 0, s1: f32 = 0, s2: f32 = 0, s3: f32 = 0;
        for (let p: usize = 0; p < kc; p++) {
          const x = load<f32>(a + p * 24 + (i << 2));
          const y = b + (p << 5) + (j << 2);
          s0 += x * load<f32>(y);
          s1 += x * load<f32>(y, 4);
          s2 += x * load<f32>(y, 8);
          s3 += x * load<f32>(y, 12);
        }
        const at = c + (j << 2);
        if (accumulate) {
          s0 = load<f32>(at) + s0;
          s1 = load<f32>(at, 4) + s1;
          s2 = load<f32>(at, 8) + s2;
          s3 = load<f32>(at, 12) + s3;
        }
        store<f32>(at, s0);
        store<f32>(at, s1, 4);
        store<f32>(at, s2, 8);
        store<f32>(at, s3, 12);
      }
    }
  }
}

/** For benchmarks: `rounds` register tiles over panels that stay in L1, the bare rate that the products can reach. */
export function bareTiles(rounds: i32, scratch: usize): void {
  for (let r = 0; r < rounds; r++) tile(KC, scratch + KC * NR * 4, scratch, scratch + KC * (NR + MR) * 4, 32, true);
}
