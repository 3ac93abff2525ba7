/**
 * Exit codes of `kvz`.
 *
 * | code | meaning | errors |
 * |---|---|---|
 * | 0 | done | |
 * | 1 | unexpected: a defect of kvz or of the machine | any other error |
 * | 2 | usage: unknown command or option, value out of range | UsageError, RangeError and TypeError of arguments |
 * | 3 | file format: not the format wanted, damaged, truncated, unknown version | KvzFormatError |
 * | 4 | mismatch: cache, file, profile or model do not belong together | KvzMismatchError |
 * | 5 | limit: `--max-bytes` would be exceeded | KvzLimitError |
 * | 6 | backend: absent or failed | KvzBackendError |
 * | 7 | unsupported content: NaN, infinities, a kind of cache that is not known | KvzUnsupportedError |
 * | 8 | file system: missing, there already, no right, disk full | the platform's error |
 * | 130 | interrupted (SIGINT, SIGTERM) | |
 *
 * @module
 */
import {
  KvzBackendError,
  KvzFormatError,
  KvzLimitError,
  KvzMismatchError,
  KvzUnsupportedError,
} from "../src/errors.ts";

/** Exit codes by name. */
export const EXIT = {
  ok: 0,
  unexpected: 1,
  usage: 2,
  format: 3,
  mismatch: 4,
  limit: 5,
  backend: 6,
  unsupported: 7,
  fileSystem: 8,
  interrupted: 130,
} as const;

/** The table above for `--help`. */
export const EXIT_CODES_HELP = `
Exit codes:
  0    done
  1    unexpected error
  2    usage: unknown command or option, value out of range
  3    file format: not the format wanted, damaged, truncated, unknown version
  4    mismatch: cache, file, profile or model do not belong together
  5    limit: --max-bytes would be exceeded
  6    backend: absent or failed
  7    unsupported content: NaN, infinities, an unknown kind of cache
  8    file system: missing, there already (--force replaces), no right, disk full
  130  interrupted

KVZ_DEBUG=1 prints the stack of an error.`;

/** A wrong command line. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** A file that cannot be read or written. */
export class FileSystemError extends Error {
  override readonly name = "FileSystemError";
}

/** SIGINT or SIGTERM. */
export class InterruptedError extends Error {
  override readonly name = "InterruptedError";
}

const BY_CLASS: readonly (readonly [new (message: string) => Error, number])[] = [
  [UsageError, EXIT.usage],
  [KvzFormatError, EXIT.format],
  [KvzMismatchError, EXIT.mismatch],
  [KvzLimitError, EXIT.limit],
  [KvzBackendError, EXIT.backend],
  [KvzUnsupportedError, EXIT.unsupported],
  [FileSystemError, EXIT.fileSystem],
  [InterruptedError, EXIT.interrupted],
];

/** The exit code of an error. */
export function exitCodeOf(error: unknown): number {
  for (const [type, code] of BY_CLASS) if (error instanceof type) return code;
  // Ranges that depend on the file (layers, tokens, a file ratio out of reach) are checked by the library, which says
  // "Cannot …"; the engine's own RangeErrors ("Invalid array length", …) and TypeErrors read otherwise.
  if (error instanceof RangeError && error.message.startsWith("Cannot ")) return EXIT.usage;
  if (error instanceof TypeError && error.message.startsWith("Cannot use option")) return EXIT.usage;
  return EXIT.unexpected;
}
