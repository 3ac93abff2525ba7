/**
 * Which builds this engine can run, found by validating tiny modules: one function that uses one instruction of the
 * extension.
 *
 * @module
 */
import type { WasmBuild } from "./exports.ts";

/** A module with one function () → v128 of the given instructions. */
function detector(instructions: readonly number[]): Uint8Array<ArrayBuffer> {
  const body = [0, ...instructions, 0x0b];
  return new Uint8Array([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // magic, version 1
    ...[1, 5, 1, 0x60, 0, 1, 0x7b], // type: () → v128
    ...[3, 2, 1, 0], // function of type 0
    ...[10, body.length + 2, 1, body.length, ...body], // code
  ]);
}

/** f32.const 0, f32x4.splat. */
const SPLAT = [0x43, 0, 0, 0, 0, 0xfd, 0x13];
/** f32x4.relaxed_madd of three vectors. */
const RELAXED = [...SPLAT, ...SPLAT, ...SPLAT, 0xfd, 0x85, 0x02];

/** Whether the engine runs a build. */
export function supportsBuild(build: WasmBuild): boolean {
  if (typeof WebAssembly !== "object") return false;
  if (build === "base") return true;
  return WebAssembly.validate(detector(build === "simd" ? SPLAT : RELAXED));
}

/** The fastest build that the engine runs, or `null` where it has no WebAssembly. */
export function detectBuild(): WasmBuild | null {
  const builds = ["relaxed", "simd", "base"] as const;
  return builds.find(supportsBuild) ?? null;
}
