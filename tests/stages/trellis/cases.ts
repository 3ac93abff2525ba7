/** Models and coefficients for the tests of the trellis coder. */

import { initialTables } from "../../../src/stages/quantize/trellis/initial_tables.ts";
import {
  MODES,
  type StepSet,
  tableBits,
  tableLimits,
  type TrellisModel,
  trellisModel,
} from "../../../src/stages/quantize/trellis/model.ts";

const tables = initialTables();
export const TABLES = tables;
export const COSTS = { bits: tableBits(tables), limits: tableLimits(tables) };

/** A generator of uniform numbers below 1 (mulberry32). */
export function uniform(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = a;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Normal deviates (Box and Muller). */
export function normal(seed: number): () => number {
  const next = uniform(seed);
  return () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
}

/** A model whose residuals fall from `sigma` steps by `decay` a component. */
export function fallingModel(components: number, { sigma = 8, decay = 0.97, s = 300, rho = 20 } = {}): TrellisModel {
  const logSigma = new Int16Array(MODES * components);
  const rho32 = new Int8Array(MODES * components);
  for (let mode = 0; mode < MODES; mode++) {
    for (let c = 0; c < components; c++) {
      const width = sigma * decay ** c * 2 ** (-s / 60) / (1 + mode / 3);
      logSigma[mode * components + c] = Math.round(60 * Math.log2(width));
      rho32[mode * components + c] = Math.max(0, Math.min(32, Math.round(rho * (mode + 1) / 3)));
    }
  }
  const set: StepSet = { s, rho32, logSigma };
  return trellisModel([set], s, COSTS);
}

/** Coefficients in sixteenths that fit {@linkcode fallingModel}, each token like one before, [components][tokens]. */
export function coefficients(components: number, tokens: number, seed: number, { sigma = 8, decay = 0.97 } = {}) {
  const deviate = normal(seed);
  const pick = uniform(seed + 1);
  const y = new Int32Array(components * tokens);
  for (let t = 0; t < tokens; t++) {
    const ref = Math.floor(pick() * (t + 1)) - 1;
    const energy = 2 ** (2 * pick() - 1);
    for (let c = 0; c < components; c++) {
      const old = ref < 0 ? 0 : y[c * tokens + ref];
      y[c * tokens + t] = Math.round(0.7 * old + 16 * sigma * decay ** c * energy * deviate());
    }
  }
  return y;
}
