/**
 * One-call forms: open a codec, use it, close it.
 *
 * @module
 */
import type { KvCache } from "../cache/kv_cache.ts";
import type { CacheSource } from "../cache/types.ts";
import type { Profile } from "../profile/types.ts";
import type { Codec } from "./codec.ts";
import type { LaneOptions } from "./lanes.ts";
import { openCodec } from "./open.ts";
import type { CompressOptions, CompressReport, DecompressOptions, DecompressReport, KvzInput } from "./options.ts";

/** The profile and the backend of a one-call form. */
export interface CodecOptions extends LaneOptions {
  /** Profile of the model; null for recipes that need none. */
  readonly profile: Profile | null;
}

async function withCodec<T>(
  { profile, backend, build, module, threads, createWorker }: CodecOptions,
  use: (codec: Codec) => Promise<T>,
): Promise<T> {
  if (profile === undefined) throw new TypeError('Cannot open codec: option "profile" is missing (null for none)');
  const codec = await openCodec(profile, { backend, build, module, threads, createWorker });
  try {
    return await use(codec);
  } finally {
    await codec.close();
  }
}

/**
 * Compresses a cache. See {@linkcode Codec.compress}; keep a codec open where this is called often.
 *
 * @example
 * ```ts ignore
 * import { compress, loadProfile } from "@kvz/kvz";
 * const profile = await loadProfile(profileBytes);
 * const { bytes, report } = await compress(cache, { profile, ratio: 16 });
 * ```
 */
export function compress(
  cache: CacheSource,
  options: CompressOptions & CodecOptions,
): Promise<{ bytes: Uint8Array; report: CompressReport }> {
  const { profile: _, backend: _b, build: _u, module: _m, threads: _t, createWorker: _c, ...own } = options;
  return withCodec(options, (codec) => codec.compress(cache, own));
}

/** Restores a cache. See {@linkcode Codec.decompress}. */
export function decompress(
  input: KvzInput | ReadableStream<Uint8Array>,
  options: DecompressOptions & CodecOptions,
): Promise<{ cache: KvCache; report: DecompressReport }> {
  const { profile: _, backend: _b, build: _u, module: _m, threads: _t, createWorker: _c, ...own } = options;
  return withCodec(options, (codec) => codec.decompress(input, own));
}
