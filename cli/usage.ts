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
    if (cause instanceof RangeError || cause instanceof TypeError) throw new UsageError(cause.message, { cause });
    throw cause;
  }
}
