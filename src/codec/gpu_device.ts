/**
 * Which device a codec computes on.
 *
 * @module
 */
import type { WebGpuBackend } from "../backend/webgpu/webgpu_backend.ts";
import type { Codec } from "./codec.ts";

/** The `GPUDevice` of a codec on WebGPU; null on other backends. */
export function gpuDeviceOf(codec: Codec): object | null {
  return codec.info.backend === "webgpu" ? (codec.backend as WebGpuBackend).device.device : null;
}
