/**
 * Which backend computes.
 *
 * @module
 */
import { KvzBackendError } from "../errors.ts";
import type { Backend } from "./backend.ts";
import { detectBuild, supportsBuild } from "./wasm/detect.ts";
import { WASM_BUILDS, type WasmBuild } from "./wasm/exports.ts";
import { createWasmBackend } from "./wasm/create.ts";

export type { WasmBuild } from "./wasm/exports.ts";

/** Names a caller may ask for; "auto" takes the fastest that is there. */
export type BackendName = "auto" | "wasm" | "webgpu" | "cuda" | "reference";

/** What computes, and how it is loaded. Structured-cloneable, so that it can be sent to workers. */
export interface BackendOptions {
  /** Default "auto". */
  readonly backend?: BackendName;
  /** Build of the wasm backend; "auto" (default) takes the fastest that the engine validates. */
  readonly build?: "auto" | WasmBuild;
  /** A compiled codec module, where compiling from bytes is forbidden. */
  readonly module?: WebAssembly.Module;
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
 * Opens a backend: wasm for "auto".
 *
 * @throws {KvzBackendError} when the backend or build is unknown, absent, or cannot run here.
 */
export async function createBackend(options: BackendOptions = {}): Promise<Backend> {
  const { backend = "auto", build, module } = options;
  switch (backend) {
    case "auto":
    case "wasm":
      return await createWasmBackend({ build, module });
    case "cuda":
      requireNoWasmOptions("cuda", options);
      // Imported when asked for, as the reference: applications that use neither do not carry them.
      return await (await import("./cuda/cuda_backend.ts")).CudaBackend.open();
    case "reference":
      requireNoWasmOptions("reference", options);
      return new (await import("./reference/reference_backend.ts")).ReferenceBackend();
    default:
      throw new KvzBackendError(
        `Cannot use backend ${backend}: this version has cuda, wasm (base, simd, relaxed) and reference`,
      );
  }
}

function requireNoWasmOptions(backend: string, { build, module }: BackendOptions): void {
  if ((build !== undefined && build !== "auto") || module !== undefined) {
    throw new KvzBackendError(`Cannot use "build" or "module" with the ${backend} backend: they are for wasm`);
  }
}

/** All backends, best first, with the reason why each is or is not used when "auto" is asked for. */
export function listBackends(): Promise<BackendStatus[]> {
  const best = detectBuild();
  const wasm = WASM_BUILDS.toReversed().map((build): BackendStatus => {
    const available = supportsBuild(build);
    const reason = build === best
      ? "used: the fastest build that this engine validates"
      : available
      ? `not used: ${best} is faster`
      : best === null
      ? "this engine has no WebAssembly"
      : "this engine does not validate its instructions";
    return { name: "wasm", build, available, reason };
  });
  return Promise.resolve([
    { name: "cuda", build: "", available: false, reason: "not in this version" },
    { name: "webgpu", build: "", available: false, reason: "not in this version" },
    ...wasm,
    {
      name: "reference",
      build: "float64",
      available: true,
      reason: best === null ? "slow; must be asked for" : "not used: slow, defines the kernels",
    },
  ]);
}
