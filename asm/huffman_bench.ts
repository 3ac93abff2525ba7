// Products with symbols that were decoded before, against which bench/kvcomp.ts measures the fused ones. Not part of the
// package.
export { decode } from "./huffman/decode";
export { dots } from "./huffman/dots";

/** First byte that the host may use. */
export function heapBase(): usize {
  return __heap_base;
}

/** x̂ = (symbol + first) · scale as f32, as a cache is decoded to before it is multiplied. n is a multiple of 4. */
export function dequantize(symbols: usize, n: usize, first: f32, scale: f32, out: usize): void {
  if (ASC_FEATURE_SIMD) {
    const f = f32x4.splat(first), s = f32x4.splat(scale);
    for (let i: usize = 0; i < n; i += 4) {
      const bytes = v128.load32_zero(symbols + i);
      const words = i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(bytes));
      v128.store(out + (i << 2), f32x4.mul(f32x4.add(f32x4.convert_i32x4_s(words), f), s));
    }
    return;
  }
  for (let i: usize = 0; i < n; i++) store<f32>(out + (i << 2), (<f32>load<u8>(symbols + i) + first) * scale);
}

/** out[row][lane] = Σ x[row][i] · weights[i][lane] for f32 rows; lanes 1 or 4. */
export function multiplyRows(x: usize, rows: usize, length: usize, weights: usize, lanes: usize, out: usize): void {
  for (let row: usize = 0; row < rows; row++, x += length << 2) {
    if (ASC_FEATURE_SIMD) {
      let sum = f32x4.splat(0);
      if (lanes == 1) {
        for (let i: usize = 0; i < length; i += 4) {
          sum = f32x4.add(sum, f32x4.mul(v128.load(x + (i << 2)), v128.load(weights + (i << 2))));
        }
        store<f32>(out + (row << 2), f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 1) +
          f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3));
      } else {
        for (let i: usize = 0; i < length; i++) {
          sum = f32x4.add(sum, f32x4.mul(v128.load32_splat(x + (i << 2)), v128.load(weights + (i << 4))));
        }
        v128.store(out + (row << 4), sum);
      }
      continue;
    }
    for (let lane: usize = 0; lane < lanes; lane++) {
      let sum: f32 = 0;
      for (let i: usize = 0; i < length; i++) {
        sum += load<f32>(x + (i << 2)) * load<f32>(weights + ((i * lanes + lane) << 2));
      }
      store<f32>(out + ((row * lanes + lane) << 2), sum);
    }
  }
}
