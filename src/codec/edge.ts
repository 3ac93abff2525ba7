/**
 * Opening a codec where WebAssembly may not be compiled from bytes (Cloudflare Workers, Vercel Edge): the caller passes
 * the kernels as a compiled module. Nothing here imports the inlined kernels.
 *
 * @module
 */
import type { KvCache } from "../cache/kv_cache.ts";
import type { CacheSource } from "../cache/types.ts";
import { loadModule } from "../backend/wasm/load.ts";
import type { Profile } from "../profile/types.ts";
import { Codec } from "./codec.ts";
import { type LaneOptions, Lanes } from "./lanes.ts";
import type { CompressOptions, CompressReport, DecompressOptions, DecompressReport, KvzInput } from "./options.ts";

/** How lanes are made of a given module. Edge runtimes have no workers: leave `threads` at 1 there. */
export interface EdgeOptions extends Pick<LaneOptions, "threads" | "createWorker"> {
  /** One of the package's wasm/codec_*.wasm files, compiled by the runtime or its bundler. */
  readonly module: WebAssembly.Module;
}

/** The profile and the kernels of a one-call form. */
export interface EdgeCodecOptions extends EdgeOptions {
  /** The profile that the cache is, or was, compressed with. */
  readonly profile: Profile | null;
}

/**
 * Opens a codec on the given kernels, for any number of calls.
 *
 * @example In a Cloudflare Worker
 * ```ts ignore
 * import { loadProfile, openCodec } from "@kvz/kvz/edge";
 * import module from "@kvz/kvz/wasm/codec_simd.wasm";
 *
 * const codec = await openCodec(await loadProfile(bytes), { module });
 * ```
 *
 * @throws {TypeError} when `module` is not a WebAssembly.Module
 * @throws {KvzBackendError} when it is not a module of this package, or `threads` needs workers that are not there
 * @throws {RangeError} when `threads` is out of range
 */
export async function openCodec(profile: Profile | null, options: EdgeOptions): Promise<Codec> {
  if (profile === undefined) throw new TypeError('Cannot open codec: option "profile" is missing (null for none)');
  const { module, threads, createWorker } = options ?? {};
  if (!(module instanceof WebAssembly.Module)) {
    throw new TypeError('Cannot open codec: option "module" is not a WebAssembly.Module');
  }
  const lanes = await Lanes.open({ module, threads, createWorker }, () => loadModule(module));
  return new Codec(profile, lanes);
}

/** Compresses a cache. See {@linkcode Codec.compress}; keep a codec open where this is called often. */
export async function compress(
  cache: CacheSource,
  options: CompressOptions & EdgeCodecOptions,
): Promise<{ bytes: Uint8Array; report: CompressReport }> {
  const { profile, module, threads, createWorker, ...own } = options;
  const codec = await openCodec(profile, { module, threads, createWorker });
  try {
    return await codec.compress(cache, own);
  } finally {
    await codec.close();
  }
}

/** Restores a cache. See {@linkcode Codec.decompress}. */
export async function decompress(
  input: KvzInput | ReadableStream<Uint8Array>,
  options: DecompressOptions & EdgeCodecOptions,
): Promise<{ cache: KvCache; report: DecompressReport }> {
  const { profile, module, threads, createWorker, ...own } = options;
  const codec = await openCodec(profile, { module, threads, createWorker });
  try {
    return await codec.decompress(input, own);
  } finally {
    await codec.close();
  }
}
