/**
 * Opening the WebGPU backend.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { FailedBackendError } from "../gpu/failed.ts";
import { adapterName, compilesSubgroups, findAdapter, isSoftware, openDevice } from "./adapter.ts";
import { WebGpuDevice } from "./device.ts";
import { WebGpuBackend } from "./webgpu_backend.ts";

/** How the WebGPU backend is opened. */
export interface WebGpuOptions {
  /** The caller's device: it stays the caller's. Default: one of the best adapter. */
  readonly device?: GPUDevice;
  /** Times every kernel, for `WebGpuBackend.profile`; needs the feature "timestamp-query". */
  readonly timeKernels?: boolean;
  /** `false`: kernels without subgroups, also where the device has them; to compare. */
  readonly subgroups?: boolean;
}

/** What there is to compute with. */
export interface WebGpuStatus {
  /** Name of the adapter, "" where the runtime hides it; null when there is none. */
  readonly adapter: string | null;
  /** It computes on the host's processor. */
  readonly software: boolean;
  /** Why there is none. */
  readonly reason: string;
  /** There may be one, but looking for it failed. */
  readonly failed: boolean;
}

/**
 * Opens the backend.
 *
 * @throws {KvzBackendError} when there is no WebGPU, no adapter, or no device can be had, or `device` is none.
 */
export async function createWebGpuBackend({ device, ...options }: WebGpuOptions = {}): Promise<WebGpuBackend> {
  if (device === undefined) {
    return new WebGpuBackend(new WebGpuDevice(await openDevice(await findAdapter()), options));
  }
  if (!isDevice(device)) {
    throw new KvzBackendError(
      'Cannot use "device" with the webgpu backend: it has no queue or buffers, expected a GPUDevice',
    );
  }
  const adapter = device.adapterInfo === undefined ? "" : adapterName({ info: device.adapterInfo });
  const subgroups = await compilesSubgroups(device);
  return new WebGpuBackend(new WebGpuDevice({ device, adapter, own: false, subgroups }, options));
}

/** Whether something is used as a device can be. */
function isDevice(it: Partial<GPUDevice> | null): boolean {
  const { features, limits, lost, queue, createBuffer } = it ?? {};
  return [features, limits, lost, queue].every((part) => typeof part === "object" && part !== null) &&
    typeof createBuffer === "function";
}

/** Looks for an adapter without opening a device. */
export async function findWebGpu(): Promise<WebGpuStatus> {
  try {
    const adapter = await findAdapter();
    return { adapter: adapterName(adapter), software: isSoftware(adapter), reason: "", failed: false };
  } catch (error) {
    if (!(error instanceof KvzBackendError)) throw error;
    return { adapter: null, software: false, reason: error.message, failed: error instanceof FailedBackendError };
  }
}
