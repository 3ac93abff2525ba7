/**
 * Training of what the coder knows: how components are predicted in each mode, how large their residuals are, and how often
 * each level occurs. Chunks are coded with the current parameters, and these are fitted to what was coded, in rounds, as
 * in vector quantization (Linde, Buzo and Gray).
 *
 * @module
 */
import type { TrellisKernels } from "../../backend/wasm/trellis_kernels.ts";
import { normalizeTables, type RansTables } from "../../stages/entropy/rans_tables.ts";
import { countSymbols } from "../../stages/entropy/rans_counts.ts";
import { escapeLevels } from "../../stages/entropy/escapes.ts";
import { SUBSTEPS } from "../../stages/quantize/trellis/cost.ts";
import { initialTables, laplaceWeights } from "../../stages/quantize/trellis/initial_tables.ts";
import {
  MODES,
  type StepSet,
  tableBits,
  tableLimits,
  TABLES,
  trellisContexts,
  trellisModel,
} from "../../stages/quantize/trellis/model.ts";
import { stepOf } from "../../stages/quantize/trellis/step.ts";
import type { TrellisCode } from "../../stages/quantize/trellis/reference.ts";
import { toSubsteps } from "../../stages/quantize/trellis/substeps.ts";
import { encodeTrellis } from "../../stages/quantize/trellis/trellis.ts";

/** A chunk to train on. */
export interface TrainingChunk {
  readonly tokens: number;
  /** float32 [tokens][components]. */
  readonly coefficients: Float32Array;
}

/** What training yields. */
export interface Trained {
  readonly stepSets: StepSet[];
  readonly tables: RansTables;
  /** Coded bits a token at each step, by the tables. */
  readonly bits: number[];
}

/** Prediction of the modes before training. */
const FIRST_RHO = [0, 8, 16, 23, 29];
/** Symbols that the Laplacian prior of a table counts for. */
const PRIOR = 200;
/** Tokens that the parameters of all modes count for in those of one. */
const SHRINK = 40;
/** Residuals are never taken as smaller than this share of a step: beyond it only zeros are coded. */
const LEAST_SIGMA = 1 / 64;

/** Options of {@linkcode train}. */
export interface TrainOptions {
  /** Steps to train at, rising. */
  readonly steps: readonly number[];
  readonly lambda: number;
  readonly rounds?: number;
  readonly onProgress?: (fraction: number) => void;
}

/** Trains step sets and tables on chunks; `variance` of the components starts them. */
export function train(
  kernels: TrellisKernels,
  chunks: readonly TrainingChunk[],
  variance: ArrayLike<number>,
  { steps, lambda, rounds = 4, onProgress = () => {} }: TrainOptions,
): Trained {
  const components = variance.length;
  let tables = initialTables();
  let stepSets = steps.map((s) => firstSet(s, variance));
  let bits: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const costs = { bits: tableBits(tables), limits: tableLimits(tables) };
    const counts = new Float64Array(TABLES * 256);
    bits = [];
    stepSets = stepSets.map((set, i) => {
      const statistics = new SetStatistics(components);
      let sum = 0;
      for (const [j, { tokens, coefficients }] of chunks.entries()) {
        const { y, s } = toSubsteps(coefficients, components, tokens, set.s);
        const model = trellisModel([set], s, costs);
        const code = encodeTrellis(kernels, model, y, tokens, lambda);
        statistics.add(y, code, s);
        const contexts = trellisContexts(model, code);
        const { symbols } = escapeLevels(code.levels, components, tokens, contexts, costs.limits);
        const found = countSymbols(symbols, components, tokens, contexts, TABLES);
        for (let k = 0; k < found.length; k++) {
          counts[k] += found[k];
          if (found[k] > 0) sum += found[k] * costs.bits[k] / 256;
        }
        onProgress((round + (i + (j + 1) / chunks.length) / stepSets.length) / rounds);
      }
      bits.push(sum / chunks.reduce((all, { tokens }) => all + tokens, 0));
      return statistics.fit(set);
    });
    tables = fitTables(counts);
  }
  return { stepSets, tables, bits };
}

function firstSet(s: number, variance: ArrayLike<number>): StepSet {
  const components = variance.length;
  const rho32 = new Int8Array(MODES * components);
  const logSigma = new Int16Array(MODES * components);
  for (let mode = 0; mode < MODES; mode++) {
    const rho = FIRST_RHO[mode] / 32;
    for (let c = 0; c < components; c++) {
      rho32[mode * components + c] = FIRST_RHO[mode];
      logSigma[mode * components + c] = toLogSigma(variance[c] * (1 - rho * rho), s);
    }
  }
  return { s, rho32, logSigma };
}

/** 60 · log2 of the standard deviation, in coefficient units. */
function toLogSigma(variance: number, s: number): number {
  const least = (LEAST_SIGMA * stepOf(s)) ** 2;
  return Math.round(30 * Math.log2(Math.max(variance, least)));
}

/** Sums of one step: per mode and component, of y², y · L and L² over tokens with a reference, in steps. */
class SetStatistics {
  readonly #components: number;
  readonly #tokens = new Float64Array(MODES);
  readonly #yy: Float64Array;
  readonly #yl: Float64Array;
  readonly #ll: Float64Array;

  constructor(components: number) {
    this.#components = components;
    this.#yy = new Float64Array(MODES * components);
    this.#yl = new Float64Array(MODES * components);
    this.#ll = new Float64Array(MODES * components);
  }

  add(y: Int32Array, { refs, modes, reconstruction }: TrellisCode, s: number): void {
    const C = this.#components;
    const tokens = refs.length;
    // In coefficient units: chunks may differ in their steps.
    const unit = stepOf(s);
    for (let t = 0; t < tokens; t++) this.#tokens[modes[t]]++;
    for (let c = 0; c < C; c++) {
      for (let t = 0; t < tokens; t++) {
        const at = modes[t] * C + c;
        const value = y[c * tokens + t] * unit / SUBSTEPS;
        const reference = refs[t] < 0 ? 0 : reconstruction[c * tokens + refs[t]] * unit / 4;
        this.#yy[at] += value * value;
        this.#yl[at] += value * reference;
        this.#ll[at] += reference * reference;
      }
    }
  }

  /** Least squares a mode and component, drawn to the mode's common prediction where a mode has few tokens. */
  fit(old: StepSet): StepSet {
    const C = this.#components;
    const rho32 = new Int8Array(MODES * C);
    const logSigma = new Int16Array(MODES * C);
    const all = this.#tokens.reduce((a, b) => a + b, 0);
    for (let mode = 0; mode < MODES; mode++) {
      const share = SHRINK / Math.max(1, all);
      for (let c = 0; c < C; c++) {
        const at = mode * C + c;
        if (this.#tokens[mode] < 2) {
          rho32[at] = old.rho32[at];
          logSigma[at] = old.logSigma[at];
          continue;
        }
        // What all modes say of the component stands in for SHRINK tokens, predicted as before.
        let [yy, ll] = [0, 0];
        for (let m = 0; m < MODES; m++) {
          yy += this.#yy[m * C + c];
          ll += this.#ll[m * C + c];
        }
        const before = old.rho32[at] / 32;
        const lls = this.#ll[at] + share * ll;
        const yls = this.#yl[at] + share * before * ll;
        const yys = this.#yy[at] + share * yy;
        const rho = lls > 0 ? Math.max(0, Math.min(32, Math.round(32 * yls / lls))) : 0;
        rho32[at] = rho;
        const r = rho / 32;
        const residual = (yys - 2 * r * yls + r * r * lls) / (this.#tokens[mode] + SHRINK);
        logSigma[at] = toLogSigma(residual, old.s);
      }
    }
    return { s: old.s, rho32, logSigma };
  }
}

/** Tables of 11 bits from counts and the Laplacian prior. */
function fitTables(counts: Float64Array): RansTables {
  const weights = Array.from({ length: TABLES }, (_, table) => {
    const row = laplaceWeights(table >> 1, table & 1);
    const total = row.reduce((a, b) => a + b, 0);
    const found = counts.subarray(table * 256, (table + 1) * 256);
    return row.map((weight, symbol) => weight === 0 ? 0 : found[symbol] + PRIOR * weight / total);
  });
  return normalizeTables(weights, 11);
}
