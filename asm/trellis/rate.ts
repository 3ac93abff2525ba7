// Choice of a token's energy and of a component's offset by the exact cost of the levels found before.
import { levelBits, nextState, tokenClass, Work } from "./work";

/** What an offset other than 0 has to save, in 1/256 bit. */
const OFFSET_COST = 768;

/** Chooses the energies of tokens [begin, end). */
export function chooseEnergies(work: usize, begin: u32, end: u32): void {
  const w = changetype<Work>(work);
  const C = w.components;
  for (let t = begin; t < end; t++) {
    const levels = <usize> w.levels + (<usize> (t * C) << 2);
    const base = <usize> w.base + <u32> load<u8>(<usize> w.modes + t) * C;
    let b0: i64 = 0, b1: i64 = 0, b2: i64 = 0;
    let state: u32 = 0;
    for (let c: u32 = 0; c < C; c++) {
      const level = load<i32>(levels + (c << 2));
      const index = <i32> load<u8>(base + c), offset = <i32> load<i8>(<usize> w.offsets + c);
      const quantizer = <i32> (state >> 2);
      b0 += levelBits(w.bits, w.limits, 2 * tokenClass(index, offset, 0) + quantizer, level);
      b1 += levelBits(w.bits, w.limits, 2 * tokenClass(index, offset, 1) + quantizer, level);
      b2 += levelBits(w.bits, w.limits, 2 * tokenClass(index, offset, 2) + quantizer, level);
      state = nextState(state, level & 1);
    }
    let energy: u8 = 1;
    let least = b1;
    if (b0 < least) { least = b0; energy = 0; }
    if (b2 < least) energy = 2;
    store<u8>(<usize> w.energies + t, energy);
  }
}

/** Writes the trellis state before each level. */
export function rememberStates(work: usize): void {
  const w = changetype<Work>(work);
  const C = w.components;
  for (let t: u32 = 0; t < w.tokens; t++) {
    let state: u32 = 0;
    for (let c: u32 = 0; c < C; c++) {
      store<u8>(<usize> w.states + t * C + c, <u8> state);
      state = nextState(state, load<i32>(<usize> w.levels + (<usize> (t * C + c) << 2)) & 1);
    }
  }
}

function offsetBits(w: Work, c: u32, offset: i32): i64 {
  const C = w.components;
  let bits: i64 = offset == 0 ? 0 : OFFSET_COST;
  for (let t: u32 = 0; t < w.tokens; t++) {
    const base = <i32> load<u8>(<usize> w.base + <u32> load<u8>(<usize> w.modes + t) * C + c);
    const index = tokenClass(base, offset, load<u8>(<usize> w.energies + t));
    const quantizer = <i32> load<u8>(<usize> w.states + t * C + c) >> 2;
    const level = load<i32>(<usize> w.levels + (<usize> (t * C + c) << 2));
    bits += levelBits(w.bits, w.limits, 2 * index + quantizer, level);
  }
  return bits;
}

/** Chooses the offsets of all components: 0, −4, −2, 2 or 4, the first of the cheapest. */
export function chooseOffsets(work: usize): void {
  const w = changetype<Work>(work);
  for (let c: u32 = 0; c < w.components; c++) {
    let best = 0;
    let least = offsetBits(w, c, 0);
    for (let offset = -4; offset <= 4; offset += 2) {
      if (offset == 0) continue;
      const bits = offsetBits(w, c, offset);
      if (bits < least) {
        least = bits;
        best = offset;
      }
    }
    store<i8>(<usize> w.offsets + c, <i8> best);
  }
}
