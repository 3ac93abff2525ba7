/**
 * The trellis coder's model of a segment, from classes of spread that are measured on the segment itself.
 *
 * @module
 */
import { naturalLog } from "../../cache/power.ts";
import { CLASSES, MODES, type TrellisModel } from "../quantize/trellis/model.ts";
import { SUBSTEPS } from "../quantize/trellis/cost.ts";

/** What levels cost under the tables in use (`tableBits`, `tableLimits`). */
export type LevelCosts = Pick<TrellisModel, "bits" | "limits">;

/**
 * Prediction from an earlier token of the segment in 1/32, by mode. Nothing is known of the model, so that all features
 * share it.
 */
const RHO: readonly number[] = [0, 8, 16, 24, 32];
/** Classes that the prediction saves: the residual of a token that correlates by ρ has √(1 − ρ²) of the spread. */
const SAVED: readonly number[] = [1, 2, 3, 5, 7];

/** Class of spread of each row of y [rows][tokens] in sixteenths of the step: fifths of an octave, 12 for one step. */
export function chooseClasses(y: Int32Array, tokens: number): Uint8Array {
  return Uint8Array.from({ length: y.length / tokens }, (_, row) => {
    let squares = 0;
    for (let i = row * tokens; i < (row + 1) * tokens; i++) squares += y[i] * y[i];
    const variance = squares / (tokens * SUBSTEPS * SUBSTEPS);
    const fifths = 2.5 / Math.LN2 * naturalLog(variance);
    return variance === 0 ? 0 : Math.min(CLASSES - 1, Math.max(0, Math.round(fifths) + 12));
  });
}

/** The model of rows with these classes. */
export function measuredModel(classes: Uint8Array, costs: LevelCosts): TrellisModel {
  const components = classes.length;
  const rho32 = new Int8Array(MODES * components);
  const base = new Uint8Array(MODES * components);
  for (let mode = 0; mode < MODES; mode++) {
    rho32.fill(RHO[mode], mode * components, (mode + 1) * components);
    for (let c = 0; c < components; c++) base[mode * components + c] = Math.max(0, classes[c] - SAVED[mode]);
  }
  return { components, s: 0, rho32, base, ...costs };
}
