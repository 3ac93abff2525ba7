/**
 * The GPU backends in the order in which "auto" tries them. Their code is imported when they are.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import type { Backend } from "../backend.ts";
import type { BackendOptions } from "../select.ts";

/** What was found of a GPU backend, without opening it. */
export interface GpuFound {
  /** Whether it can be asked for. */
  readonly available: boolean;
  /** Whether "auto" takes it: it is there, and no software. */
  readonly fast: boolean;
  /** The device's name, or why it is not taken, or not there. */
  readonly detail: string;
  /** Message of the error by which it failed, though it is there. */
  readonly failure?: string;
}

/** A GPU backend. */
export interface GpuCandidate {
  readonly name: "cuda" | "webgpu";
  find(): Promise<GpuFound>;
  open(options: BackendOptions): Promise<Backend>;
}

const cuda: GpuCandidate = {
  name: "cuda",
  async find() {
    // Where no runtime loads native libraries, what looks for them is not loaded.
    if (!("Deno" in globalThis || "process" in globalThis)) {
      return { available: false, fast: false, detail: "this runtime loads no native libraries" };
    }
    return await (await import("../cuda/detect.ts")).findCuda();
  },
  async open({ device, timeKernels }) {
    if (device !== undefined && typeof device !== "number") {
      throw new KvzBackendError('Cannot use "device" with the cuda backend: expected the number of a device');
    }
    return await (await import("../cuda/cuda_backend.ts")).CudaBackend.open(device, { timeKernels });
  },
};

const webgpu: GpuCandidate = {
  name: "webgpu",
  async find() {
    const { navigator, process } = globalThis as { navigator?: { gpu?: unknown }; process?: unknown };
    if (navigator?.gpu === undefined && process === undefined) {
      return { available: false, fast: false, detail: "this runtime has no navigator.gpu" };
    }
    const { findWebGpu } = await import("../webgpu/create.ts");
    const { adapter, software, reason, failed } = await findWebGpu();
    if (adapter === null) return { available: false, fast: false, detail: reason, ...(failed && { failure: reason }) };
    const detail = software ? `its adapter computes on the processor (${adapter}); must be asked for` : adapter;
    return { available: true, fast: !software, detail };
  },
  async open({ device, timeKernels }) {
    if (typeof device === "number") {
      throw new KvzBackendError('Cannot use "device" with the webgpu backend: expected a GPUDevice');
    }
    const { createWebGpuBackend } = await import("../webgpu/create.ts");
    return await createWebGpuBackend({ device: device as GPUDevice | undefined, timeKernels });
  },
};

/** All of them, best first. */
export const GPU_CANDIDATES: readonly GpuCandidate[] = [cuda, webgpu];
