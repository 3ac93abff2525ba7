/**
 * Tensors in WebGPU buffers by way of main memory: reading them without taking them from the model, and making them.
 *
 * @module
 */
import {
  bufferOf,
  checked,
  type GpuBufferLike,
  type GpuDeviceLike,
  type GpuTensorClass,
  makeBuffer,
  readBuffers,
  requireTensorClass,
  tensorOver,
} from "../../adapters/gpu_buffers.ts";
import type { TensorLike } from "../../adapters/transformers_js.ts";

/**
 * The record with the tensors that lie in buffers of `device` copied to main memory, all at once. The given tensors stay
 * on the GPU. Others are passed on as they are.
 *
 * @throws {KvzBackendError} The GPU refuses the copy, for instance because the tensors belong to another device.
 */
export async function downloadTensors(
  record: Readonly<Record<string, TensorLike>>,
  device: GpuDeviceLike,
): Promise<Record<string, TensorLike>> {
  const result = { ...record };
  const remote = Object.entries(record).flatMap(([name, tensor]) => {
    const buffer = bufferOf(tensor);
    const width = tensor.type === "float32" ? 4 : 2;
    return buffer ? [{ name, tensor, buffer, length: tensor.dims.reduce((size, dim) => size * dim, width) }] : [];
  });
  const copies = await readBuffers(device, remote);
  for (const [i, { name, tensor }] of remote.entries()) {
    const { type, dims } = tensor;
    result[name] = { type, dims, data: copies[i] };
  }
  return result;
}

/** Puts tensors into buffers of a device. */
export class GpuUploader {
  readonly #device: GpuDeviceLike;
  readonly #Tensor: GpuTensorClass<object>;
  readonly #buffers: GpuBufferLike[] = [];

  /**
   * @param Tensor onnxruntime's tensor class.
   * @throws {TypeError} The class has no `fromGpuBuffer`.
   */
  constructor(device: GpuDeviceLike, Tensor: unknown) {
    this.#device = device;
    this.#Tensor = requireTensorClass(Tensor);
  }

  /**
   * One onnxruntime tensor. Its buffer is freed when the tensor is disposed, which `DynamicCache` does.
   *
   * @throws {KvzBackendError} The GPU has no memory for it.
   */
  upload(type: "float32" | "float16", data: ArrayBufferView<ArrayBuffer>, dims: number[]): Promise<object> {
    const device = this.#device;
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    // writeBuffer takes multiples of 4.
    const padded = bytes.length % 4 === 0 ? bytes : new Uint8Array(Math.ceil(bytes.length / 4) * 4);
    if (padded !== bytes) padded.set(bytes);
    return checked(device, "place the cache on the GPU", () => {
      const buffer = makeBuffer(device, bytes.length);
      this.#buffers.push(buffer);
      device.queue.writeBuffer(buffer, 0, padded);
      return tensorOver(this.#Tensor, device, buffer, type, dims);
    });
  }

  /** Frees all that was placed, when the cache cannot be completed. */
  free(): void {
    for (const buffer of this.#buffers) buffer.destroy();
  }
}
