/**
 * A WASM backend from a compiled module. Nothing here imports the modules that the package carries, so that entries for
 * platforms which forbid compiling (Cloudflare Workers, Vercel Edge) stay small.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { CODEC_EXPORTS, type CodecExports, WASM_BUILDS, type WasmBuild } from "./exports.ts";
import { WasmBackend } from "./wasm_backend.ts";

/**
 * Instantiates the codec module, with a memory of its own.
 *
 * @param build expected build; "auto" takes whatever the module is
 * @throws {KvzBackendError} when the module is not the codec's of this version, is of another build, or does not start.
 */
export async function loadModule(
  module: WebAssembly.Module,
  build: "auto" | WasmBuild = "auto",
): Promise<WasmBackend> {
  const names = new Set(WebAssembly.Module.exports(module).map(({ name }) => name));
  const missing = CODEC_EXPORTS.find((name) => !names.has(name));
  if (missing !== undefined) {
    throw new KvzBackendError(
      `Cannot use the WebAssembly module: it has no export "${missing}", so it is not kvz's codec module`,
    );
  }
  let exports: CodecExports;
  try {
    exports = (await WebAssembly.instantiate(module, {})).exports as unknown as CodecExports;
  } catch (cause) {
    throw new KvzBackendError("Cannot start the WebAssembly module", { cause });
  }
  const found = WASM_BUILDS[exports.buildId()];
  if (build !== "auto" && build !== found) {
    throw new KvzBackendError(`Cannot use the WebAssembly module: it is the ${found} build, expected ${build}`);
  }
  return new WasmBackend(exports, found);
}
