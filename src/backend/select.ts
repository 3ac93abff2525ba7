/**
 * Which backend computes.
 *
 * @module
 */
import { KvzBackendError } from "../errors.ts";
import type { Backend } from "./backend.ts";
import { markFallback } from "./fallback.ts";
import { detectBuild, supportsBuild } from "./wasm/detect.ts";
import { WASM_BUILDS, type WasmBuild } from "./wasm/exports.ts";
import { createWasmBackend } from "./wasm/create.ts";

export type { WasmBuild } from "./wasm/exports.ts";

/** Names a caller may ask for; "auto" takes the fastest that is there. */
export type BackendName = "auto" | "wasm" | "webgpu" | "cuda" | "reference";

/** What is needed of a `GPUDevice` here. */
export interface WebGpuDeviceLike {
  /** Settles when the device is lost. */
  readonly lost: Promise<unknown>;
  /** Its queue. */
  readonly queue: object;
}

/** What computes, and how it is loaded. Without `device`, structured-cloneable, so that it can be sent to workers. */
export interface BackendOptions {
  /** Default "auto". */
  readonly backend?: BackendName;
  /** Build of the wasm backend; "auto" (default) takes the fastest that the engine validates. */
  readonly build?: "auto" | WasmBuild;
  /** A compiled codec module, where compiling from bytes is forbidden. */
  readonly module?: WebAssembly.Module;
  /** The caller's `GPUDevice`, for webgpu: it stays the caller's. For cuda the number of the device, default 0. */
  readonly device?: WebGpuDeviceLike | number;
  /** Times every kernel of a GPU, where it can. */
  readonly timeKernels?: boolean;
}

/** A backend as `kvz doctor` shows it. */
export interface BackendStatus {
  /** Name to ask for it. */
  readonly name: Exclude<BackendName, "auto">;
  /** Variant: of wasm "base", "simd" or "relaxed". */
  readonly build: string;
  /** Whether it runs here. */
  readonly available: boolean;
  /** Why it is or is not used. */
  readonly reason: string;
}

/**
 * Opens a backend. "auto" takes a GPU (cuda, then webgpu; no adapter that computes on the processor), else wasm; with
 * `build` or `module`, wasm. A GPU that is there but fails is passed over: `fallbackOf` tells.
 *
 * @throws {KvzBackendError} when the backend or build is unknown, absent, or cannot run here.
 */
export async function createBackend(options: BackendOptions = {}): Promise<Backend> {
  const { backend = "auto", build, module, device } = options;
  switch (backend) {
    case "auto":
      return await openAuto(options);
    case "wasm":
      if (device !== undefined) throw new KvzBackendError('Cannot use "device" with the wasm backend');
      return await createWasmBackend({ build, module });
    default:
      // Imported when asked for: applications do not carry them.
      return await (await import("./gpu/choose.ts")).openNamed(options);
  }
}

/** The options of a backend on this host where none is named: what calibration and costs use, whose data is here. */
export function hostOptions(options: BackendOptions = {}): BackendOptions {
  return (options.backend ?? "auto") === "auto" ? { ...options, backend: "wasm" } : options;
}

async function openAuto(options: BackendOptions): Promise<Backend> {
  const { build, module, device } = options;
  let reason = "";
  if ((build === undefined && module === undefined && mayHaveGpu()) || device !== undefined) {
    const best = await (await import("./gpu/choose.ts")).openBestGpu(options);
    if (best.backend !== null) return best.backend;
    reason = best.reason;
  }
  const wasm = await createWasmBackend({ build, module });
  return reason === "" ? wasm : markFallback(wasm, reason);
}

/** Whether it is worth loading what looks for one: not in a page without WebGPU. */
function mayHaveGpu(): boolean {
  const { navigator } = globalThis as { navigator?: { gpu?: unknown } };
  return navigator?.gpu !== undefined || "process" in globalThis;
}

/**
 * All backends, best first, with the reason why each is or is not used when "auto" is asked for with one thread. None is
 * opened for it.
 *
 * @param failures messages of GPU backends, by name, that failed when the caller opened them: "auto" passes them over.
 */
export async function listBackends(failures: ReadonlyMap<string, string> = new Map()): Promise<BackendStatus[]> {
  const { rows, taken } = await (await import("./gpu/choose.ts")).listGpus(failures);
  const best = detectBuild();
  const wasm = WASM_BUILDS.toReversed().map((build): BackendStatus => {
    const available = supportsBuild(build);
    const reason = build === best
      ? taken === null
        ? "used: the fastest build that this engine validates"
        : `not used with one thread: ${taken} is there; the fastest build for more`
      : available
      ? `not used: ${best} is faster`
      : best === null
      ? "this engine has no WebAssembly"
      : "this engine does not validate its instructions";
    return { name: "wasm", build, available, reason };
  });
  return [
    ...rows,
    ...wasm,
    {
      name: "reference",
      build: "float64",
      available: true,
      reason: best === null ? "slow; must be asked for" : "not used: slow, defines the kernels",
    },
  ];
}
