/**
 * A restored cache as tensors: in main memory, in buffers of a GPU, or wherever the caller puts them.
 *
 * @module
 */
import type { GpuDeviceLike, GpuTensorClass } from "../../adapters/gpu_buffers.ts";
import { decompressToGpuTensors } from "../../adapters/gpu_tensors.ts";
import { toTransformersJs } from "../../adapters/transformers_js.ts";
import type { KvCache } from "../../cache/kv_cache.ts";
import type { Codec } from "../../codec/codec.ts";
import type { DecompressOptions, DecompressReport, KvzInput } from "../../codec/options.ts";
import { GpuUploader } from "./gpu.ts";
import type { TransformersLike } from "./types.ts";

/** Makes one tensor of a cache. `data` is a Float32Array; for float16 a Float16Array or, where there is none, its bits. */
export type MakeTensor = (
  type: "float32" | "float16",
  data: ArrayBufferView,
  dims: number[],
) => unknown | Promise<unknown>;

/** What is restored, and what of. */
export interface TensorsRequest {
  readonly codec: Codec;
  readonly input: KvzInput;
  readonly settings: DecompressOptions;
  readonly transformers: TransformersLike<unknown>;
  /** Ids of all tokens so far; refuses what `generate` cannot go on with. */
  readonly idsAfter: (facts: RestoredFacts) => Int32Array | null;
}

/** What is known of a cache before its elements are. */
export type RestoredFacts = Pick<KvCache, "positions" | "inputIds">;

/** A restored cache as tensors. */
export interface RestoredRecord {
  readonly record: Record<string, unknown>;
  readonly positions: Int32Array;
  readonly inputIds: Int32Array | null;
  readonly report: DecompressReport;
}

/** Into buffers of the codec's device. */
export async function restoreOnGpu(
  { codec, input, settings, transformers, idsAfter }: TensorsRequest,
  device: GpuDeviceLike,
): Promise<RestoredRecord> {
  const wrapper = new TensorWrapper(transformers);
  let inputIds: Int32Array | null = null;
  const { tensors, cache, report } = await decompressToGpuTensors(codec, input, {
    ...settings,
    device,
    Tensor: wrapper.inner as GpuTensorClass<object>,
    onShape: (shape) => inputIds = idsAfter(shape),
  });
  const record = Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, wrapper.around(tensor)]));
  return { record, positions: cache.positions, inputIds, report };
}

/** By way of main memory. */
export async function restoreOnHost(
  { codec, input, settings, transformers, idsAfter }: TensorsRequest,
  device: GpuDeviceLike | undefined,
  makeTensor: MakeTensor | undefined,
): Promise<RestoredRecord> {
  const { cache, report } = await codec.decompress(input, settings);
  const inputIds = idsAfter(cache);
  const record = await makeTensors(cache, transformers, device, makeTensor);
  return { record, positions: cache.positions, inputIds, report };
}

/** Makes tensors of Transformers.js, which wrap those of onnxruntime. */
class TensorWrapper {
  /** onnxruntime's class. */
  readonly inner: unknown;
  readonly #blank: () => { ort_tensor?: object };

  constructor(transformers: TransformersLike<unknown>) {
    const Tensor = transformers.Tensor as new (...args: unknown[]) => { ort_tensor?: object };
    this.#blank = () => new Tensor("float32", new Float32Array(1), [1]);
    this.inner = this.#blank().ort_tensor?.constructor;
  }

  /** Not `new Tensor(inner)`: builds for browsers hold two copies of onnxruntime's class and know only the other one. */
  around(inner: object): unknown {
    const tensor = this.#blank();
    tensor.ort_tensor = inner;
    return tensor;
  }
}

/** The record of tensors, in main memory, on the GPU or wherever the caller puts them. */
async function makeTensors(
  cache: KvCache,
  transformers: TransformersLike<unknown>,
  device: GpuDeviceLike | undefined,
  makeTensor: MakeTensor | undefined,
): Promise<Record<string, unknown>> {
  const Tensor = transformers.Tensor as new (...args: unknown[]) => unknown;
  const wrapper = device && new TensorWrapper(transformers);
  const uploader = device && new GpuUploader(device, wrapper!.inner);
  const make: MakeTensor = uploader
    ? async (type, data, dims) =>
      wrapper!.around(await uploader.upload(type, data as ArrayBufferView<ArrayBuffer>, dims))
    : makeTensor ?? ((type, data, dims) => new Tensor(type, data, dims));
  const made = Object.entries(toTransformersJs(cache, { makeTensor: make }));
  const results = await Promise.allSettled(made.map(([, tensor]) => tensor));
  const record: Record<string, unknown> = {};
  for (const [i, result] of results.entries()) {
    if (result.status === "rejected") {
      uploader?.free();
      throw result.reason;
    }
    record[made[i][0]] = result.value;
  }
  return record;
}
