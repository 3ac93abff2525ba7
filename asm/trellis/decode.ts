// Levels → coefficients: the inverse of prediction and quantization, component by component.
import { nextState, predict, reconstruct } from "./work";

/**
 * Coefficients in quarters of the step, i16 [components][tokens], from levels i32 [components][tokens]. `states` is
 * scratch, u8 [tokens]. False when one leaves 16 bits.
 */
export function decodeTrellis(
  levels: usize,
  components: u32,
  tokens: u32,
  rho32: usize,
  refs: usize,
  modes: usize,
  states: usize,
  out: usize,
): bool {
  memory.fill(states, 0, tokens);
  let beyond = 0;
  for (let c: u32 = 0; c < components; c++) {
    for (let t: u32 = 0; t < tokens; t++) {
      const level = load<i32>(levels + (t << 2));
      const ref = <i32> load<i16>(refs + (t << 1));
      const rho = <i32> load<i8>(rho32 + <u32> load<u8>(modes + t) * components + c);
      const p = ref < 0 ? 0 : predict(rho, <i32> load<i16>(out + (ref << 1)));
      const state = <u32> load<u8>(states + t);
      const value = p + 4 * reconstruct(level, state >> 2);
      beyond |= value ^ <i32> <i16> value;
      store<i16>(out + (t << 1), <i16> value);
      store<u8>(states + t, <u8> nextState(state, level & 1));
    }
    levels += <usize> tokens << 2;
    out += <usize> tokens << 1;
  }
  return beyond == 0;
}
