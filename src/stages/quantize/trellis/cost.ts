/**
 * Rate–distortion costs: J = e² + λ · 256 · bits, with the error e in sixteenths of the step, so that λ weighs bits
 * against squared errors in units of the step. All integers.
 *
 * @module
 */
import { ESCAPE_ODD } from "../../entropy/escapes.ts";
import { BIT, CLASSES, type TrellisModel } from "./model.ts";
import { reconstruct, zigzag } from "./states.ts";

/** Units of a coefficient in the encoder: sixteenths of the step. */
export const SUBSTEPS = 16;
/** Largest magnitude of a coefficient in these units. */
export const MAX_INPUT = 100_000;
/** λ is counted in 1/256. */
export const LAMBDA_ONE = 256;
/** Level 0 is tried beside the two nearest for residuals up to this magnitude; its squared error stays in 32 bits. */
export const ZERO_REACH = 1024;
/** Entries of the proxy's cost table for a class. */
export const PROXY_BUCKETS = 160;

/** Cost in 1/256 bit of a level under a table, its escape included. */
export function levelBits(model: Pick<TrellisModel, "bits" | "limits">, table: number, level: number): number {
  const z = zigzag(level);
  const limit = model.limits[table];
  if (z < limit) return model.bits[table * 256 + z];
  let bytes = 1;
  for (let rest = z - limit; rest >= 0x80; rest >>= 7) bytes++;
  return model.bits[table * 256 + ESCAPE_ODD + 1 - (level & 1)] + 8 * BIT * bytes;
}

/** Level of the lower of the two reconstructions around a residual in sixteenths; the upper one's is one more. */
export function lowerLevel(residual: number, quantizer: number): number {
  if (quantizer === 0) return residual >> 5;
  // … −3 −1 0 1 3 …: below −1 and above 1 the odd numbers, levels (r ± 1) / 2.
  if (residual >= 16) return (residual + 16) >> 5;
  if (residual >= 0) return 0;
  return residual >= -16 ? -1 : (residual - 16) >> 5;
}

/** Cost of a level for a residual. */
export function levelCost(
  model: TrellisModel,
  table: number,
  residual: number,
  level: number,
  lambda: number,
): number {
  const error = residual - SUBSTEPS * reconstruct(level, table & 1);
  return error * error + Math.floor(lambda * levelBits(model, table, level) / LAMBDA_ONE);
}

/** Bucket of a magnitude: exact below 64, then eight a doubling. */
export function proxyBucket(magnitude: number): number {
  if (magnitude < 64) return magnitude;
  const top = 31 - Math.clz32(magnitude);
  return Math.min(PROXY_BUCKETS - 1, 64 + 8 * (top - 6) + ((magnitude >> (top - 3)) & 7));
}

/** Least magnitude of a bucket, plus half its width. */
function bucketMiddle(bucket: number): number {
  if (bucket < 64) return bucket;
  const top = 6 + ((bucket - 64) >> 3);
  const width = 1 << (top - 3);
  return (8 + ((bucket - 64) & 7)) * width + (width >> 1);
}

/**
 * What a residual is going to cost, by class and bucket of its magnitude: the mean over both quantizers of their best
 * level's cost. [CLASSES][PROXY_BUCKETS].
 */
export function proxyCosts(model: TrellisModel, lambda: number): Int32Array {
  const costs = new Int32Array(CLASSES * PROXY_BUCKETS);
  for (let index = 0; index < CLASSES; index++) {
    for (let bucket = 0; bucket < PROXY_BUCKETS; bucket++) {
      const residual = bucketMiddle(bucket);
      let sum = 0;
      for (let quantizer = 0; quantizer < 2; quantizer++) {
        const table = 2 * index + quantizer;
        const lower = lowerLevel(residual, quantizer);
        const tried = residual <= ZERO_REACH ? [lower, lower + 1, 0] : [lower, lower + 1];
        sum += Math.min(...tried.map((level) => levelCost(model, table, residual, level, lambda)));
      }
      costs[index * PROXY_BUCKETS + bucket] = sum >> 1;
    }
  }
  return costs;
}
