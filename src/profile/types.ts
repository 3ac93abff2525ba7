/**
 * What calibration yields for one model, as plain data.
 *
 * @module
 */
import type { Kind, ModelSpec } from "../cache/types.ts";
import type { KvcarProfile } from "./kvcar/types.ts";
import type { KvquantProfile } from "./kvquant/types.ts";
import type { KvzProfile } from "./kvz/types.ts";
import type { LowRankProfile } from "./lowrank/types.ts";

/** Group sizes of KVTC's dynamic program (paper, B.17). */
export const GROUP_SIZES: readonly number[] = [1, 16, 64, 256, 1024];
/** Group types with payload, as in QuantGroup.type: 1 = int2, 2 = int4, 3 = fp8. */
export const GROUP_TYPES: readonly (1 | 2 | 3)[] = [1, 2, 3];
/** Bits of shift and scale of a group, charged for every type (fp8's shift is 0 and charged all the same). */
export const GROUP_METADATA_BITS = 32;

/** Measured quantization errors, input of the bit allocation. */
export interface ErrorTable {
  /** Components covered, the rank of the fit. */
  readonly rank: number;
  /** Sample rows behind the sums. */
  readonly rows: number;
  /** Σ over rows of the squared coefficient, per component: [rank]. */
  readonly energy: Float64Array;
  /**
   * Σ over rows and components of the squared error of a group, [rank][GROUP_SIZES][GROUP_TYPES]: entry i is the
   * group whose last component is i; Infinity where the group would begin before component 0.
   */
  readonly errors: Float32Array;
}

/** The part of a profile for keys or for values. */
export interface KindProfile {
  /** p = layers · heads · dim, in the order [layer][head][dim]; keys before RoPE, half-split. */
  readonly features: number;
  /** Rows kept in `basis` (a trimmed profile keeps fewer than `table.rank`). */
  readonly components: number;
  /** [features], float32. */
  readonly mean: Float32Array;
  /** Orthonormal rows as binary16 bits, [components][features], by falling variance. */
  readonly basis: Uint16Array;
  /** Variance along each component of the fit, [rank]. */
  readonly variance: Float32Array;
  /** Total variance, Σ over all features. */
  readonly totalVariance: number;
  /** Quantization errors, input of the bit allocation. */
  readonly table: ErrorTable;
}

/** What every profile says of its making. */
export interface TrainingFacts {
  /** Rows (tokens) that entered the statistics; sinks excluded. */
  readonly tokens: number;
  /** Leading tokens of each sequence left out. */
  readonly sinks: number;
  /** Caches that entered. */
  readonly sequences: number;
  /** Seed of all that was drawn. */
  readonly seed: number;
}

/** What profiles with a decomposition say of their making. */
export interface CalibrationFacts extends TrainingFacts {
  /** Which decomposition. */
  readonly svd: "randomized" | "exact";
}

/** What a profile of KVTC says of its making. */
export interface KvtcCalibrationFacts extends CalibrationFacts {
  /** Ratios that the basis was trimmed for; empty: not trimmed. */
  readonly ratios: readonly number[];
}

/** What profiles of all methods hold. */
export interface ProfileBase {
  /** The method that it is for, the name of a recipe. */
  readonly method: string;
  /** The model. */
  readonly model: ModelSpec;
  /** Names the fit, hex SHA-256; equal for all trimmed forms of one fit. */
  readonly fingerprint: string;
  /**
   * Layers of the model that take keys and values from others, with their sources (27:3+28:5): `model` has only the layers
   * that are left, and recipe kvsharer with this map takes the profile. Absent: `model` has all layers.
   */
  readonly layerMap?: string;
  /** How it was made. */
  readonly calibration: TrainingFacts;
  /** 64-bit hashes of the 32-token shingles of the calibration texts, for held-out checks. */
  readonly shingles: BigUint64Array;
}

/** A profile for KVTC. One basis serves all ratios (paper, B.1). */
export interface KvtcProfile extends ProfileBase {
  /** The method that it is for. */
  readonly method: "kvtc";
  /** How it was made. */
  readonly calibration: KvtcCalibrationFacts;
  /** Bases and tables of keys and of values. */
  readonly kinds: Readonly<Record<Kind, KindProfile>>;
}

/** A calibrated profile of one model. */
export type Profile =
  | KvtcProfile
  | KvzProfile
  | KvcarProfile
  | KvquantProfile
  | LowRankProfile<"palu">
  | LowRankProfile<"recalkv">;
