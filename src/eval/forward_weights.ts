/**
 * Sensitivity blocks of what forward passes measured: every element weighs as much as its part of the cache.
 *
 * @module
 */
import { bandsOf, type PartMeasurement, type PartOptions, sensitivityParts } from "./forward_sensitivity.ts";
import { type Kind, KINDS, type ModelSpec } from "../cache/types.ts";
import { kindDim, type SensitivityBlocks } from "../profile/kvz/sensitivity.ts";

/**
 * Diagonal blocks of measurements: means over the texts, scaled by a power of two so that binary16, which profiles store
 * them in, holds all of them well.
 *
 * @throws {RangeError} a part was not measured on all texts, or nothing costs anything
 */
export function forwardBlocks(
  model: ModelSpec,
  measurements: readonly PartMeasurement[],
  options: PartOptions = {},
): SensitivityBlocks {
  const texts = new Set(measurements.map(({ text }) => text)).size;
  const blocks: Record<Kind, Float64Array> = { key: emptyBlocks(model, "key"), value: emptyBlocks(model, "value") };
  for (const part of sensitivityParts(model, options)) {
    const own = measurements.filter(({ layer, kind, head, band }) =>
      layer === part.layer && kind === part.kind && head === part.head && band === part.band
    );
    if (own.length !== texts || texts === 0) {
      throw new RangeError(
        `Cannot weigh by forward passes: ${part.kind}s of layer ${part.layer}, band ${part.band} have ${own.length} ` +
          `measurements, expected ${Math.max(1, texts)}`,
      );
    }
    const weight = own.reduce((sum, one) => sum + one.weight, 0) / texts;
    const bands = bandsOf(model, part.kind, options.bands);
    const dim = kindDim(model, part.kind);
    for (let head = 0; head < model.kvHeads; head++) {
      if (part.head !== null && part.head !== head) continue;
      const at = (part.layer * model.kvHeads + head) * dim * dim;
      for (let i = 0; i < dim; i++) if (bands[i] === part.band) blocks[part.kind][at + i * dim + i] = weight;
    }
  }
  const largest = Math.max(...KINDS.map((kind) => blocks[kind].reduce((a, b) => Math.max(a, b), 0)));
  if (!(largest > 0 && largest < Infinity)) {
    throw new RangeError(`Cannot weigh by forward passes: the largest weight is ${largest}, expected more than 0`);
  }
  const scale = 2 ** -Math.floor(Math.log2(largest));
  for (const kind of KINDS) blocks[kind].forEach((value, i) => blocks[kind][i] = value * scale);
  return { source: "forward", ...blocks };
}

function emptyBlocks(model: ModelSpec, kind: Kind): Float64Array {
  return new Float64Array(model.layers * model.kvHeads * kindDim(model, kind) ** 2);
}
