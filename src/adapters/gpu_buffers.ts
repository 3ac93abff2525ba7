/**
 * WebGPU buffers behind tensors of onnxruntime and Transformers.js: finding, reading and making them. Types are
 * structural; a `GPUDevice` and the `Tensor` of onnxruntime-web fit.
 *
 * @module
 */
import { KvzBackendError } from "../errors.ts";
import type { TensorLike } from "./transformers_js.ts";

/** What is needed of a `GPUBuffer`. */
export interface GpuBufferLike {
  /** Bytes. */
  readonly size: number;
  /** Flags of GPUBufferUsage. */
  readonly usage: number;
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

/** What is needed of onnxruntime's class `Tensor`, whose tensors `T` are. */
export interface GpuTensorClass<T extends object> {
  /** A tensor over a buffer. */
  fromGpuBuffer(buffer: unknown, options: GpuTensorOptions): T;
}

/** What onnxruntime has to be told of a buffer: as wide as its own types, which it narrows. */
export interface GpuTensorOptions {
  /** Element type. */
  // deno-lint-ignore no-explicit-any -- onnxruntime's own union of names, which is not imported
  readonly dataType: any;
  /** Shape. */
  readonly dims: readonly number[];
  /** Copies the elements to main memory. */
  // deno-lint-ignore no-explicit-any -- its typed arrays by element type
  download(): Promise<any>;
  /** Frees the buffer. */
  dispose(): void;
}

/** Flags of GPUBufferUsage and GPUMapMode, which only exist as globals where WebGPU does. */
const MAP_READ = 0x0001;
const COPY_SRC = 0x0004;
const COPY_DST = 0x0008;
const STORAGE = 0x0080;
/** What buffers of tensors are used for: onnxruntime's own are, and kvz needs it. */
export const TENSOR_USAGE: number = STORAGE | COPY_SRC | COPY_DST;
const MODE_READ = 0x0001;

const Float16 = (globalThis as { Float16Array?: new (buffer: ArrayBufferLike) => ArrayBufferView }).Float16Array;

/** Runs GPU calls; their errors, which WebGPU reports aside, become exceptions. Without this a bad copy reads zeros. */
export async function checked<T>(device: GpuDeviceLike, task: string, run: () => T): Promise<T> {
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
export async function readBuffers(
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

/** The buffer of a tensor; undefined where its elements lie elsewhere. */
export function bufferOf(tensor: TensorLike): GpuBufferLike | undefined {
  if (tensor.location !== "gpu-buffer") return undefined;
  const { gpuBuffer, ort_tensor } = tensor as OnGpu;
  return ort_tensor?.gpuBuffer ?? gpuBuffer;
}

/** A new buffer for so many bytes of elements, within {@linkcode checked}. */
export function makeBuffer(device: GpuDeviceLike, byteLength: number): GpuBufferLike {
  // onnxruntime's own buffers are multiples of 16 bytes, and kernels read and write as many at a time.
  return device.createBuffer({ size: Math.max(16, Math.ceil(byteLength / 16) * 16), usage: TENSOR_USAGE });
}

/** @throws {TypeError} The class has no `fromGpuBuffer`. */
export function requireTensorClass(Tensor: unknown): GpuTensorClass<object> {
  if (typeof (Tensor as Partial<GpuTensorClass<object>> | undefined)?.fromGpuBuffer !== "function") {
    throw new TypeError("Cannot place the cache on the GPU: onnxruntime's Tensor has no fromGpuBuffer()");
  }
  return Tensor as GpuTensorClass<object>;
}

/** An onnxruntime tensor over the first bytes of a buffer, which is freed when the tensor is disposed. */
export function tensorOver<T extends object>(
  Tensor: GpuTensorClass<T>,
  device: GpuDeviceLike,
  buffer: GpuBufferLike,
  type: "float32" | "float16",
  dims: number[],
): T {
  const length = dims.reduce((size, dim) => size * dim, type === "float32" ? 4 : 2);
  return Tensor.fromGpuBuffer(buffer, {
    dataType: type,
    dims,
    download: async () => {
      const [copy] = await readBuffers(device, [{ buffer, length }]);
      if (type === "float32") return new Float32Array(copy.buffer);
      return Float16 ? new Float16(copy.buffer) : new Uint16Array(copy.buffer);
    },
    dispose: () => buffer.destroy(),
  });
}
