/**
 * Whether a cache in GPU buffers is compressed and restored there, or by way of the host's memory.
 *
 * @module
 */
import { bufferOf, type GpuDeviceLike } from "../../adapters/gpu_buffers.ts";
import { whyNotOnGpu } from "../../adapters/gpu_tensors.ts";
import type { TensorLike } from "../../adapters/transformers_js.ts";
import type { DType, ModelSpec } from "../../cache/types.ts";
import type { Codec } from "../../codec/codec.ts";
import { gpuDeviceOf } from "../../codec/gpu_device.ts";
import type { OrtOwner } from "./types.ts";

/** Recipes whose chunks are coded on a GPU; others work on the host's copy. */
const GPU_RECIPES: ReadonlySet<string> = new Set(["kvz", "kvtc"]);

/** Where a cache was taken from or put. */
export interface PlaceReport {
  /**
   * "gpu": the codec worked on the tensors' own buffers, and only codes and the tokens that the recipe keeps as they are
   * crossed the bus. "host": all elements were in the host's memory.
   */
  readonly place: "gpu" | "host";
  /** Why tensors on a GPU, or those of a codec on WebGPU, went through the host's memory; absent where none were meant to. */
  readonly placeReason?: string;
}

/** What decides. */
export interface PlaceFacts {
  readonly recipe: string;
  readonly model: ModelSpec;
  readonly dtype: DType;
}

/** The report's part. */
export function placeReport(onGpu: boolean, why: string | null): PlaceReport {
  if (why === null) return { place: onGpu ? "gpu" : "host" };
  return { place: "host", placeReason: why };
}

/** The device that onnxruntime-web computes on, where it has one. */
export async function ortDevice({ env }: OrtOwner): Promise<GpuDeviceLike | undefined> {
  const { backends, webgpu } = (env ?? {}) as {
    backends?: { onnx?: { webgpu?: { device?: unknown } } };
    webgpu?: { device?: unknown };
  };
  try {
    return await (backends?.onnx?.webgpu ?? webgpu)?.device as GpuDeviceLike | undefined;
  } catch {
    // It looked for an adapter and there is none: whoever asks for WebGPU is told by its backend.
    return undefined;
  }
}

/** Whether a tensor of a record lies in a GPU buffer. */
export function anyOnGpu(record: Readonly<Record<string, TensorLike>>): boolean {
  return Object.values(record).some((tensor) => bufferOf(tensor) !== undefined);
}

/** Why the codec cannot work on buffers of a device; null where it can. */
export function whyHost(codec: Codec, device: GpuDeviceLike | undefined, facts: PlaceFacts): string | null {
  const { backend } = codec.info;
  const open = 'open it with backend "webgpu" and theirs';
  if (backend !== "webgpu") return `the codec computes on ${backend}, not on their GPUDevice; ${open}`;
  if (device === undefined) return 'the GPUDevice of the tensors is not known; pass option "device"';
  if (gpuDeviceOf(codec) !== device) return `the codec computes on another GPUDevice; ${open}`;
  if (!GPU_RECIPES.has(facts.recipe)) return `recipe ${facts.recipe} works on the host`;
  return whyNotOnGpu(facts.model, facts.dtype);
}
