/**
 * Which backend runs. One module decides; everything else asks it.
 *
 * @module
 */
import { KvzBackendError } from "../errors.ts";
import type { Backend } from "./backend.ts";
import { ReferenceBackend } from "./reference/reference_backend.ts";
import { canRun, WASM_BUILDS, type WasmBuild } from "./wasm/detect.ts";
import { inlinedModule } from "./wasm/inlined.ts";
import { loadInlined, loadModule } from "./wasm/load.ts";

/** Backends of this version. `auto` takes the fastest that can be used. */
export type BackendName = "auto" | "wasm" | "reference";

/** Choice of a backend. */
export interface BackendOptions {
  /** Default "auto". */
  readonly backend?: BackendName;
  /** Build of the wasm backend, default "auto": the best that the engine validates. */
  readonly build?: WasmBuild | "auto";
  /** A compiled kernel module, where compiling from bytes is forbidden (edge runtimes). */
  readonly module?: WebAssembly.Module;
}

/** What `kvz doctor` shows of a backend. */
export interface BackendStatus {
  readonly name: string;
  readonly build: string;
  readonly available: boolean;
  /** Why it is or is not used. */
  readonly reason: string;
}

/**
 * Makes a backend.
 *
 * @throws {KvzBackendError} when it is unknown or cannot be used here
 */
export async function createBackend(options: BackendOptions = {}): Promise<Backend> {
  const { backend = "auto", build = "auto", module } = options;
  if (backend === "reference") return new ReferenceBackend();
  if (backend !== "auto" && backend !== "wasm") {
    throw new KvzBackendError(`Cannot use backend "${backend}": this version has auto, wasm and reference`);
  }
  return module === undefined ? await loadInlined(inlinedModule, build) : await loadModule(module);
}

/** Lists every backend and build with the reason why it is or is not used, best first. */
export function listBackends(): BackendStatus[] {
  let chosen = false;
  const wasm = WASM_BUILDS.map((build): BackendStatus => {
    const available = canRun(build);
    const first = available && !chosen;
    chosen ||= available;
    const reason = !available
      ? typeof WebAssembly === "undefined" ? "this runtime has no WebAssembly" : "the engine does not validate it"
      : first
      ? "chosen by auto: the best build that the engine validates"
      : "available; a better build is";
    return { name: "wasm", build, available, reason };
  });
  return [...wasm, {
    name: "reference",
    build: "float64",
    available: true,
    reason: "available when asked for by name; defines the kernels, slow",
  }];
}
