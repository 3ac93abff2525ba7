// Costs of the eight states along a token, in scalar code; decisions and candidates go to memory. Gives the last state.
import { branches, cheapest, even0, even1, odd0, odd1, UNREACHED } from "./branches";
import { predict, tokenClass, Work } from "./work";

export function forwardScalar(w: Work, t: u32): u32 {
  const C = w.components;
  const row = <usize> w.rows + (<usize> (t * C) << 2);
  const ref = <i32> load<i16>(<usize> w.refs + (t << 1));
  const mode = <u32> load<u8>(<usize> w.modes + t);
  const energy = <i32> load<u8>(<usize> w.energies + t);
  const rho = <usize> w.rho32 + mode * C;
  const base = <usize> w.base + mode * C;
  const other = <usize> w.reconstruction + (<usize> (<u32> max(0, ref) * C) << 1);
  let c0 = 0, c1 = UNREACHED, c2 = UNREACHED, c3 = UNREACHED;
  let c4 = UNREACHED, c5 = UNREACHED, c6 = UNREACHED, c7 = UNREACHED;
  for (let c: u32 = 0; c < C; c++) {
    const p = ref < 0 ? 0 : predict(<i32> load<i8>(rho + c), <i32> load<i16>(other + (c << 1)));
    store<i32>(<usize> w.predicted + (c << 2), p);
    const index = tokenClass(<i32> load<u8>(base + c), <i32> load<i8>(<usize> w.offsets + c), energy);
    branches(w, load<i32>(row + (c << 2)) - 4 * p, index, <usize> w.candidates + (<usize> c << 4));
    const x0 = c0 + even0, y0 = c2 + odd0;
    const x1 = c4 + even1, y1 = c6 + odd1;
    const x2 = c1 + odd0, y2 = c3 + even0;
    const x3 = c5 + odd1, y3 = c7 + even1;
    const x4 = c0 + odd0, y4 = c2 + even0;
    const x5 = c4 + odd1, y5 = c6 + even1;
    const x6 = c1 + even0, y6 = c3 + odd0;
    const x7 = c5 + even1, y7 = c7 + odd1;
    const decisions = i32(y0 < x0) | i32(y1 < x1) << 1 | i32(y2 < x2) << 2 | i32(y3 < x3) << 3 | i32(y4 < x4) << 4 |
      i32(y5 < x5) << 5 | i32(y6 < x6) << 6 | i32(y7 < x7) << 7;
    c0 = min(x0, y0);
    c1 = min(x1, y1);
    c2 = min(x2, y2);
    c3 = min(x3, y3);
    c4 = min(x4, y4);
    c5 = min(x5, y5);
    c6 = min(x6, y6);
    c7 = min(x7, y7);
    store<u8>(<usize> w.decisions + c, <u8> decisions);
  }
  return cheapest(c0, c1, c2, c3, c4, c5, c6, c7);
}
