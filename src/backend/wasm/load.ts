/**
 * Making a WASM backend from a compiled module or from inlined bytes.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { bestBuild, canRun, WASM_BUILDS, type WasmBuild } from "./detect.ts";
import { WasmBackend } from "./wasm_backend.ts";

/** Gives the base64 text of a build's module. */
export type ModuleText = (build: WasmBuild) => string;

/**
 * Picks a build.
 *
 * @throws {KvzBackendError} when the engine cannot run it
 */
export function chooseBuild(build: WasmBuild | "auto"): WasmBuild {
  if (build !== "auto" && !WASM_BUILDS.includes(build)) {
    throw new RangeError(`Cannot use option "build": it is ${build}, expected auto, ${WASM_BUILDS.join(", ")}`);
  }
  const chosen = build === "auto" ? bestBuild() : canRun(build) ? build : undefined;
  if (chosen === undefined) {
    throw new KvzBackendError(
      `Cannot use the ${build === "auto" ? "" : `${build} build of the `}wasm backend: the engine does not validate it`,
    );
  }
  return chosen;
}

/** A backend from inlined bytes. */
export async function loadInlined(text: ModuleText, build: WasmBuild | "auto"): Promise<WasmBackend> {
  const chosen = chooseBuild(build);
  const bytes = Uint8Array.from(atob(text(chosen)), (char) => char.charCodeAt(0));
  try {
    const { instance } = await WebAssembly.instantiate(bytes);
    return new WasmBackend(instance, chosen);
  } catch (cause) {
    throw new KvzBackendError(
      'Cannot compile the wasm backend: this runtime forbids it; import from "/edge" and pass a WebAssembly.Module',
      { cause },
    );
  }
}

/** A backend from a module that the caller compiled (edge runtimes, which forbid compiling from bytes). */
export async function loadModule(module: WebAssembly.Module): Promise<WasmBackend> {
  const names = new Set(WebAssembly.Module.exports(module).map(({ name }) => name));
  for (const name of ["memory", "heapBase", "project", "reconstruct"]) {
    if (!names.has(name)) throw new KvzBackendError(`Cannot use the given module: it has no export "${name}"`);
  }
  return new WasmBackend(await WebAssembly.instantiate(module), "given");
}
