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
export * from "./src/api.ts";
export { compress, decompress, type EdgeCodecOptions, type EdgeOptions, openCodec } from "./src/codec/edge.ts";
