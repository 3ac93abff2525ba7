/**
 * Prediction and trellis-coded quantization of a chunk, in plain TypeScript: the definition of the kernels.
 *
 * Each token is predicted from an earlier token of the chunk that resembles it, in integers (in quarters of the step):
 * p = (rho32 · L[ref] + 16) >> 5, L = p + 4 · reconstruct(level). Similar contexts give similar caches, as similar frames
 * of a film do, so most of a repeated phrase is known before it is read.
 *
 * @module
 */
import { KvzFormatError } from "../../../errors.ts";
import { LAMBDA_ONE, levelBits, MAX_INPUT, PROXY_BUCKETS, proxyBucket, proxyCosts } from "./cost.ts";
import { BIT, ENERGIES, MODES, tokenClass, type TrellisModel } from "./model.ts";
import type { TrellisSide } from "./side.ts";
import { NEXT_STATE, quantizerOf, reconstruct } from "./states.ts";
import { cheapestPath } from "./viterbi.ts";

/** Components that similarity is measured on. */
export const SIMILAR_COMPONENTS = 64;
/** Similar tokens that are tried as references, beside the previous token and none. */
export const SIMILAR_TOKENS = 4;
/** Components that reference and mode are chosen on. */
export const PROXY_COMPONENTS = 256;
/** Offsets of a component's class that are tried; 0 first, so that it wins ties. */
const OFFSETS = [0, -4, -2, 2, 4];
/** What an offset other than 0 has to save, in 1/256 bit. */
const OFFSET_COST = 3 * BIT;

/** A coded chunk. */
export interface TrellisCode extends TrellisSide {
  /** Levels, [components][tokens]. */
  readonly levels: Int32Array;
  /** Reconstructed coefficients in quarters of the step, [components][tokens]. */
  readonly reconstruction: Int16Array;
}

/** The first tokens of a chunk, coded before, which stay as they are (append). */
export type CodedPrefix = Omit<TrellisCode, "s">;

/** Checks the input of an encoder and gives λ in its integer form. */
export function checkEncoderInput(model: TrellisModel, y: Int32Array, tokens: number, lambda: number): number {
  if (y.length !== model.components * tokens) {
    throw new RangeError(
      `Cannot code chunk: there are ${y.length} coefficients, expected ${model.components} × ${tokens}`,
    );
  }
  const weight = weightOf(lambda);
  if (y.some((value) => Math.abs(value) > MAX_INPUT)) {
    throw new RangeError(`Cannot code chunk: a coefficient is beyond ±${MAX_INPUT} sixteenths of the step`);
  }
  return weight;
}

/**
 * λ in its integer form.
 *
 * @throws {RangeError} when it is out of range.
 */
export function weightOf(lambda: number): number {
  if (!(lambda >= 0 && lambda <= 16)) throw new RangeError(`Cannot code chunk: λ is ${lambda}, expected 0 to 16`);
  return Math.round(lambda * LAMBDA_ONE);
}

/**
 * Codes a chunk.
 *
 * @param y coefficients in sixteenths of the step, [components][tokens] (without those of the prefix)
 * @param lambda weight of a bit against a squared error of a step
 * @throws {RangeError} when sizes do not fit, a coefficient is beyond ±100,000 or λ out of range
 */
export function encodeTrellisReference(
  model: TrellisModel,
  y: Int32Array,
  tokens: number,
  lambda: number,
  prefix: CodedPrefix | null = null,
): TrellisCode {
  const { components: C } = model;
  const weight = checkEncoderInput(model, y, tokens, lambda);
  const first = prefix?.refs.length ?? 0;
  const total = first + tokens;
  const rows = new Int32Array(C * total);
  const levels = new Int32Array(C * total);
  const L = new Int16Array(C * total);
  const refs = new Int16Array(total).fill(-1);
  const modes = new Uint8Array(total);
  const energies = new Uint8Array(total).fill(1);
  const offsets = prefix === null ? new Int8Array(C) : prefix.offsets.slice();
  // Token-major inside: a token's components lie together.
  for (let c = 0; c < C; c++) {
    for (let t = 0; t < tokens; t++) rows[(first + t) * C + c] = y[c * tokens + t];
    for (let t = 0; t < first; t++) {
      levels[t * C + c] = prefix!.levels[c * first + t];
      L[t * C + c] = prefix!.reconstruction[c * first + t];
    }
  }
  if (prefix !== null) {
    refs.set(prefix.refs);
    modes.set(prefix.modes);
    energies.set(prefix.energies);
  }
  const costs = proxyCosts(model, weight);
  const work = { model, rows, L, refs, modes, energies, offsets, levels };
  for (let t = first; t < total; t++) {
    const { ref, mode } = choosePrediction(work, costs, t);
    refs[t] = ref;
    modes[t] = mode;
    quantizeToken(work, t, weight);
  }
  for (let t = first; t < total; t++) energies[t] = cheapestEnergy(work, t);
  if (prefix === null) {
    const states = statesOf(levels, C, total);
    for (let c = 0; c < C; c++) offsets[c] = cheapestOffset(work, states, c, total);
  }
  for (let t = first; t < total; t++) energies[t] = cheapestEnergy(work, t);
  for (let t = first; t < total; t++) quantizeToken(work, t, weight);
  return {
    s: model.s,
    refs,
    modes,
    energies,
    offsets,
    levels: transposed(levels, total, C, new Int32Array(C * total)),
    reconstruction: transposed(L, total, C, new Int16Array(C * total)),
  };
}

/**
 * Reconstructs a chunk from its levels: coefficients in quarters of the step, [components][tokens].
 *
 * @throws {KvzFormatError} when one leaves 16 bits.
 */
export function decodeTrellisReference(
  model: TrellisModel,
  levels: Int32Array,
  { refs, modes }: TrellisSide,
  tokens: number,
): Int16Array {
  const { components: C, rho32 } = model;
  const L = new Int16Array(C * tokens);
  const states = new Uint8Array(tokens);
  for (let c = 0; c < C; c++) {
    for (let t = 0; t < tokens; t++) {
      const level = levels[c * tokens + t];
      const p = refs[t] < 0 ? 0 : (rho32[modes[t] * C + c] * L[c * tokens + refs[t]] + 16) >> 5;
      const value = p + 4 * reconstruct(level, quantizerOf(states[t]));
      if (value !== value << 16 >> 16) throw reconstructionTooLarge();
      L[c * tokens + t] = value;
      states[t] = NEXT_STATE[2 * states[t] + (level & 1)];
    }
  }
  return L;
}

/** A reconstruction that no encoder makes. */
export function reconstructionTooLarge(): KvzFormatError {
  return new KvzFormatError("Cannot decode chunk: a reconstructed coefficient leaves 16 bits");
}

interface Work {
  readonly model: TrellisModel;
  /** Coefficients in sixteenths, [tokens][components]. */
  readonly rows: Int32Array;
  readonly L: Int16Array;
  readonly refs: Int16Array;
  readonly modes: Uint8Array;
  readonly energies: Uint8Array;
  readonly offsets: Int8Array;
  readonly levels: Int32Array;
}

/** The earlier tokens that are most like token t, nearest first; of equals the earlier one first. */
function similarTokens({ model, rows, L }: Work, t: number): number[] {
  const C = model.components;
  const n = Math.min(SIMILAR_COMPONENTS, C);
  const found: { token: number; distance: number }[] = [];
  for (let u = 0; u < t; u++) {
    let distance = 0;
    for (let c = 0; c < n; c++) distance += Math.abs(rows[t * C + c] - 4 * L[u * C + c]);
    let at = found.length;
    while (at > 0 && distance < found[at - 1].distance) at--;
    if (at < SIMILAR_TOKENS) found.splice(at, 0, { token: u, distance });
    if (found.length > SIMILAR_TOKENS) found.pop();
  }
  return found.map(({ token }) => token);
}

function choosePrediction(work: Work, costs: Int32Array, t: number): { ref: number; mode: number } {
  const { model, rows, L } = work;
  const C = model.components;
  const n = Math.min(PROXY_COMPONENTS, C);
  const candidates = [-1, ...(t > 0 ? [t - 1] : []), ...similarTokens(work, t)];
  let best = { ref: -1, mode: 0, cost: Infinity };
  for (const ref of candidates) {
    for (let mode = 0; mode < MODES; mode++) {
      let cost = 0;
      for (let c = 0; c < n; c++) {
        const p = ref < 0 ? 0 : (model.rho32[mode * C + c] * L[ref * C + c] + 16) >> 5;
        const bucket = proxyBucket(Math.abs(rows[t * C + c] - 4 * p));
        cost += costs[model.base[mode * C + c] * PROXY_BUCKETS + bucket];
      }
      if (cost < best.cost) best = { ref, mode, cost };
    }
  }
  return best;
}

/** Quantizes token t with its prediction, energy and offsets as they stand. */
function quantizeToken({ model, rows, L, refs, modes, energies, offsets, levels }: Work, t: number, weight: number) {
  const C = model.components;
  const predicted = new Int32Array(C);
  const residuals = new Int32Array(C);
  const classes = new Uint8Array(C);
  for (let c = 0; c < C; c++) {
    predicted[c] = refs[t] < 0 ? 0 : (model.rho32[modes[t] * C + c] * L[refs[t] * C + c] + 16) >> 5;
    residuals[c] = rows[t * C + c] - 4 * predicted[c];
    classes[c] = tokenClass(model.base[modes[t] * C + c], offsets[c], energies[t]);
  }
  const path = cheapestPath(model, residuals, classes, weight);
  levels.set(path, t * C);
  let state = 0;
  for (let c = 0; c < C; c++) {
    L[t * C + c] = predicted[c] + 4 * reconstruct(path[c], quantizerOf(state));
    state = NEXT_STATE[2 * state + (path[c] & 1)];
  }
}

/** The energy under which token t's levels are the shortest; the middle one wins ties, then the lower. */
function cheapestEnergy({ model, modes, offsets, levels }: Work, t: number): number {
  const C = model.components;
  const bits = new Float64Array(ENERGIES);
  let state = 0;
  for (let c = 0; c < C; c++) {
    const level = levels[t * C + c];
    for (let energy = 0; energy < ENERGIES; energy++) {
      const index = tokenClass(model.base[modes[t] * C + c], offsets[c], energy);
      bits[energy] += levelBits(model, 2 * index + quantizerOf(state), level);
    }
    state = NEXT_STATE[2 * state + (level & 1)];
  }
  let best = 1;
  for (const energy of [0, 2]) if (bits[energy] < bits[best]) best = energy;
  return best;
}

function cheapestOffset(
  { model, modes, energies, levels }: Work,
  states: Uint8Array,
  c: number,
  tokens: number,
): number {
  const C = model.components;
  let best = { offset: 0, bits: Infinity };
  for (const offset of OFFSETS) {
    let bits = offset === 0 ? 0 : OFFSET_COST;
    for (let t = 0; t < tokens; t++) {
      const index = tokenClass(model.base[modes[t] * C + c], offset, energies[t]);
      bits += levelBits(model, 2 * index + quantizerOf(states[t * C + c]), levels[t * C + c]);
    }
    if (bits < best.bits) best = { offset, bits };
  }
  return best.offset;
}

/** Trellis state before each level, [tokens][components]. */
function statesOf(levels: Int32Array, components: number, tokens: number): Uint8Array {
  const states = new Uint8Array(levels.length);
  for (let t = 0; t < tokens; t++) {
    let state = 0;
    for (let c = 0; c < components; c++) {
      states[t * components + c] = state;
      state = NEXT_STATE[2 * state + (levels[t * components + c] & 1)];
    }
  }
  return states;
}

function transposed<T extends Int32Array | Int16Array>(from: T, rows: number, columns: number, to: T): T {
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) to[c * rows + r] = from[r * columns + c];
  }
  return to;
}
