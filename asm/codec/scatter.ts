// scatter: f32 feature rows [tokens][stride] plus the mean, rotated → source layout [blocks][tokens][dim].
import { BF16, F16, F32, store1, store4 } from "./lanes";

/** Tokens that are scattered to every block before the next ones: their rows stay in the cache. */
const TOKENS: usize = 16;

/** dst[block][t][i] = convert(rotate(src[t][block · dim + i] + mean[block · dim + i])); as {@link gather} otherwise. */
export function scatter(
  src: usize,
  stride: usize,
  dtype: i32,
  blocks: usize,
  tokens: usize,
  dim: usize,
  rotaryDim: usize,
  rotation: usize,
  mean: usize,
  dst: usize,
): void {
  const rotary = rotation ? rotaryDim : 0;
  if (dtype == F32) scatterAs(F32, src, stride, blocks, tokens, dim, rotary, rotation, mean, dst);
  else if (dtype == F16) scatterAs(F16, src, stride, blocks, tokens, dim, rotary, rotation, mean, dst);
  else scatterAs(BF16, src, stride, blocks, tokens, dim, rotary, rotation, mean, dst);
}

// @ts-ignore: decorator
@inline
function scatterAs(
  dtype: i32,
  src: usize,
  stride: usize,
  blocks: usize,
  tokens: usize,
  dim: usize,
  rotaryDim: usize,
  rotation: usize,
  mean: usize,
  dst: usize,
): void {
  const size: usize = dtype == F32 ? 4 : 2;
  const half = rotaryDim >> 1;
  for (let t0: usize = 0; t0 < tokens; t0 += TOKENS) {
    const t1 = min(tokens, t0 + TOKENS);
    for (let block: usize = 0; block < blocks; block++) {
      const mu = mean ? mean + ((block * dim) << 2) : 0;
      for (let t = t0; t < t1; t++) {
        const from = src + ((t * stride + block * dim) << 2);
        const to = dst + (block * tokens + t) * dim * size;
        const cos = rotation + ((t * rotaryDim) << 2);
        const sin = cos + (half << 2);
        let i: usize = 0;
        if (ASC_FEATURE_SIMD) {
          for (; i + 4 <= half; i += 4) {
            const c = v128.load(cos + (i << 2)), s = v128.load(sin + (i << 2));
            let x = v128.load(from + (i << 2)), y = v128.load(from + ((half + i) << 2));
            if (mu) {
              x = f32x4.add(x, v128.load(mu + (i << 2)));
              y = f32x4.add(y, v128.load(mu + ((half + i) << 2)));
            }
            store4(dtype, to, i, f32x4.sub(f32x4.mul(x, c), f32x4.mul(y, s)));
            store4(dtype, to, half + i, f32x4.add(f32x4.mul(y, c), f32x4.mul(x, s)));
          }
        }
        for (; i < half; i++) {
          const c = load<f32>(cos + (i << 2)), s = load<f32>(sin + (i << 2));
          let x = load<f32>(from + (i << 2)), y = load<f32>(from + ((half + i) << 2));
          if (mu) x += load<f32>(mu + (i << 2)), y += load<f32>(mu + ((half + i) << 2));
          store1(dtype, to, i, x * c - y * s);
          store1(dtype, to, half + i, y * c + x * s);
        }
        i = rotaryDim;
        if (ASC_FEATURE_SIMD) {
          for (; i + 4 <= dim; i += 4) {
            let x = v128.load(from + (i << 2));
            if (mu) x = f32x4.add(x, v128.load(mu + (i << 2)));
            store4(dtype, to, i, x);
          }
        }
        for (; i < dim; i++) {
          let x = load<f32>(from + (i << 2));
          if (mu) x += load<f32>(mu + (i << 2));
          store1(dtype, to, i, x);
        }
      }
    }
  }
}
