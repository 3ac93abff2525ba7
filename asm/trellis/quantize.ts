// The cheapest path of a token through the trellis (Viterbi), by its prediction, energy and offsets as they stand.
import { forwardScalar } from "./forward_scalar";
import { forwardSimd } from "./forward_simd";
import { reconstruct, Work } from "./work";

/** Quantizes tokens [begin, end) again, in order: their references have been quantized before them. */
export function quantizeTokens(work: usize, begin: u32, end: u32): void {
  const w = changetype<Work>(work);
  for (let t = begin; t < end; t++) quantizeToken(w, t);
}

/**
 * Where a state came from, 2 · state + parity, by 2 · state + decision: a nibble each. The first predecessor (decision
 * 0) is the one with the lower number.
 */
// @ts-ignore: decorator
@inline
function origin(state: u32, decision: u32): u32 {
  return <u32> (<u64> 0xfa72c941eb63d850 >> ((state << 1 | decision) << 2)) & 15;
}

export function quantizeToken(w: Work, t: u32): void {
  const C = w.components;
  const out = <usize> w.reconstruction + (<usize> (t * C) << 1);
  const levels = <usize> w.levels + (<usize> (t * C) << 2);
  let state = ASC_FEATURE_SIMD ? forwardSimd(w, t) : forwardScalar(w, t);
  for (let c: i32 = <i32> C - 1; c >= 0; c--) {
    const decision = (<u32> load<u8>(<usize> w.decisions + c) >> state) & 1;
    const move = origin(state, decision);
    state = move >> 1;
    const quantizer = state >> 2;
    const level = load<i32>(<usize> w.candidates + (<usize> c << 4) + (quantizer << 3) + ((move & 1) << 2));
    store<i32>(levels + (<usize> c << 2), level);
    const L = load<i32>(<usize> w.predicted + (<usize> c << 2)) + 4 * reconstruct(level, quantizer);
    store<i16>(out + (<usize> c << 1), <i16> L);
  }
}
