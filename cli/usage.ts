/**
 * Turning wrong arguments that the library finds into usage errors.
 *
 * @module
 */
import { UsageError } from "./exit_codes.ts";

/** Runs a check of options; its RangeError or TypeError becomes a {@linkcode UsageError}. */
export function asUsage<T>(check: () => T): T {
  try {
    return check();
  } catch (cause) {
    throw usageError(cause);
  }
}

/** {@linkcode asUsage} of a check that takes a while. */
export async function asUsageLater<T>(check: () => Promise<T>): Promise<T> {
  try {
    return await check();
  } catch (cause) {
    throw usageError(cause);
  }
}

function usageError(cause: unknown): unknown {
  return cause instanceof RangeError || cause instanceof TypeError ? new UsageError(cause.message, { cause }) : cause;
}
