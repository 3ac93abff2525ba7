/**
 * The WASM backend from the modules that this package carries, or from a compiled one.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { detectBuild, supportsBuild } from "./detect.ts";
import { WASM_BUILDS, type WasmBuild } from "./exports.ts";
import { inlinedModule } from "./inlined.ts";
import { loadModule } from "./load.ts";
import type { WasmBackend } from "./wasm_backend.ts";

/** Which module to run. */
export interface WasmOptions {
  /** Build; "auto" (default) takes the fastest that the engine validates, or whatever build `module` is. */
  readonly build?: "auto" | WasmBuild;
  /** A compiled codec module, instead of those in this package. */
  readonly module?: WebAssembly.Module;
}

/** Compiled once a build: a module is immutable and shared by all instances. */
const compiled = new Map<WasmBuild, Promise<WebAssembly.Module>>();

/**
 * Makes a WASM backend with a memory of its own.
 *
 * @throws {RangeError} when the build is unknown.
 * @throws {KvzBackendError} when the engine cannot run the build asked for, or forbids compiling, or `module` is not the
 * codec's or of another build.
 */
export async function createWasmBackend(options: WasmOptions = {}): Promise<WasmBackend> {
  const { build = "auto", module } = options;
  if (build !== "auto" && !WASM_BUILDS.includes(build)) {
    throw new RangeError(`Cannot use option "build": it is ${build}, expected auto, ${WASM_BUILDS.join(", ")}`);
  }
  return await loadModule(module ?? await compile(build), build);
}

async function compile(build: "auto" | WasmBuild): Promise<WebAssembly.Module> {
  const best = detectBuild();
  if (best === null) throw new KvzBackendError("Cannot use the wasm backend: this engine has no WebAssembly");
  const chosen = build === "auto" ? best : build;
  if (!supportsBuild(chosen)) {
    throw new KvzBackendError(
      `Cannot use the ${chosen} build of the wasm backend: the engine does not validate it (the best it runs is ${best})`,
    );
  }
  let module = compiled.get(chosen);
  if (module === undefined) {
    module = inlinedModule(chosen).then((bytes) => WebAssembly.compile(bytes));
    compiled.set(chosen, module);
  }
  try {
    return await module;
  } catch (cause) {
    compiled.delete(chosen);
    if (cause instanceof KvzBackendError) throw cause;
    throw new KvzBackendError(
      'Cannot compile the wasm backend: this runtime forbids it; import from "/edge" and pass a WebAssembly.Module',
      { cause },
    );
  }
}
