/**
 * PCA over groups of neighbouring layers instead of all layers at once, as in KVTC's Table 16: the bases of the groups,
 * put together into one block-diagonal basis, so that the library's own transform serves them all.
 *
 * @module
 */
import { CalibrateKernels } from "../../src/backend/wasm/calibrate_kernels.ts";
import { numberToF16 } from "../../src/cache/elements.ts";
import type { Kind } from "../../src/cache/types.ts";
import { triangleRow } from "../../src/profile/gram.ts";
import type { Statistics } from "../../src/profile/statistics.ts";
import { exactSvd, randomizedSvd, type SymmetricMatrix } from "../../src/profile/svd.ts";
import type { KindProfile } from "../../src/profile/types.ts";

/** A basis that can be cut off after any number of components. */
export interface TruncationBasis {
  /** Layers that were concatenated for one PCA. */
  readonly layersPerGroup: number;
  /** p = layers · heads · dim, over all groups. */
  readonly features: number;
  /** Rows of `basis`. */
  readonly components: number;
  /** Mean of each feature: [features]. */
  readonly mean: Float32Array;
  /**
   * Binary16 [components][features], zero outside a row's own group. Row i · groups + g is component i of group g: the
   * first n rows hold the same number of components of every group for any n divisible by the number of groups.
   */
  readonly basis: Uint16Array;
}

/** Features up to which all eigenpairs are computed; beyond, randomized as in a calibration. */
const EXACT_FEATURES = 1000;

/** The basis of a profile: one group of all layers. */
export function profileBasis({ features, components, mean, basis }: KindProfile, layers: number): TruncationBasis {
  return { layersPerGroup: layers, features, components, mean, basis };
}

/**
 * Fits a PCA for every group of `layersPerGroup` neighbouring layers. One pass over the caches serves all groupings:
 * the co-moments of a group are a diagonal block of those of all layers.
 *
 * @param perGroup components of each group
 * @throws {RangeError} the layers cannot be divided into such groups, or a group has fewer components
 */
export async function fitLayerGroups(
  statistics: Statistics,
  kind: Kind,
  layersPerGroup: number,
  perGroup: number,
): Promise<TruncationBasis> {
  const { layers } = statistics.model;
  const { mean, comoment } = statistics.kinds[kind].moments;
  const features = mean.length;
  const groups = layers / layersPerGroup;
  if (!Number.isInteger(groups)) {
    throw new RangeError(`Cannot group layers: ${layers} layers cannot be divided into groups of ${layersPerGroup}`);
  }
  const size = features / groups;
  const basis = new Uint16Array(perGroup * groups * features);
  const kernels = await CalibrateKernels.open();
  const stride = kernels.exports.gramStride(size);
  const address = kernels.alloc(stride * size * 8);
  const matrix: SymmetricMatrix = { address, n: size, stride };
  const mark = kernels.mark();
  for (let group = 0; group < groups; group++) {
    const first = group * size;
    const block = kernels.f64(address, stride * size);
    for (let i = 0; i < size; i++) {
      const row = triangleRow(features, first + i);
      for (let j = i; j < size; j++) block[i * stride + j] = block[j * stride + i] = comoment[row + j - i];
    }
    const { values, vectors } = size <= EXACT_FEATURES
      ? exactSvd(kernels, matrix, perGroup)
      : randomizedSvd(kernels, matrix, { rank: perGroup });
    if (values.length < perGroup) {
      throw new RangeError(
        `Cannot fit layers [${group * layersPerGroup}, ${(group + 1) * layersPerGroup}): their ${kind}s have ` +
          `${values.length} components, expected ${perGroup}`,
      );
    }
    const rows = kernels.f64(vectors, perGroup * size);
    for (let i = 0; i < perGroup; i++) {
      const to = (i * groups + group) * features + first;
      for (let f = 0; f < size; f++) basis[to + f] = numberToF16(rows[i * size + f]);
    }
    kernels.release(mark);
  }
  return { layersPerGroup, features, components: perGroup * groups, mean: Float32Array.from(mean), basis };
}
