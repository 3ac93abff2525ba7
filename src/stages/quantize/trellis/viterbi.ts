/**
 * The cheapest path of a token through the trellis (Viterbi).
 *
 * @module
 */
import { levelCost, lowerLevel, ZERO_REACH } from "./cost.ts";
import type { TrellisModel } from "./model.ts";
import { NEXT_STATE, quantizerOf, STATES } from "./states.ts";

/** Cost of a state that no path has reached. */
const UNREACHED = 0x3fffffff;

/**
 * Levels of one token.
 *
 * @param residuals in sixteenths of the step, [components]
 * @param classes of the components in this token, [components]
 * @returns levels [components]; of equally cheap paths the one with the lower states
 */
export function cheapestPath(
  model: TrellisModel,
  residuals: Int32Array,
  classes: Uint8Array,
  lambda: number,
): Int32Array {
  const components = residuals.length;
  // Best level and its cost for each quantizer and parity, and where each state came from: 2 · state + parity.
  const levels = new Int32Array(components * 4);
  const from = new Uint8Array(components * STATES);
  const branch = new Int32Array(4);
  let cost = new Int32Array(STATES).fill(UNREACHED);
  cost[0] = 0;
  for (let c = 0; c < components; c++) {
    for (let quantizer = 0; quantizer < 2; quantizer++) {
      const table = 2 * classes[c] + quantizer;
      const lower = lowerLevel(residuals[c], quantizer);
      for (let level = lower; level <= lower + 1; level++) {
        const slot = 2 * quantizer + (level & 1);
        levels[c * 4 + slot] = level;
        branch[slot] = levelCost(model, table, residuals[c], level, lambda);
      }
      if (Math.abs(residuals[c]) > ZERO_REACH) continue;
      const zero = levelCost(model, table, residuals[c], 0, lambda);
      if (zero < branch[2 * quantizer]) {
        branch[2 * quantizer] = zero;
        levels[c * 4 + 2 * quantizer] = 0;
      }
    }
    const next = new Int32Array(STATES).fill(UNREACHED);
    for (let state = 0; state < STATES; state++) {
      if (cost[state] >= UNREACHED) continue;
      for (let parity = 0; parity < 2; parity++) {
        const total = cost[state] + branch[2 * quantizerOf(state) + parity];
        const to = NEXT_STATE[2 * state + parity];
        if (total < next[to]) {
          next[to] = total;
          from[c * STATES + to] = 2 * state + parity;
        }
      }
    }
    cost = next;
  }
  let state = 0;
  for (let s = 1; s < STATES; s++) if (cost[s] < cost[state]) state = s;
  const out = new Int32Array(components);
  for (let c = components - 1; c >= 0; c--) {
    const move = from[c * STATES + state];
    out[c] = levels[c * 4 + 2 * quantizerOf(move >> 1) + (move & 1)];
    state = move >> 1;
  }
  return out;
}
