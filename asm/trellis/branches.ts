// Costs of the levels around a residual: J = e² + λ · 256 · bits, e in sixteenths of the step (cost.ts).
import { levelBits, reconstruct, Work } from "./work";

/** Level 0 is tried beside the two nearest for residuals up to this magnitude. */
const ZERO_REACH = 1024;

// @ts-ignore: decorator
@inline
function lowerLevel(residual: i32, quantizer: i32): i32 {
  if (quantizer == 0) return residual >> 5;
  if (residual >= 16) return (residual + 16) >> 5;
  if (residual >= 0) return 0;
  return residual >= -16 ? -1 : (residual - 16) >> 5;
}

// @ts-ignore: decorator
@inline
function levelCost(w: Work, table: i32, residual: i32, level: i32): i32 {
  const error = residual - 16 * reconstruct(level, table & 1);
  return error * error + ((w.weight * levelBits(w.bits, w.limits, table, level)) >> 8);
}

/** Costs of the best even and odd level of both quantizers: even0, even1, odd0, odd1; the levels go to memory. */
export let even0 = 0, even1 = 0, odd0 = 0, odd1 = 0;

// @ts-ignore: decorator
@inline
export function branches(w: Work, residual: i32, index: i32, to: usize): void {
  for (let quantizer = 0; quantizer < 2; quantizer++) {
    const table = 2 * index + quantizer;
    const lower = lowerLevel(residual, quantizer);
    const a = levelCost(w, table, residual, lower);
    const b = levelCost(w, table, residual, lower + 1);
    let evenLevel = lower & 1 ? lower + 1 : lower;
    let even = lower & 1 ? b : a;
    const odd = lower & 1 ? a : b;
    if (abs(residual) <= ZERO_REACH) {
      const zero = levelCost(w, table, residual, 0);
      if (zero < even) {
        even = zero;
        evenLevel = 0;
      }
    }
    store<i32>(to + (quantizer << 3), evenLevel);
    store<i32>(to + (quantizer << 3), lower | 1, 4);
    if (quantizer == 0) {
      even0 = even;
      odd0 = odd;
    } else {
      even1 = even;
      odd1 = odd;
    }
  }
}


/** Cost of a state that no path has reached. */
export const UNREACHED = 0x3fffffff;

/** The cheapest state, the lowest of equals. */
export function cheapest(c0: i32, c1: i32, c2: i32, c3: i32, c4: i32, c5: i32, c6: i32, c7: i32): u32 {
  let state: u32 = 0;
  let least = c0;
  if (c1 < least) { least = c1; state = 1; }
  if (c2 < least) { least = c2; state = 2; }
  if (c3 < least) { least = c3; state = 3; }
  if (c4 < least) { least = c4; state = 4; }
  if (c5 < least) { least = c5; state = 5; }
  if (c6 < least) { least = c6; state = 6; }
  if (c7 < least) { least = c7; state = 7; }
  return state;
}
