/**
 * Integer reconstruction in plain TypeScript, operation by operation: the definition of every bit that the kernels give.
 * The sum is an integer; what follows is binary32 with one rounding an operation (Math.fround), never fused.
 *
 * @module
 */
import { fromFloat32 } from "../../cache/elements.ts";
import { rotationTable } from "../../cache/rope.ts";
import type { Kind } from "../../cache/types.ts";
import type { ChunkContext } from "../stage.ts";
import { dimOf, featureRange, type IntegerBasis, type IntegerGeometry, type Levels } from "./integer_basis.ts";

/** Source elements [layers][heads][tokens][dim] of a kind, as {@linkcode IntegerTransform.decode} gives them. */
export function reconstructReference(
  basis: IntegerBasis,
  geometry: IntegerGeometry,
  { levels, scales }: Levels,
  ctx: ChunkContext,
  kind: Kind,
): Uint8Array {
  const { heads, rope, dtype } = geometry;
  const { tokens, positions, layerBegin, layerEnd } = ctx;
  const dim = dimOf(geometry, kind);
  const components = tokens === 0 ? 0 : levels.length / tokens;
  const [begin] = featureRange(geometry, kind, layerBegin, layerEnd);
  const turns = kind === "key" && rope !== null ? rotationTable(rope, positions, "redo") : null;
  const rotary = turns === null ? 0 : rope!.dim;
  const half = rotary / 2;
  const blocks = (layerEnd - layerBegin) * heads;
  const out = new Float32Array(blocks * tokens * dim);
  const x = new Float32Array(dim);
  for (let block = 0; block < blocks; block++) {
    for (let t = 0; t < tokens; t++) {
      for (let i = 0; i < dim; i++) {
        const f = begin + block * dim + i;
        let sum = 0;
        for (let c = 0; c < components; c++) {
          sum += basis.basis[c * basis.features + f] * levels[c * tokens + t];
        }
        const factor = Math.fround(basis.scales[f] * scales[t]);
        x[i] = Math.fround(Math.fround(sum) * factor) + basis.mean[f];
      }
      const at = (block * tokens + t) * dim;
      for (let i = 0; i < half; i++) {
        const [cos, sin] = [turns![t * rotary + i], turns![t * rotary + half + i]];
        out[at + i] = Math.fround(x[i] * cos) - Math.fround(x[half + i] * sin);
        out[at + half + i] = Math.fround(x[half + i] * cos) + Math.fround(x[i] * sin);
      }
      for (let i = rotary; i < dim; i++) out[at + i] = x[i];
    }
  }
  return fromFloat32(out, dtype);
}
