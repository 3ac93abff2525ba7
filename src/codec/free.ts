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
  { profile, backend, build, module, device, timeKernels, threads, createWorker }: CodecOptions,
  use: (codec: Codec) => Promise<T>,
): Promise<T> {
  if (profile === undefined) throw new TypeError('Cannot open codec: option "profile" is missing (null for none)');
  const codec = await openCodec(profile, { backend, build, module, device, timeKernels, threads, createWorker });
  try {
    return await use(codec);
  } finally {
    await codec.close();
  }
}

const CODEC_OPTIONS = [
  "profile",
  "backend",
  "build",
  "module",
  "device",
  "timeKernels",
  "threads",
  "createWorker",
] as const satisfies readonly (keyof CodecOptions)[];

/** What is left for the call. */
function withoutCodecOptions<O extends CodecOptions>(options: O): Omit<O, keyof CodecOptions> {
  const own: Partial<O> = { ...options };
  for (const name of CODEC_OPTIONS) delete own[name];
  return own as Omit<O, keyof CodecOptions>;
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
  const own = withoutCodecOptions(options);
  return withCodec(options, (codec) => codec.compress(cache, own));
}

/** Restores a cache. See {@linkcode Codec.decompress}. */
export function decompress(
  input: KvzInput | ReadableStream<Uint8Array>,
  options: DecompressOptions & CodecOptions,
): Promise<{ cache: KvCache; report: DecompressReport }> {
  const own = withoutCodecOptions(options);
  return withCodec(options, (codec) => codec.decompress(input, own));
}
