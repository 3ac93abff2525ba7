/**
 * Why a backend stands in for a better one that is there but failed, and by what failures one does.
 *
 * @module
 */
import { KvzBackendError, KvzLimitError } from "../errors.ts";
import type { Backend } from "./backend.ts";

/** A device cannot hold or bind so much. Another backend may. */
export class DeviceLimitError extends KvzLimitError {}

/** Whether an error is of the backend, so that another one may do the work: not of the data. */
export function isOfBackend(error: unknown): error is KvzBackendError | DeviceLimitError {
  return error instanceof KvzBackendError || error instanceof DeviceLimitError;
}

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
