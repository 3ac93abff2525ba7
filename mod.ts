/**
 * kvz: a codec for the KV caches of language models. `cache → .kvz → cache`, 8 to 60 times smaller than fp16.
 *
 * @example
 * ```ts ignore
 * import { compress, decompress, loadProfile, readSafetensors } from "@kvz/kvz";
 *
 * const profile = await loadProfile(await Deno.readFile("model.kvzp"));
 * const cache = await readSafetensors(await Deno.readFile("cache.safetensors"));
 * const { bytes, report } = await compress(cache, { profile, ratio: 16 });
 * const { cache: restored } = await decompress(bytes, { profile });
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
export { blobSource, type ByteSink, type ByteSource, MemorySink, memorySource, type RandomSink } from "./src/container/bytes.ts";
export { Codec, type RestoredShape } from "./src/codec/codec.ts";
export { openCodec } from "./src/codec/open.ts";
export { type CodecOptions, compress, decompress } from "./src/codec/free.ts";
export type * from "./src/codec/options.ts";
export { type Inspection, inspect } from "./src/codec/inspect.ts";
export type { CacheBlock } from "./src/codec/decode.ts";
export type { LayerBlock } from "./src/codec/layers.ts";
export type { AppendResult } from "./src/codec/append.ts";
