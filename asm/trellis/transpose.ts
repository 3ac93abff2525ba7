// [rows][columns] → [columns][rows], in squares that stay in the first-level cache.

const SQUARE: u32 = 32;

/** 32-bit elements. `stride` is the distance of the rows of `to` in elements. */
export function transpose32(from: usize, rows: u32, columns: u32, to: usize, stride: u32): void {
  for (let r0: u32 = 0; r0 < rows; r0 += SQUARE) {
    const r1 = min(rows, r0 + SQUARE);
    for (let c0: u32 = 0; c0 < columns; c0 += SQUARE) {
      const c1 = min(columns, c0 + SQUARE);
      for (let r = r0; r < r1; r++) {
        for (let c = c0; c < c1; c++) {
          store<i32>(to + (<usize> (c * stride + r) << 2), load<i32>(from + (<usize> (r * columns + c) << 2)));
        }
      }
    }
  }
}

/** 16-bit elements. */
export function transpose16(from: usize, rows: u32, columns: u32, to: usize, stride: u32): void {
  for (let r0: u32 = 0; r0 < rows; r0 += SQUARE) {
    const r1 = min(rows, r0 + SQUARE);
    for (let c0: u32 = 0; c0 < columns; c0 += SQUARE) {
      const c1 = min(columns, c0 + SQUARE);
      for (let r = r0; r < r1; r++) {
        for (let c = c0; c < c1; c++) {
          store<i16>(to + (<usize> (c * stride + r) << 1), load<i16>(from + (<usize> (r * columns + c) << 1)));
        }
      }
    }
  }
}
