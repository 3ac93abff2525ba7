/**
 * A part of gpu_page.ts: a cache of onnxruntime-web in GPU buffers is compressed there and restored there, by a codec on
 * the session's device.
 *
 * @module
 */
import { decompressToGpuTensors, fromGpuTensors, type GpuTensorClass } from "../../gpu.ts";
import { fromTransformersJs, type ModelSpec, openCodec, type Profile, toTransformersJs } from "../../mod.ts";
import { restoreCache, saveCache, type TransformersLike } from "../../transformers.ts";
import type { Past, Tensor } from "./gpu_page.ts";

/** What the part is given. */
export interface StayInput<C> {
  readonly device: GPUDevice;
  /** Whether onnxruntime made it. */
  readonly ownDevice: boolean;
  /** The session's cache, which has read all but the last of `ids`. */
  readonly past: Past;
  readonly profile: Profile;
  readonly spec: ModelSpec;
  readonly model: { readonly config: object };
  readonly transformers: TransformersLike<C>;
  readonly ids: readonly number[];
  readonly Tensor: GpuTensorClass<Tensor> & (new (type: string, data: ArrayBufferView, dims: number[]) => Tensor);
  /** Logits of the last token after a cache. */
  next(past: Past): Promise<number[]>;
}

/** What the test looks at. */
export interface StayOutcome {
  readonly limits: readonly [buffers: number, binding: number];
  /** The file from GPU buffers is that from the host's memory. */
  readonly sameFile: boolean;
  /** Bytes of the elements, of the file, and those that the host read while it was made and while it was restored. */
  readonly bytes: {
    readonly cache: number;
    readonly file: number;
    readonly saving: number;
    readonly restoring: number;
  };
  /** Locations of the session's tensors afterwards, of the restored ones, and of those once they are disposed. */
  readonly locations: readonly (readonly string[])[];
  /** Logits after the cache itself, after one restored from a file that keeps every element, and both ways' coded ones. */
  readonly logits: Readonly<Record<"own" | "kept" | "coded" | "codedOnHost" | "restoreCache", number[]>>;
  /** Where saveCache and restoreCache went. */
  readonly places: readonly string[];
}

/** Bytes that the host maps while `task` runs. */
async function countRead<T>(task: () => Promise<T>): Promise<{ result: T; read: number }> {
  const map = GPUBuffer.prototype.mapAsync;
  let read = 0;
  GPUBuffer.prototype.mapAsync = function (mode, offset, size) {
    read += size ?? this.size;
    return map.call(this, mode, offset, size);
  };
  try {
    return { result: await task(), read };
  } finally {
    GPUBuffer.prototype.mapAsync = map;
  }
}

/** Compresses and restores in all ways. */
export async function stayOnGpu<C extends { readonly tensors: Past }>(input: StayInput<C>): Promise<StayOutcome> {
  const { device, ownDevice, past, profile, spec, model, transformers, ids, Tensor, next } = input;
  await using codec = await openCodec(profile, { backend: "webgpu", device });
  const inputIds = ids.slice(0, -1);
  const cache = fromGpuTensors(past, { model: spec, inputIds });
  const settings = { ratio: 4, window: 16 };
  const compressed = await countRead(() => codec.compress(cache, settings));
  const { bytes } = compressed.result;
  const restored = await countRead(() => decompressToGpuTensors(codec, bytes, { device, Tensor }));
  const { tensors } = restored.result;
  const locationsOf = (record: Past) => Object.values(record).map(({ location }) => location);
  const locations = [locationsOf(past), locationsOf(tensors)];

  const kept = await codec.compress(cache, { window: inputIds.length });
  const whole = await decompressToGpuTensors(codec, kept.bytes, { device, Tensor });
  const host = (await codec.decompress(bytes)).cache;
  const makeTensor = (type: string, data: ArrayBufferView, dims: number[]) => new Tensor(type, data, dims);

  // onnxruntime's own device is found by itself, another has to be given.
  const where = ownDevice ? { transformers } : { transformers, device };
  const saved = await saveCache(past, { ...where, ...settings, codec, model, inputIds: ids });
  const again = await restoreCache(saved.bytes, { ...where, codec, model });
  const logits = {
    own: await next(past),
    kept: await next(whole.tensors),
    coded: await next(tensors),
    codedOnHost: await next(toTransformersJs(host, { makeTensor })),
    restoreCache: await next(again.pastKeyValues.tensors),
  };
  for (const tensor of Object.values(tensors)) tensor.dispose();
  locations.push(locationsOf(tensors));
  // Last: this moves the tensors to main memory.
  const downloaded = await fromTransformersJs(past, { model: spec, inputIds });
  const wanted = (await codec.compress(downloaded, settings)).bytes;
  return {
    limits: [device.limits.maxStorageBuffersPerShaderStage, device.limits.maxStorageBufferBindingSize],
    sameFile: bytes.length === wanted.length && bytes.every((byte, i) => byte === wanted[i]),
    bytes: {
      cache: 4 * spec.layers * spec.kvHeads * (spec.keyDim + spec.valueDim) * inputIds.length,
      file: bytes.length,
      saving: compressed.read,
      restoring: restored.read,
    },
    locations,
    logits,
    places: [saved.report.place, again.report.place],
  };
}
