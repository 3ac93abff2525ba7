/**
 * Caches in a GPU's memory: compressed and restored where they lie.
 *
 * @example A cache in buffers of WebGPU
 * ```ts ignore
 * import { openCodec } from "@kvz/kvz";
 * import { DeviceCache } from "@kvz/kvz/gpu";
 *
 * await using codec = await openCodec(profile, { backend: "webgpu", device });
 * const layers = tensors.map(({ key, value }) => ({ key: { memory: key }, value: { memory: value } }));
 * const { bytes } = await codec.compress(new DeviceCache({ model, dtype: "f16", positions }, layers));
 * const { cache, free } = await codec.decompressOnDevice(bytes);
 * // cache.layers[0].key.memory is a GPUBuffer [kvHeads][tokens][dim]
 * free();
 * ```
 *
 * @module
 */
export { DeviceCache, type DeviceCacheShape, type DeviceTensor } from "./src/codec/device_cache.ts";
export type { CudaMemory, DeviceMemory, WebGpuMemory } from "./src/backend/gpu/memory.ts";
export { CodedAttention } from "./src/codec/coded_attention.ts";
