/**
 * Which build of the kernels this engine can run, found by validating tiny modules (no user-agent guessing).
 *
 * @module
 */

/** Builds of a kernel module, best first. */
export type WasmBuild = "relaxed" | "simd" | "base";

/** All builds, best first. */
export const WASM_BUILDS: readonly WasmBuild[] = ["relaxed", "simd", "base"];

// (module (func (result v128) … drop)): one function that uses one instruction of the feature.
const HEAD = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 10];
/** i32.const 0, i8x16.splat, i8x16.popcnt, drop */
const SIMD = [9, 1, 7, 0, 0x41, 0, 0xfd, 15, 0x1a, 0x0b];
/** three splats, f32x4.relaxed_madd (0xfd 0x105), drop */
const RELAXED = [20, 1, 18, 0, 0x41, 0, 0xfd, 15, 0x41, 0, 0xfd, 15, 0x41, 0, 0xfd, 15, 0xfd, 0x85, 2, 0x1a, 0x0b];

/** Whether this engine can run a build. */
export function canRun(build: WasmBuild): boolean {
  if (typeof WebAssembly === "undefined") return false;
  if (build === "base") return true;
  const body = build === "simd" ? SIMD : RELAXED;
  return WebAssembly.validate(Uint8Array.from([...HEAD, ...body]));
}

/** The best build that this engine can run, undefined where there is no WebAssembly. */
export function bestBuild(): WasmBuild | undefined {
  return WASM_BUILDS.find(canRun);
}
