/**
 * The cache of Transformers.js and onnxruntime-web whose tensors lie in WebGPU buffers (`location` "gpu-buffer"): a
 * {@linkcode DeviceCache} over the same buffers, and tensors over buffers that a file is restored into. No element crosses
 * the bus but those that the recipe keeps as they are.
 *
 * @module
 */
import { DeviceCache, type DeviceTensor } from "../codec/device_cache.ts";
import type { Codec } from "../codec/codec.ts";
import { gpuDeviceOf } from "../codec/gpu_device.ts";
import type { DecompressOptions, DecompressReport, KvzInput } from "../codec/options.ts";
import type { RestoredShape } from "../codec/restore.ts";
import { BYTES_PER_ELEMENT, type DType, type Kind, KINDS, type ModelSpec } from "../cache/types.ts";
import { KvzBackendError, KvzFormatError, KvzUnsupportedError } from "../errors.ts";
import {
  bufferOf,
  checked,
  type GpuBufferLike,
  type GpuDeviceLike,
  type GpuTensorClass,
  makeBuffer,
  requireTensorClass,
  TENSOR_USAGE,
  tensorOver,
} from "./gpu_buffers.ts";
import {
  checkRecord,
  type FromTransformersJsOptions,
  type NamedTensor,
  readIds,
  type TensorLike,
} from "./transformers_js.ts";

/** Options of {@linkcode decompressToGpuTensors}. */
export interface GpuTensorsOptions<T extends object> extends DecompressOptions {
  /** The codec's `GPUDevice`, which is onnxruntime's (`await ort.env.webgpu.device`). */
  readonly device: GpuDeviceLike;
  /** onnxruntime's class `Tensor`. */
  readonly Tensor: GpuTensorClass<T>;
  /** Told what will be restored before memory is taken for it; what it throws refuses the file. */
  readonly onShape?: (shape: RestoredShape) => void;
}

/** A cache restored into tensors on a GPU. */
export interface RestoredGpuTensors<T extends object> {
  /** `past_key_values.N.key|value` → tensor [1, KV heads, tokens, dim]; disposing one frees its buffer. */
  readonly tensors: Record<string, T>;
  /** The same buffers, to be compressed again; positions and token ids. */
  readonly cache: DeviceCache;
  /** Figures of decompressing. */
  readonly report: DecompressReport;
}

/**
 * Makes a cache over the buffers of a record of tensors: Transformers.js' `DynamicCache`, or a plain object of
 * onnxruntime's. The tensors stay the caller's and must not be disposed before the cache is compressed; that their
 * buffers are of the codec's device shows when it is.
 *
 * @example
 * ```ts ignore
 * const device = await ort.env.webgpu.device;
 * await using codec = await openCodec(profile, { backend: "webgpu", device });
 * const { bytes } = await codec.compress(fromGpuTensors(past, { model, inputIds }));
 * const { tensors } = await decompressToGpuTensors(codec, bytes, { device, Tensor: ort.Tensor });
 * const outputs = await session.run({ ...tensors, input_ids, attention_mask });
 * ```
 *
 * @throws {KvzUnsupportedError} Tensors that are disposed or elsewhere, more than one sequence, an element type other than
 * float32 and float16, tensors that are not keys or values of self-attention, or a model that {@linkcode whyNotOnGpu}
 * names.
 * @throws {KvzMismatchError} The record does not have the model's shape, or the token ids are of another number.
 * @throws {KvzFormatError} A tensor contradicts itself.
 * @throws {KvzBackendError} A buffer lacks a usage that kvz needs; onnxruntime's own have them.
 */
export function fromGpuTensors(
  record: Readonly<Record<string, TensorLike>>,
  options: FromTransformersJsOptions,
): DeviceCache {
  const { model, inputIds, firstPosition = 0 } = options;
  // Own entries only: a DynamicCache has methods beside them.
  const { dtype, tokens, layers } = checkRecord({ ...record }, model);
  requireOnGpu(model, dtype, "read");
  const tensorOf = ({ name, tensor }: NamedTensor, kind: Kind): DeviceTensor => {
    const memory = requireBuffer(name, tensor);
    const wanted = model.kvHeads * tokens * rowBytes(model, dtype, kind);
    // Kernels read 16 bytes at a time.
    if (memory.size < Math.ceil(wanted / 16) * 16) {
      throw new KvzFormatError(
        `Cannot read cache: the buffer of ${name} has ${memory.size} bytes, expected ${wanted} rounded up to 16`,
      );
    }
    return { memory };
  };
  return new DeviceCache(
    {
      model,
      dtype,
      positions: Int32Array.from({ length: tokens }, (_, t) => firstPosition + t),
      ...(inputIds ? { inputIds: readIds(inputIds, tokens) } : {}),
    },
    layers.map(({ key, value }) => ({ key: tensorOf(key, "key"), value: tensorOf(value, "value") })),
  );
}

/**
 * Restores a file into new tensors on a GPU. They are the caller's: they outlive the codec.
 *
 * @throws {KvzBackendError} The codec does not compute on `device`, or there is no memory for the cache.
 * @throws {KvzUnsupportedError} The file is ragged, of bfloat16 without option `dtype`, or of a model that
 * {@linkcode whyNotOnGpu} names.
 * @throws {KvzFormatError} The file is damaged, truncated or of an unknown version.
 * @throws {KvzMismatchError} It was made with another profile.
 * @throws {KvzLimitError} The cache exceeds `maxBytes`.
 */
export async function decompressToGpuTensors<T extends object>(
  codec: Codec,
  input: KvzInput,
  { device, Tensor, onShape, ...options }: GpuTensorsOptions<T>,
): Promise<RestoredGpuTensors<T>> {
  requireTensorClass(Tensor);
  if (gpuDeviceOf(codec) !== device) {
    const found = codec.info.backend === "webgpu" ? "another GPUDevice" : codec.info.backend;
    throw new KvzBackendError(`Cannot restore into tensors: the codec computes on ${found}, expected their GPUDevice`);
  }
  const buffers: GpuBufferLike[] = [];
  try {
    const { cache, report } = await codec.decompressOnDevice(input, async (shape) => {
      onShape?.(shape);
      return await makeCache(device, shape, buffers);
    }, options);
    return { tensors: tensorsOf(cache, device, Tensor), cache, report };
  } catch (error) {
    for (const buffer of buffers) buffer.destroy();
    throw error;
  }
}

/**
 * Why tensors of a model must go through main memory; null where they need not. Keys whose rotation pairs adjacent
 * elements are rearranged there, and WebGPU copies whole words of 4 bytes.
 */
export function whyNotOnGpu(model: ModelSpec, dtype: DType): string | null {
  if (dtype === "bf16") return "its elements are bfloat16, which onnxruntime-web does not take";
  if (model.rope?.pairing === "adjacent") return "its keys pair adjacent elements";
  for (const kind of KINDS) {
    const bytes = rowBytes(model, dtype, kind);
    if (bytes % 4 !== 0) return `a ${kind} of a head has ${bytes} bytes, no multiple of 4`;
  }
  return null;
}

function requireOnGpu(model: ModelSpec, dtype: DType, task: string): void {
  const why = whyNotOnGpu(model, dtype);
  if (why !== null) throw new KvzUnsupportedError(`Cannot ${task} cache on the GPU: ${why}`);
}

/** Bytes of one token of a head. */
function rowBytes({ keyDim, valueDim }: ModelSpec, dtype: DType, kind: Kind): number {
  return (kind === "key" ? keyDim : valueDim) * BYTES_PER_ELEMENT[dtype];
}

function requireBuffer(name: string, tensor: TensorLike): GpuBufferLike {
  const { location = "cpu" } = tensor;
  if (location === "none") throw new KvzUnsupportedError(`Cannot read cache: ${name} is disposed`);
  if (location !== "gpu-buffer") {
    throw new KvzUnsupportedError(`Cannot read cache: ${name} is at "${location}", expected "gpu-buffer"`);
  }
  const buffer = bufferOf(tensor);
  if (buffer === undefined) throw new KvzFormatError(`Cannot read cache: ${name} has no gpuBuffer`);
  if ((buffer.usage & TENSOR_USAGE) !== TENSOR_USAGE) {
    throw new KvzBackendError(
      `Cannot read cache: the buffer of ${name} has usage 0x${buffer.usage.toString(16)}, ` +
        "expected STORAGE, COPY_SRC and COPY_DST",
    );
  }
  return buffer;
}

/** A cache in new buffers, one a tensor, which are added to `buffers` as they are made. */
async function makeCache(device: GpuDeviceLike, shape: RestoredShape, buffers: GpuBufferLike[]): Promise<DeviceCache> {
  const { model, dtype, positions } = shape;
  requireOnGpu(model, dtype, "restore");
  const make = (kind: Kind): DeviceTensor => {
    const memory = makeBuffer(device, model.kvHeads * positions.length * rowBytes(model, dtype, kind));
    buffers.push(memory);
    return { memory };
  };
  const layers = await checked(device, "place the cache on the GPU", () => {
    return Array.from({ length: model.layers }, () => ({ key: make("key"), value: make("value") }));
  });
  return new DeviceCache(shape, layers);
}

function tensorsOf<T extends object>(
  { model, dtype, tokens, layers }: DeviceCache,
  device: GpuDeviceLike,
  Tensor: GpuTensorClass<T>,
): Record<string, T> {
  const type = dtype === "f16" ? "float16" : "float32";
  return Object.fromEntries(layers.flatMap((layer, l) =>
    KINDS.map((kind) => {
      const dims = [1, model.kvHeads, tokens, kind === "key" ? model.keyDim : model.valueDim];
      const buffer = layer[kind].memory as unknown as GpuBufferLike;
      return [`past_key_values.${l}.${kind}`, tensorOver(Tensor, device, buffer, type, dims)];
    })
  ));
}
