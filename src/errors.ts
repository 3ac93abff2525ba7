/**
 * The typed errors of kvz. Everything a caller may want to catch apart is one of these; wrong arguments are
 * `RangeError` and `TypeError` as in the standard library.
 *
 * @module
 */

/** The bytes are not what they should be: wrong magic, unknown version, bad checksum, truncated, impossible sizes. */
export class KvzFormatError extends Error {
  /** "KvzFormatError". */
  override readonly name = "KvzFormatError";
}

/** Two things that must belong together do not: cache and profile, file and profile, file and model, recipe and cache. */
export class KvzMismatchError extends Error {
  /** "KvzMismatchError". */
  override readonly name = "KvzMismatchError";
}

/** A limit set by the caller (or its default) would be exceeded, for instance `maxBytes`. */
export class KvzLimitError extends Error {
  /** "KvzLimitError". */
  override readonly name = "KvzLimitError";
}

/** A backend is absent, cannot be used here, or failed. */
export class KvzBackendError extends Error {
  /** "KvzBackendError". */
  override readonly name = "KvzBackendError";
}

/** The cache holds something that a recipe cannot take: NaN, infinities, ragged tokens, an unknown kind of attention. */
export class KvzUnsupportedError extends Error {
  /** "KvzUnsupportedError". */
  override readonly name = "KvzUnsupportedError";
}
