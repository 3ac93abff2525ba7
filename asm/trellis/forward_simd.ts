// Costs of the eight states along a token, four to a vector; decisions and candidates go to memory. Gives the last state.
import { branches, cheapest, even0, even1, odd0, odd1, UNREACHED } from "./branches";
import { predict, tokenClass, Work } from "./work";

export function forwardSimd(w: Work, t: u32): u32 {
  const C = w.components;
  const row = <usize> w.rows + (<usize> (t * C) << 2);
  const ref = <i32> load<i16>(<usize> w.refs + (t << 1));
  const mode = <u32> load<u8>(<usize> w.modes + t);
  const energy = <i32> load<u8>(<usize> w.energies + t);
  const rho = <usize> w.rho32 + mode * C;
  const base = <usize> w.base + mode * C;
  const other = <usize> w.reconstruction + (<usize> (<u32> max(0, ref) * C) << 1);
  let high = i32x4.splat(UNREACHED);
  let low = i32x4.replace_lane(high, 0, 0);
  for (let c: u32 = 0; c < C; c++) {
    const p = ref < 0 ? 0 : predict(<i32> load<i8>(rho + c), <i32> load<i16>(other + (c << 1)));
    store<i32>(<usize> w.predicted + (c << 2), p);
    const index = tokenClass(<i32> load<u8>(base + c), <i32> load<i8>(<usize> w.offsets + c), energy);
    branches(w, load<i32>(row + (c << 2)) - 4 * p, index, <usize> w.candidates + (<usize> c << 4));
    // Predecessors of states 0 … 3 and of 4 … 7: (0, 4, 1, 5) and (2, 6, 3, 7).
    const first = v128.shuffle<i32>(low, high, 0, 4, 1, 5);
    const second = v128.shuffle<i32>(low, high, 2, 6, 3, 7);
    const a = i32x4.replace_lane(
      i32x4.replace_lane(i32x4.replace_lane(i32x4.splat(even0), 1, even1), 2, odd0),
      3,
      odd1,
    );
    const b = v128.shuffle<i32>(a, a, 2, 3, 0, 1);
    const x0 = i32x4.add(first, a), y0 = i32x4.add(second, b);
    const x1 = i32x4.add(first, b), y1 = i32x4.add(second, a);
    low = i32x4.min_s(x0, y0);
    high = i32x4.min_s(x1, y1);
    const decisions = i32x4.bitmask(i32x4.lt_s(y0, x0)) | i32x4.bitmask(i32x4.lt_s(y1, x1)) << 4;
    store<u8>(<usize> w.decisions + c, <u8> decisions);
  }
  const c0 = i32x4.extract_lane(low, 0);
  const c1 = i32x4.extract_lane(low, 1);
  const c2 = i32x4.extract_lane(low, 2);
  const c3 = i32x4.extract_lane(low, 3);
  const c4 = i32x4.extract_lane(high, 0);
  const c5 = i32x4.extract_lane(high, 1);
  const c6 = i32x4.extract_lane(high, 2);
  const c7 = i32x4.extract_lane(high, 3);
  return cheapest(c0, c1, c2, c3, c4, c5, c6, c7);
}
