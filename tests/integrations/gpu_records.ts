/**
 * Tensors of stand-in classes over buffers of a real WebGPU device, which is watched.
 *
 * @module
 */
import { toTransformersJs } from "../../src/adapters/transformers_js.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import { FakeOrtTensor } from "./transformers_fakes.ts";

/** The class as kvz takes it. */
export const Tensor = FakeOrtTensor as unknown as { fromGpuBuffer: typeof FakeOrtTensor["fromGpuBuffer"] };

/** A device that is watched. */
export interface Watched {
  readonly device: GPUDevice;
  /** Bytes of its buffers that are not destroyed. */
  live(): number;
  /** Bytes that the host has read from it since the last call. */
  takeRead(): number;
}

/** A device with the default limits. */
export async function openDevice(): Promise<Watched> {
  const adapter = await navigator.gpu.requestAdapter();
  const device = await adapter!.requestDevice();
  const alive = new Map<GPUBuffer, number>();
  let read = 0;
  const create = device.createBuffer.bind(device);
  device.createBuffer = (descriptor) => {
    const buffer = create(descriptor);
    alive.set(buffer, descriptor.size);
    const destroy = buffer.destroy.bind(buffer);
    buffer.destroy = () => {
      alive.delete(buffer);
      destroy();
    };
    const map = buffer.mapAsync.bind(buffer);
    buffer.mapAsync = (mode, offset, size) => {
      read += size ?? descriptor.size;
      return map(mode, offset, size);
    };
    return buffer;
  };
  return {
    device,
    live: () => [...alive.values()].reduce((sum, size) => sum + size, 0),
    takeRead() {
      const bytes = read;
      read = 0;
      return bytes;
    },
  };
}

/** An onnxruntime tensor in a buffer, as a session leaves it. */
export function onGpu(
  device: GPUDevice,
  dataType: string,
  data: ArrayBufferView,
  dims: readonly number[],
  usage = 0x8c,
) {
  const bytes = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  const buffer = device.createBuffer({ size: Math.ceil(bytes.length / 16) * 16, usage });
  if (usage & 0x08) device.queue.writeBuffer(buffer, 0, bytes);
  const download = () => Promise.reject(new Error("downloaded by onnxruntime"));
  return FakeOrtTensor.fromGpuBuffer(buffer, { dataType, dims, download, dispose: () => buffer.destroy() });
}

/** A cache as a session leaves it. */
export const ortRecord = (cache: KvCache, device: GPUDevice) =>
  toTransformersJs(cache, { makeTensor: (type, data, dims) => onGpu(device, type, data, dims) });
