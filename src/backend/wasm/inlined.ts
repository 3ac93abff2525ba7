/**
 * The codec's kernels as this package carries them, for runtimes that may compile WebAssembly from bytes.
 *
 * @module
 */
import { codec } from "./bytes/codec.ts";
import type { WasmBuild } from "./exports.ts";
import { inflateBuild } from "./inflate.ts";

/** The bytes of a build of the codec's kernels. */
export function inlinedModule(build: WasmBuild): Promise<Uint8Array<ArrayBuffer>> {
  return inflateBuild(codec, build);
}
