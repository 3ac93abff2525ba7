/**
 * A profile for recipe kvz: one joint basis of keys and values as 7-bit integers, the sensitivity that it was fitted
 * with, and what the coder knows of the coefficients.
 *
 * @module
 */
import type { RansTables } from "../../stages/entropy/rans_tables.ts";
import type { StepSet } from "../../stages/quantize/trellis/model.ts";
import type { CalibrationFacts, ProfileBase } from "../types.ts";

/** What the fit was weighted with: Fisher blocks by gradients, weights by forward passes, or plain spread. */
export type Sensitivity = "fisher" | "forward" | "none";

/** Measured quality at a step: mean over evaluation texts. */
export interface CurvePoint {
  /** The step is 2^(−s/60). */
  readonly s: number;
  /** Mean KL of the next-token distributions, nats. */
  readonly kl: number;
  /** Coded bits a token. */
  readonly bits: number;
}

/** A profile for kvz. Features: all of keys [layer][head][keyDim] before RoPE, then all of values. */
export interface KvzProfile extends ProfileBase {
  /** The method that it is for. */
  readonly method: "kvz";
  /** How it was made. */
  readonly calibration: CalibrationFacts;
  /** What weighted the fit. */
  readonly sensitivity: Sensitivity;
  /** Keys and values together. */
  readonly features: number;
  /** Kept components. */
  readonly components: number;
  /** Finest step that the components were kept for, that of the profile's ratio. */
  readonly finestS: number;
  /** Variance of each component in the weighted space, [components]. */
  readonly variance: Float32Array;
  /** [features]. */
  readonly mean: Float32Array;
  /** −63 … 63, [components][features]. */
  readonly basis: Int8Array;
  /** What a unit of the basis is worth, [features]. */
  readonly scales: Float32Array;
  /**
   * Regularized sensitivity A² as binary16 bits: for keys and then values [layers][heads][dim][dim]. The way there is
   * A² · (scales · basis).
   */
  readonly sensitivityBlocks: Uint16Array;
  /** Parameters of prediction and spread at several steps, from coarse to fine. */
  readonly stepSets: readonly StepSet[];
  /** Coded bits a token of the training chunks at each step set. */
  readonly stepBits: readonly number[];
  /** Frequency tables of all classes and quantizers. */
  readonly tables: RansTables;
  /** Quality by step, from coarse to fine; empty where it was not measured. */
  readonly curve: readonly CurvePoint[];
}
