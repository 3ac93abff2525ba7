/**
 * The kernel modules as text in the package, for runtimes that may compile WebAssembly from bytes.
 *
 * @module
 */
import { codec_base } from "./bytes/codec_base.ts";
import { codec_relaxed } from "./bytes/codec_relaxed.ts";
import { codec_simd } from "./bytes/codec_simd.ts";
import type { WasmBuild } from "./exports.ts";

/** Base64 of a build of the codec's kernels. */
export function inlinedModule(build: WasmBuild): string {
  return build === "relaxed" ? codec_relaxed : build === "simd" ? codec_simd : codec_base;
}
