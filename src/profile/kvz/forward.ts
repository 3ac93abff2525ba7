/**
 * The way there from what a profile stores: forward = A² · (scales · basis), since the basis is A⁻¹ q and the forward
 * matrix A q.
 *
 * @module
 */
import { f16ToNumber, numberToF16 } from "../../cache/elements.ts";
import { KINDS } from "../../cache/types.ts";
import { featuresOf } from "../statistics.ts";
import { kindDim } from "./sensitivity.ts";
import type { KvzProfile } from "./types.ts";

/** The forward matrix as binary16 bits, [components][features]. */
export function forwardMatrix(profile: KvzProfile): Uint16Array {
  const { model, components, features, basis, scales, sensitivityBlocks } = profile;
  const blocks = Float32Array.from(sensitivityBlocks, f16ToNumber);
  const forward = new Uint16Array(components * features);
  const sizes = featuresOf(model);
  let [first, at] = [0, 0];
  for (const kind of KINDS) {
    const dim = kindDim(model, kind);
    const x = new Float64Array(dim);
    for (let begin = first; begin < first + sizes[kind]; begin += dim, at += dim * dim) {
      const block = blocks.subarray(at, at + dim * dim);
      for (let c = 0; c < components; c++) {
        const row = c * features + begin;
        for (let j = 0; j < dim; j++) x[j] = scales[begin + j] * basis[row + j];
        for (let i = 0; i < dim; i++) {
          let sum = 0;
          for (let j = 0; j < dim; j++) sum += block[i * dim + j] * x[j];
          forward[row + i] = numberToF16(sum);
        }
      }
    }
    first += sizes[kind];
  }
  return forward;
}
