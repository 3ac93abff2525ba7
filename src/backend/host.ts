/**
 * WebAssembly kernels that stages load themselves: those of a backend's build, or beside a GPU that lacks its own or gives
 * other bits. Nothing of it is silent: whoever asks for such kernels names the work, and reports tell.
 *
 * @module
 */
import type { Backend } from "./backend.ts";
import { noteHostWork } from "./host_work.ts";
import { detectBuild } from "./wasm/detect.ts";
import type { WasmBuild } from "./wasm/exports.ts";

/**
 * The build of the WebAssembly kernels that serves a backend on the host: its own for wasm, the best that the engine runs
 * beside a GPU, none (plain TypeScript) for the reference.
 *
 * @param work what is computed, as reports name it.
 */
export function hostBuild(backend: Backend, work: string): WasmBuild | null {
  const { name, build, gpu } = backend;
  if (name === "reference") return null;
  if (gpu !== null) noteHostWork(backend, work);
  // WebGPU has a build "base" as well.
  return name === "wasm" ? build as WasmBuild : detectBuild();
}
