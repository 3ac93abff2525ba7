/**
 * The raw window of a recipe: elements as they are, restored at other positions or as another type where asked.
 *
 * @module
 */
import type { Backend } from "../backend/backend.ts";
import { BYTES_PER_ELEMENT, type DType, type RopeSpec } from "../cache/types.ts";
import { joinPlanes, retarget } from "../stages/tokens/window.ts";
import type { DecodeJob } from "./recipe.ts";

/** Geometry of one kind. */
export interface RawShape {
  readonly heads: number;
  readonly dim: number;
  /** RoPE of keys; null for values. */
  readonly rope: RopeSpec | null;
  readonly storedDType: DType;
  readonly dtype: DType;
}

/** Elements [layers][heads][tokens][dim] of the job's layers from byte planes of all layers. */
export async function decodeRawRegion(
  backend: Backend,
  planes: Uint8Array,
  { tokens, positions, targetPositions, layerBegin, layerEnd }: DecodeJob,
  { heads, dim, rope, storedDType, dtype }: RawShape,
): Promise<Uint8Array> {
  const width = BYTES_PER_ELEMENT[storedDType];
  const perLayer = heads * tokens * dim * width;
  const raw = joinPlanes(planes, width).subarray(layerBegin * perLayer, layerEnd * perLayer);
  const moved = rope !== null && positions.some((position, t) => position !== targetPositions[t]);
  if (!moved && storedDType === dtype) return raw;
  return await retarget(backend, raw, {
    blocks: (layerEnd - layerBegin) * heads,
    tokens,
    dim,
    from: storedDType,
    to: dtype,
    rope: moved ? { spec: rope!, from: positions, to: targetPositions } : null,
  });
}
