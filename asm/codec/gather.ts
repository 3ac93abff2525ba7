// gather: a chunk in source layout [blocks][tokens][dim] → f32 feature rows [tokens][stride], rotated, less the mean.
import { BF16, F16, F32, load1, load4 } from "./lanes";

/** Tokens that are gathered from every block before the next ones: their output rows stay in the cache. */
const TOKENS: usize = 16;

/**
 * dst[t][block · dim + i] = rotate(src[block][t][i]) − mean[block · dim + i]; null pointers are 0. `stride` in elements;
 * what lies between blocks · dim and stride is cleared. rotation: f32 [tokens][2][rotaryDim / 2].
 */
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
  const rotary = rotation ? rotaryDim : 0;
  if (dtype == F32) gatherAs(F32, src, blocks, tokens, dim, rotary, rotation, mean, dst, stride);
  else if (dtype == F16) gatherAs(F16, src, blocks, tokens, dim, rotary, rotation, mean, dst, stride);
  else gatherAs(BF16, src, blocks, tokens, dim, rotary, rotation, mean, dst, stride);
}

// @ts-ignore: decorator
@inline
function gatherAs(
  dtype: i32,
  src: usize,
  blocks: usize,
  tokens: usize,
  dim: usize,
  rotaryDim: usize,
  rotation: usize,
  mean: usize,
  dst: usize,
  stride: usize,
): void {
  const size: usize = dtype == F32 ? 4 : 2;
  const features = blocks * dim;
  const half = rotaryDim >> 1;
  for (let t0: usize = 0; t0 < tokens; t0 += TOKENS) {
    const t1 = min(tokens, t0 + TOKENS);
    for (let block: usize = 0; block < blocks; block++) {
      const mu = mean ? mean + ((block * dim) << 2) : 0;
      for (let t = t0; t < t1; t++) {
        const from = src + (block * tokens + t) * dim * size;
        const to = dst + ((t * stride + block * dim) << 2);
        const cos = rotation + ((t * rotaryDim) << 2);
        const sin = cos + (half << 2);
        let i: usize = 0;
        if (ASC_FEATURE_SIMD) {
          for (; i + 4 <= half; i += 4) {
            const c = v128.load(cos + (i << 2)), s = v128.load(sin + (i << 2));
            const x = load4(dtype, from, i), y = load4(dtype, from, half + i);
            let u = f32x4.sub(f32x4.mul(x, c), f32x4.mul(y, s));
            let v = f32x4.add(f32x4.mul(y, c), f32x4.mul(x, s));
            if (mu) {
              u = f32x4.sub(u, v128.load(mu + (i << 2)));
              v = f32x4.sub(v, v128.load(mu + ((half + i) << 2)));
            }
            v128.store(to + (i << 2), u);
            v128.store(to + ((half + i) << 2), v);
          }
        }
        for (; i < half; i++) {
          const c = load<f32>(cos + (i << 2)), s = load<f32>(sin + (i << 2));
          const x = load1(dtype, from, i), y = load1(dtype, from, half + i);
          let u = x * c - y * s;
          let v = y * c + x * s;
          if (mu) u -= load<f32>(mu + (i << 2)), v -= load<f32>(mu + ((half + i) << 2));
          store<f32>(to + (i << 2), u);
          store<f32>(to + ((half + i) << 2), v);
        }
        i = rotaryDim;
        if (ASC_FEATURE_SIMD) {
          for (; i + 4 <= dim; i += 4) {
            let x = load4(dtype, from, i);
            if (mu) x = f32x4.sub(x, v128.load(mu + (i << 2)));
            v128.store(to + (i << 2), x);
          }
        }
        for (; i < dim; i++) {
          let x = load1(dtype, from, i);
          if (mu) x -= load<f32>(mu + (i << 2));
          store<f32>(to + (i << 2), x);
        }
      }
    }
    for (let t = t0; t < t1; t++) memory.fill(dst + ((t * stride + features) << 2), 0, (stride - features) << 2);
  }
}
