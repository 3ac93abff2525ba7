/**
 * Tensors in WebGPU buffers: reading them without taking them from the model, and making them. Types are structural;
 * a `GPUDevice` and the `Tensor` of onnxruntime-web fit.
 *
 * @module
 */
import type { TensorLike } from "../../adapters/transformers_js.ts";
import { KvzBackendError } from "../../errors.ts";

/** What is needed of a `GPUBuffer`. */
export interface GpuBufferLike {
  /** Maps it for reading. */
  mapAsync(mode: number): Promise<void | undefined>;
  /** The mapped bytes. */
  getMappedRange(): ArrayBuffer;
  /** Frees its memory. */
  destroy(): void;
}

/** What is needed of a `GPUDevice`. */
export interface GpuDeviceLike {
  /** Where work is queued. */
  readonly queue: {
    /** Copies bytes into a buffer. */
    writeBuffer(buffer: GpuBufferLike, offset: number, data: Uint8Array<ArrayBuffer>): void;
    /** Starts commands. */
    submit(commands: unknown[]): void;
  };
  /** Makes a buffer. */
  createBuffer(descriptor: { size: number; usage: number }): GpuBufferLike;
  /** Begins a list of commands. */
  createCommandEncoder(): {
    /** Copies between buffers. */
    copyBufferToBuffer(from: GpuBufferLike, at: number, to: GpuBufferLike, toAt: number, size: number): void;
    /** Ends the list. */
    finish(): unknown;
  };
  /** Begins to collect errors of one kind. */
  pushErrorScope(filter: "validation" | "out-of-memory"): void;
  /** Ends it; the first error, if there was one. */
  popErrorScope(): Promise<{ readonly message: string } | null>;
}

/** What is needed of onnxruntime's tensor class. */
interface OrtTensorClass {
  fromGpuBuffer?(
    buffer: unknown,
    options: { dataType: string; dims: readonly number[]; download(): Promise<unknown>; dispose(): void },
  ): object;
}

/** Flags of GPUBufferUsage and GPUMapMode, which only exist as globals where WebGPU does. */
const MAP_READ = 0x0001;
const COPY_SRC = 0x0004;
const COPY_DST = 0x0008;
const STORAGE = 0x0080;
const MODE_READ = 0x0001;

const Float16 = (globalThis as { Float16Array?: new (buffer: ArrayBufferLike) => ArrayBufferView }).Float16Array;

/** Runs GPU calls; their errors, which WebGPU reports aside, become exceptions. Without this a bad copy reads zeros. */
async function checked<T>(device: GpuDeviceLike, task: string, run: () => T): Promise<T> {
  device.pushErrorScope("out-of-memory");
  device.pushErrorScope("validation");
  let errors: ReturnType<GpuDeviceLike["popErrorScope"]>[];
  let result: T;
  try {
    result = run();
  } finally {
    errors = [device.popErrorScope(), device.popErrorScope()];
  }
  for (const error of await Promise.all(errors)) {
    if (error !== null) throw new KvzBackendError(`Cannot ${task}: the GPU reports: ${error.message}`);
  }
  return result;
}

/** Reads the first `length` bytes of some buffers, which stay as they are. */
async function readBuffers(
  device: GpuDeviceLike,
  wanted: readonly { readonly buffer: GpuBufferLike; readonly length: number }[],
): Promise<Uint8Array[]> {
  const staging: GpuBufferLike[] = [];
  try {
    await checked(device, "read cache", () => {
      const encoder = device.createCommandEncoder();
      for (const { buffer, length } of wanted) {
        const size = Math.max(4, Math.ceil(length / 4) * 4);
        const copy = device.createBuffer({ size, usage: MAP_READ | COPY_DST });
        staging.push(copy);
        encoder.copyBufferToBuffer(buffer, 0, copy, 0, size);
      }
      device.queue.submit([encoder.finish()]);
    });
    return await Promise.all(staging.map(async (copy, i) => {
      await copy.mapAsync(MODE_READ);
      return new Uint8Array(copy.getMappedRange().slice(0, wanted[i].length));
    }));
  } finally {
    for (const copy of staging) copy.destroy();
  }
}

/** A tensor whose elements are in a WebGPU buffer: onnxruntime's, or Transformers.js' around it. */
interface OnGpu {
  readonly gpuBuffer?: GpuBufferLike;
  readonly ort_tensor?: { readonly gpuBuffer?: GpuBufferLike };
}

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
    const { gpuBuffer, ort_tensor } = tensor as OnGpu;
    const buffer = tensor.location === "gpu-buffer" ? ort_tensor?.gpuBuffer ?? gpuBuffer : undefined;
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
  readonly #Tensor: OrtTensorClass;
  readonly #buffers: GpuBufferLike[] = [];

  /**
   * @param Tensor onnxruntime's tensor class.
   * @throws {TypeError} The class has no `fromGpuBuffer`.
   */
  constructor(device: GpuDeviceLike, Tensor: unknown) {
    this.#device = device;
    this.#Tensor = Tensor as OrtTensorClass;
    if (typeof this.#Tensor?.fromGpuBuffer !== "function") {
      throw new TypeError("Cannot place the cache on the GPU: onnxruntime's Tensor has no fromGpuBuffer()");
    }
  }

  /**
   * One onnxruntime tensor. Its buffer is freed when the tensor is disposed, which `DynamicCache` does.
   *
   * @throws {KvzBackendError} The GPU has no memory for it.
   */
  upload(type: "float32" | "float16", data: ArrayBufferView<ArrayBuffer>, dims: number[]): Promise<object> {
    const device = this.#device;
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    // onnxruntime's own buffers are multiples of 16 bytes; writeBuffer takes multiples of 4.
    const size = Math.max(16, Math.ceil(bytes.length / 16) * 16);
    const padded = bytes.length % 4 === 0 ? bytes : new Uint8Array(Math.ceil(bytes.length / 4) * 4);
    if (padded !== bytes) padded.set(bytes);
    return checked(device, "place the cache on the GPU", () => {
      const buffer = device.createBuffer({ size, usage: STORAGE | COPY_SRC | COPY_DST });
      this.#buffers.push(buffer);
      device.queue.writeBuffer(buffer, 0, padded);
      return this.#Tensor.fromGpuBuffer!(buffer, {
        dataType: type,
        dims,
        download: async () => {
          const [copy] = await readBuffers(device, [{ buffer, length: bytes.length }]);
          if (type === "float32") return new Float32Array(copy.buffer);
          return Float16 ? new Float16(copy.buffer) : new Uint16Array(copy.buffer);
        },
        dispose: () => buffer.destroy(),
      });
    });
  }

  /** Frees all that was placed, when the cache cannot be completed. */
  free(): void {
    for (const buffer of this.#buffers) buffer.destroy();
  }
}
