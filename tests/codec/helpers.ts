/** Shared steps of the codec's tests. */
import { toFloat32 } from "../../src/cache/elements.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import type { Kind } from "../../src/cache/types.ts";

/** ‖a − b‖ ÷ ‖a‖ over tokens [begin, end) of one kind. */
export function relativeError(a: KvCache, b: KvCache, kind: Kind, begin: number, end: number): number {
  const x = toFloat32(a.read(kind, begin, end), a.dtype);
  const y = toFloat32(b.read(kind, begin, end), b.dtype);
  let error = 0;
  let energy = 0;
  for (let i = 0; i < x.length; i++) {
    error += (x[i] - y[i]) ** 2;
    energy += x[i] ** 2;
  }
  return Math.sqrt(error / energy);
}

/** Largest |a − b| over all elements of both kinds. */
export function maxDifference(a: KvCache, b: KvCache): number {
  let top = 0;
  for (const kind of ["key", "value"] as const) {
    const x = toFloat32(a.read(kind, 0, a.tokens), a.dtype);
    const y = toFloat32(b.read(kind, 0, b.tokens), b.dtype);
    for (let i = 0; i < x.length; i++) top = Math.max(top, Math.abs(x[i] - y[i]));
  }
  return top;
}
