// Rows ↔ panels: [rows][width] and [rows / 8][width][8]. A panel's stride may be larger, so that what lies side by side in
// rows, such as heads, can come from and go to blocks of their own.

/** Rows to panels, `stride` bytes apart; rows that the last panel lacks are zeros. */
export function toPanels(src: usize, rows: usize, width: usize, dst: usize, stride: usize): void {
  let r: usize = 0;
  for (; r + 8 <= rows; r += 8, src += width * 32, dst += stride) {
    let i: usize = 0;
    if (ASC_FEATURE_SIMD) {
      for (; i + 4 <= width; i += 4) {
        transpose4(src + i * 4, width * 4, dst + i * 32, 32);
        transpose4(src + (4 * width + i) * 4, width * 4, dst + i * 32 + 16, 32);
      }
    }
    for (; i < width; i++) {
      for (let t: usize = 0; t < 8; t++) store<f32>(dst + (i * 8 + t) * 4, load<f32>(src + (t * width + i) * 4));
    }
  }
  if (r == rows) return;
  memory.fill(dst, 0, width * 32);
  for (let t: usize = 0; r + t < rows; t++) {
    for (let i: usize = 0; i < width; i++) store<f32>(dst + (i * 8 + t) * 4, load<f32>(src + (t * width + i) * 4));
  }
}

/** The inverse. */
export function fromPanels(src: usize, stride: usize, rows: usize, width: usize, dst: usize): void {
  let r: usize = 0;
  for (; r + 8 <= rows; r += 8, src += stride, dst += width * 32) {
    let i: usize = 0;
    if (ASC_FEATURE_SIMD) {
      for (; i + 4 <= width; i += 4) {
        transpose4(src + i * 32, 32, dst + i * 4, width * 4);
        transpose4(src + i * 32 + 16, 32, dst + (4 * width + i) * 4, width * 4);
      }
    }
    for (; i < width; i++) {
      for (let t: usize = 0; t < 8; t++) store<f32>(dst + (t * width + i) * 4, load<f32>(src + (i * 8 + t) * 4));
    }
  }
  for (let t: usize = 0; r + t < rows; t++) {
    for (let i: usize = 0; i < width; i++) store<f32>(dst + (t * width + i) * 4, load<f32>(src + (i * 8 + t) * 4));
  }
}

/** Four vectors at `from`, strides in bytes, to their transpose at `to`. */
// @ts-ignore: decorator
@inline
function transpose4(from: usize, fromStride: usize, to: usize, toStride: usize): void {
  const a = v128.load(from), b = v128.load(from + fromStride);
  const c = v128.load(from + fromStride * 2), d = v128.load(from + fromStride * 3);
  const low = v128.shuffle<f32>(a, b, 0, 4, 1, 5), high = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
  const low2 = v128.shuffle<f32>(c, d, 0, 4, 1, 5), high2 = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
  v128.store(to, v128.shuffle<f32>(low, low2, 0, 1, 4, 5));
  v128.store(to + toStride, v128.shuffle<f32>(low, low2, 2, 3, 6, 7));
  v128.store(to + toStride * 2, v128.shuffle<f32>(high, high2, 0, 1, 4, 5));
  v128.store(to + toStride * 3, v128.shuffle<f32>(high, high2, 2, 3, 6, 7));
}
