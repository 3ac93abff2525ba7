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
 * @example Tensors of onnxruntime-web and Transformers.js with location "gpu-buffer"
 * ```ts ignore
 * import { openCodec } from "@kvz/kvz";
 * import { decompressToGpuTensors, fromGpuTensors } from "@kvz/kvz/gpu";
 *
 * const device = await ort.env.webgpu.device; // that of the session
 * await using codec = await openCodec(profile, { backend: "webgpu", device });
 * const { bytes } = await codec.compress(fromGpuTensors(past, { model, inputIds })); // past_key_values.0.key, …
 * const { tensors } = await decompressToGpuTensors(codec, bytes, { device, Tensor: ort.Tensor });
 * const outputs = await session.run({ ...tensors, input_ids });
 * ```
 *
 * @module
 */
export { DeviceCache, type DeviceCacheShape, type DeviceTensor } from "./src/codec/device_cache.ts";
export type { CudaMemory, DeviceMemory, WebGpuMemory } from "./src/backend/gpu/memory.ts";
export { CodedAttention } from "./src/codec/coded_attention.ts";
export {
  decompressToGpuTensors,
  fromGpuTensors,
  type GpuTensorsOptions,
  type RestoredGpuTensors,
  whyNotOnGpu,
} from "./src/adapters/gpu_tensors.ts";
export type { GpuBufferLike, GpuDeviceLike, GpuTensorClass, GpuTensorOptions } from "./src/adapters/gpu_buffers.ts";
