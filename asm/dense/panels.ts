// Rows ↔ panels: [rows][width] and [rows / 8][width][8]. Rows are binary32 or binary16. A panel's stride may be larger, so
// that what lies side by side in rows, such as heads, can come from and go to blocks of their own.
import { F16, F32, load1, load4, store1, store4 } from "../codec/lanes";

/** Rows to panels, `stride` bytes apart; rows that the last panel lacks are zeros. */
export function toPanels(src: usize, dtype: i32, rows: usize, width: usize, dst: usize, stride: usize): void {
  if (dtype == F16) toPanelsAs(F16, src, rows, width, dst, stride);
  else toPanelsAs(F32, src, rows, width, dst, stride);
}

/** The inverse. What is finite and beyond ±limit becomes ±limit. */
export function fromPanels(
  src: usize,
  stride: usize,
  rows: usize,
  width: usize,
  limit: f32,
  dst: usize,
  dtype: i32,
): void {
  if (dtype == F16) fromPanelsAs(F16, src, stride, rows, width, limit, dst);
  else fromPanelsAs(F32, src, stride, rows, width, limit, dst);
}

// @ts-ignore: decorator
@inline
function toPanelsAs(dtype: i32, src: usize, rows: usize, width: usize, dst: usize, stride: usize): void {
  const row = width * (dtype == F32 ? 4 : 2);
  for (let r: usize = 0; r < rows; r += 8, src += row * 8, dst += stride) {
    const count = min<usize>(8, rows - r);
    let i: usize = 0;
    if (count < 8) memory.fill(dst, 0, width * 32);
    else if (ASC_FEATURE_SIMD) {
      for (; i + 4 <= width; i += 4) {
        for (let half: usize = 0; half < 2; half++) {
          const from = src + row * 4 * half, to = dst + i * 32 + half * 16;
          const a = load4(dtype, from, i), b = load4(dtype, from + row, i);
          const c = load4(dtype, from + row * 2, i), d = load4(dtype, from + row * 3, i);
          const ab = low(a, b), cd = low(c, d), ab2 = high(a, b), cd2 = high(c, d);
          v128.store(to, left(ab, cd));
          v128.store(to, right(ab, cd), 32);
          v128.store(to, left(ab2, cd2), 64);
          v128.store(to, right(ab2, cd2), 96);
        }
      }
    }
    for (; i < width; i++) {
      for (let t: usize = 0; t < count; t++) store<f32>(dst + (i * 8 + t) * 4, load1(dtype, src + t * row, i));
    }
  }
}

// @ts-ignore: decorator
@inline
function fromPanelsAs(
  dtype: i32,
  src: usize,
  stride: usize,
  rows: usize,
  width: usize,
  limit: f32,
  dst: usize,
): void {
  const row = width * (dtype == F32 ? 4 : 2);
  for (let r: usize = 0; r < rows; r += 8, src += stride, dst += row * 8) {
    const count = min<usize>(8, rows - r);
    let i: usize = 0;
    if (ASC_FEATURE_SIMD && count == 8) {
      for (; i + 4 <= width; i += 4) {
        for (let half: usize = 0; half < 2; half++) {
          const from = src + i * 32 + half * 16, to = dst + row * 4 * half;
          const a = clamp(v128.load(from), limit), b = clamp(v128.load(from, 32), limit);
          const c = clamp(v128.load(from, 64), limit), d = clamp(v128.load(from, 96), limit);
          const ab = low(a, b), cd = low(c, d), ab2 = high(a, b), cd2 = high(c, d);
          store4(dtype, to, i, left(ab, cd));
          store4(dtype, to + row, i, right(ab, cd));
          store4(dtype, to + row * 2, i, left(ab2, cd2));
          store4(dtype, to + row * 3, i, right(ab2, cd2));
        }
      }
    }
    for (; i < width; i++) {
      for (let t: usize = 0; t < count; t++) {
        const x = load<f32>(src + (i * 8 + t) * 4);
        const beyond = abs(x) > limit && abs(x) < Infinity;
        store1(dtype, dst + t * row, i, beyond ? copysign(limit, x) : x);
      }
    }
  }
}

// @ts-ignore: decorator
@inline
function clamp(x: v128, limit: f32): v128 {
  const most = f32x4.splat(limit);
  const clamped = f32x4.pmin(most, f32x4.pmax(f32x4.neg(most), x));
  return v128.bitselect(clamped, x, f32x4.lt(f32x4.abs(x), f32x4.splat(Infinity)));
}

// The steps of a transpose of 4 × 4: lanes of two vectors one by one, then pairs of lanes.

// @ts-ignore: decorator
@inline
function low(a: v128, b: v128): v128 {
  return v128.shuffle<f32>(a, b, 0, 4, 1, 5);
}

// @ts-ignore: decorator
@inline
function high(a: v128, b: v128): v128 {
  return v128.shuffle<f32>(a, b, 2, 6, 3, 7);
}

// @ts-ignore: decorator
@inline
function left(a: v128, b: v128): v128 {
  return v128.shuffle<f32>(a, b, 0, 1, 4, 5);
}

// @ts-ignore: decorator
@inline
function right(a: v128, b: v128): v128 {
  return v128.shuffle<f32>(a, b, 2, 3, 6, 7);
}
