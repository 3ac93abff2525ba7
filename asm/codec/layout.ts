// gather and scatter: chunks in source layout [blocks][tokens][dim] ↔ f32 feature rows [tokens][stride], with the RoPE
// rotation and the mean on the way. Definitions: Backend.gather, Backend.scatter.
import { F32, loadElement, loadElements, storeElement, storeElements } from "./lanes";

// @ts-ignore: decorator
@inline
function elementShift(dtype: i32): usize {
  return dtype == F32 ? 2 : 1;
}

/** rotation and mean may be 0 (none). Strides and counts are in elements. */
export function gather(
  src: usize,
  dtype: i32,
  blocks: usize,
  tokens: usize,
  dim: usize,
  rotaryDim: usize,
  rotation: usize,
  mean: usize,
  dst: usize,
  stride: usize,
): void {
  const half = rotation ? rotaryDim >> 1 : 0;
  const features = blocks * dim;
  for (let t: usize = 0; t < tokens; t++) {
    const row = dst + ((t * stride) << 2);
    if (stride > features) memory.fill(row + (features << 2), 0, (stride - features) << 2);
    const table = rotation + ((t * rotaryDim) << 2);
    for (let b: usize = 0; b < blocks; b++) {
      const x = src + (((b * tokens + t) * dim) << elementShift(dtype));
      const y = row + ((b * dim) << 2);
      const mu = mean ? mean + ((b * dim) << 2) : 0;
      rotateIn(x, dtype, half, table, mu, y);
      plainIn(x, dtype, half << 1, dim, mu, y);
    }
  }
}

/** The rotated part: pairs (i, i + half), i < half. */
// @ts-ignore: decorator
@inline
function rotateIn(x: usize, dtype: i32, half: usize, table: usize, mu: usize, y: usize): void {
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    for (; i + 4 <= half; i += 4) {
      const c = v128.load(table + (i << 2)), s = v128.load(table + ((i + half) << 2));
      const a = loadElements(x, i, dtype), b = loadElements(x, i + half, dtype);
      let p = f32x4.sub(f32x4.mul(a, c), f32x4.mul(b, s)), q = f32x4.add(f32x4.mul(b, c), f32x4.mul(a, s));
      if (mu) {
        p = f32x4.sub(p, v128.load(mu + (i << 2)));
        q = f32x4.sub(q, v128.load(mu + ((i + half) << 2)));
      }
      v128.store(y + (i << 2), p);
      v128.store(y + ((i + half) << 2), q);
    }
  }
  for (; i < half; i++) {
    const c = load<f32>(table + (i << 2)), s = load<f32>(table + ((i + half) << 2));
    const a = loadElement(x, i, dtype), b = loadElement(x, i + half, dtype);
    let p = a * c - b * s, q = b * c + a * s;
    if (mu) {
      p -= load<f32>(mu + (i << 2));
      q -= load<f32>(mu + ((i + half) << 2));
    }
    store<f32>(y + (i << 2), p);
    store<f32>(y + ((i + half) << 2), q);
  }
}

/** The part that passes through: elements begin … dim − 1. */
// @ts-ignore: decorator
@inline
function plainIn(x: usize, dtype: i32, begin: usize, dim: usize, mu: usize, y: usize): void {
  let i = begin;
  if (ASC_FEATURE_SIMD) {
    for (; i + 4 <= dim; i += 4) {
      const a = loadElements(x, i, dtype);
      v128.store(y + (i << 2), mu ? f32x4.sub(a, v128.load(mu + (i << 2))) : a);
    }
  }
  for (; i < dim; i++) {
    const a = loadElement(x, i, dtype);
    store<f32>(y + (i << 2), mu ? a - load<f32>(mu + (i << 2)) : a);
  }
}

/** The inverse layout. */
export function scatter(
  src: usize,
  dtype: i32,
  blocks: usize,
  tokens: usize,
  dim: usize,
  rotaryDim: usize,
  rotation: usize,
  mean: usize,
  dst: usize,
  stride: usize,
): void {
  const half = rotation ? rotaryDim >> 1 : 0;
  for (let t: usize = 0; t < tokens; t++) {
    const row = src + ((t * stride) << 2);
    const table = rotation + ((t * rotaryDim) << 2);
    for (let b: usize = 0; b < blocks; b++) {
      const x = row + ((b * dim) << 2);
      const mu = mean ? mean + ((b * dim) << 2) : 0;
      const y = dst + (((b * tokens + t) * dim) << elementShift(dtype));
      rotateOut(x, half, table, mu, y, dtype);
      plainOut(x, half << 1, dim, mu, y, dtype);
    }
  }
}

// @ts-ignore: decorator
@inline
function rotateOut(x: usize, half: usize, table: usize, mu: usize, y: usize, dtype: i32): void {
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    for (; i + 4 <= half; i += 4) {
      const c = v128.load(table + (i << 2)), s = v128.load(table + ((i + half) << 2));
      let a = v128.load(x + (i << 2)), b = v128.load(x + ((i + half) << 2));
      if (mu) {
        a = f32x4.add(a, v128.load(mu + (i << 2)));
        b = f32x4.add(b, v128.load(mu + ((i + half) << 2)));
      }
      storeElements(y, i, dtype, f32x4.sub(f32x4.mul(a, c), f32x4.mul(b, s)));
      storeElements(y, i + half, dtype, f32x4.add(f32x4.mul(b, c), f32x4.mul(a, s)));
    }
  }
  for (; i < half; i++) {
    const c = load<f32>(table + (i << 2)), s = load<f32>(table + ((i + half) << 2));
    let a = load<f32>(x + (i << 2)), b = load<f32>(x + ((i + half) << 2));
    if (mu) {
      a += load<f32>(mu + (i << 2));
      b += load<f32>(mu + ((i + half) << 2));
    }
    storeElement(y, i, dtype, a * c - b * s);
    storeElement(y, i + half, dtype, b * c + a * s);
  }
}

// @ts-ignore: decorator
@inline
function plainOut(x: usize, begin: usize, dim: usize, mu: usize, y: usize, dtype: i32): void {
  let i = begin;
  if (ASC_FEATURE_SIMD) {
    for (; i + 4 <= dim; i += 4) {
      const a = v128.load(x + (i << 2));
      storeElements(y, i, dtype, mu ? f32x4.add(a, v128.load(mu + (i << 2))) : a);
    }
  }
  for (; i < dim; i++) {
    const a = load<f32>(x + (i << 2));
    storeElement(y, i, dtype, mu ? a + load<f32>(mu + (i << 2)) : a);
  }
}
