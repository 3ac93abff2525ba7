/**
 * Precisions that DiffKV stores a token of a head in (`quantized_kv_bits` of its authors' CacheConfig).
 *
 * @module
 */

/** Bits of keys and values, and groups of each that have a scale and an offset. */
export interface Precision {
  readonly keyBits: number;
  readonly valueBits: number;
  readonly keyGroups: number;
  readonly valueGroups: number;
}

function precision(keyBits: number, valueBits: number, keyGroups = 1, valueGroups = 1): Precision {
  return { keyBits, valueBits, keyGroups, valueGroups };
}

/** The presets of the authors' code by name; g2 and g4 have several groups a token. */
export const PRECISIONS: Readonly<Record<PrecisionName, Precision>> = {
  k8v8: precision(8, 8),
  k8v4g2: precision(8, 4, 1, 2),
  k8v4: precision(8, 4),
  k8v2: precision(8, 2),
  k4v4: precision(4, 4),
  k4v2g4: precision(4, 2, 2, 4),
  k4v2: precision(4, 2),
  k4v1: precision(4, 1),
};

/** Names of the presets. */
export type PrecisionName = "k8v8" | "k8v4g2" | "k8v4" | "k8v2" | "k4v4" | "k4v2g4" | "k4v2" | "k4v1";

/** All names. */
export const PRECISION_NAMES = Object.keys(PRECISIONS) as readonly PrecisionName[];
