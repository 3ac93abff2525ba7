/**
 * Seeded random numbers, equal on every engine.
 *
 * @module
 */
import { naturalLog } from "../cache/power.ts";
import { cosSin } from "../cache/trig.ts";

/** Murmur3's finalizer: every input bit reaches every output bit. Unsigned 32 bits. */
export function mix32(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/** Uniform numbers in [0, 1) with 32 random bits: Sfc32 (Doty-Humphrey), seeded through mix32. */
export function uniformGenerator(seed: number): () => number {
  let a = mix32(seed), b = mix32(a ^ 0x9e3779b9), c = mix32(b ^ 0x7f4a7c15), counter = 1;
  const next = (): number => {
    const t = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + t | 0;
    return (t >>> 0) / 4294967296;
  };
  for (let i = 0; i < 15; i++) next();
  return next;
}

/** Fills an array with independent standard normal numbers (Box and Muller). */
export function fillGaussian(out: Float64Array, seed: number): void {
  const uniform = uniformGenerator(seed);
  for (let i = 0; i < out.length; i += 2) {
    // 1 − u is in (0, 1], so that the logarithm is finite.
    const radius = Math.sqrt(-2 * naturalLog(1 - uniform()));
    const [cos, sin] = cosSin(2 * Math.PI * uniform());
    out[i] = radius * cos;
    if (i + 1 < out.length) out[i + 1] = radius * sin;
  }
}
