// encodeFp8, decodeFp8: rows of f32 ↔ E4M3 codes with one binary16 scale a row.
import { decodeE4m3, encodeE4m3 } from "./e4m3";

/** codes[r][i] = E4M3(src[r][i] / scale[r]), scale[r] = f16(max |src[r]| / 448). */
export function encodeFp8(src: usize, rows: usize, length: usize, codes: usize, scales: usize): void {
  for (let r: usize = 0; r < rows; r++) {
    store<u16>(scales + r * 2, encodeE4m3(src + r * length * 4, length, codes + r * length));
  }
}

/** dst[r][i] = value of codes[r][i] · scale[r]. */
export function decodeFp8(codes: usize, scales: usize, rows: usize, length: usize, dst: usize): void {
  for (let r: usize = 0; r < rows; r++) {
    decodeE4m3(codes + r * length, length, load<u16>(scales + r * 2), dst + r * length * 4);
  }
}
