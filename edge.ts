/**
 * kvz for edge runtimes, where WebAssembly may not be compiled from bytes: the same API as the main entry, with the
 * kernels passed in as a compiled module, and without calibration. The package holds the modules:
 * `wasm/codec_simd.wasm` for every engine of today, `wasm/codec_relaxed.wasm` where relaxed SIMD is known to be there,
 * `wasm/codec_base.wasm` where no SIMD is.
 *
 * @example A Cloudflare Worker that restores a cache
 * ```ts ignore
 * import { loadProfile, openCodec } from "@kvz/kvz/edge";
 * import module from "@kvz/kvz/wasm/codec_simd.wasm";
 *
 * export default {
 *   async fetch(request: Request, env: { PROFILE: ArrayBuffer }): Promise<Response> {
 *     const codec = await openCodec(await loadProfile(new Uint8Array(env.PROFILE)), { module });
 *     const { cache } = await codec.decompress(request.body!);
 *     return Response.json({ tokens: cache.tokens });
 *   },
 * };
 * ```
 *
 * @module
 */
export * from "./src/errors.ts";
export type * from "./src/cache/types.ts";
export { BYTES_PER_ELEMENT } from "./src/cache/types.ts";
export { KvCache } from "./src/cache/kv_cache.ts";
export type { DenseCache, HeadBytes, LayerBytes, QueryTensors, RaggedCache } from "./src/cache/kv_cache.ts";
export { type CacheShape, KvCacheBuilder } from "./src/cache/builder.ts";
export { modelFingerprint } from "./src/cache/fingerprint.ts";
export { type HfConfig, parseHfModel, parseHfRope } from "./src/cache/hf_config.ts";
export {
  blobSource,
  type ByteSink,
  type ByteSource,
  MemorySink,
  memorySource,
  type RandomSink,
} from "./src/container/bytes.ts";
export { Codec, type RestoredShape } from "./src/codec/codec.ts";
export { compress, decompress, type EdgeCodecOptions, type EdgeOptions, openCodec } from "./src/codec/edge.ts";
export type * from "./src/codec/options.ts";
export { inspect, type Inspection } from "./src/codec/inspect.ts";
export type { CacheBlock } from "./src/codec/decode.ts";
export type { LayerBlock } from "./src/codec/layers.ts";
export type { AppendResult } from "./src/codec/append.ts";
