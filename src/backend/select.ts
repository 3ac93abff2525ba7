/**
 * Which backend computes.
 *
 * @module
 */
import { KvzBackendError } from "../errors.ts";
import type { Backend } from "./backend.ts";
import { markFallback } from "./fallback.ts";
import { GPU_CANDIDATES } from "./gpu/candidates.ts";
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
    case "reference":
      requireNoWasmOptions(options);
      // Imported when asked for: applications do not carry it.
      return new (await import("./reference/reference_backend.ts")).ReferenceBackend();
    default: {
      const gpu = GPU_CANDIDATES.find(({ name }) => name === backend);
      if (gpu !== undefined) {
        requireNoWasmOptions(options);
        return await gpu.open(options);
      }
      const names = GPU_CANDIDATES.map(({ name }) => name).join(", ");
      throw new KvzBackendError(
        `Cannot use backend ${backend}: this version has ${names}, wasm (base, simd, relaxed) and reference`,
      );
    }
  }
}

/** The options of a backend on this host where none is named: what calibration and costs use, whose data is here. */
export function hostOptions(options: BackendOptions = {}): BackendOptions {
  return (options.backend ?? "auto") === "auto" ? { ...options, backend: "wasm" } : options;
}

/** GPUs that "auto" has looked for in vain: there is no need to look again. */
const absent = new Set<string>();

async function openAuto(options: BackendOptions): Promise<Backend> {
  const { build, module, device } = options;
  const failures: string[] = [];
  if (device !== undefined) {
    return await createBackend({ ...options, backend: typeof device === "number" ? "cuda" : "webgpu" });
  }
  for (const { name, find, open } of build === undefined && module === undefined ? GPU_CANDIDATES : []) {
    if (absent.has(name)) continue;
    try {
      if ((await find()).fast) return await open(options);
      absent.add(name);
    } catch (error) {
      if (!(error instanceof KvzBackendError)) throw error;
      failures.push(error.message);
    }
  }
  const wasm = await createWasmBackend({ build, module });
  return failures.length > 0 ? markFallback(wasm, failures.join("; ")) : wasm;
}

function requireNoWasmOptions({ backend, build, module }: BackendOptions): void {
  if ((build !== undefined && build !== "auto") || module !== undefined) {
    throw new KvzBackendError(`Cannot use "build" or "module" with the ${backend} backend: they are for wasm`);
  }
}

/** All backends, best first, with the reason why each is or is not used when "auto" is asked for with one thread. */
export async function listBackends(): Promise<BackendStatus[]> {
  const gpus: BackendStatus[] = [];
  let taken: string | null = null;
  for (const { name, find } of GPU_CANDIDATES) {
    const { available, fast, detail } = await find();
    const reason = !available
      ? detail
      : !fast
      ? `not used: ${detail}`
      : taken === null
      ? `used with one thread: ${detail}`
      : `not used: ${taken} comes first (${detail})`;
    if (fast) taken ??= name;
    gpus.push({ name, build: "", available, reason });
  }
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
    ...gpus,
    ...wasm,
    {
      name: "reference",
      build: "float64",
      available: true,
      reason: best === null ? "slow; must be asked for" : "not used: slow, defines the kernels",
    },
  ];
}
