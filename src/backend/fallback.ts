/**
 * Why a backend stands in for a better one that is there but failed.
 *
 * @module
 */
import type { Backend } from "./backend.ts";

const reasons = new WeakMap<Backend, string>();

/** Notes that a backend stands in for another. */
export function markFallback<B extends Backend>(backend: B, reason: string): B {
  reasons.set(backend, reason);
  return backend;
}

/** Why a backend was taken instead of a better one; undefined when it is the best that is there. */
export function fallbackOf(backend: Backend): string | undefined {
  return reasons.get(backend);
}
