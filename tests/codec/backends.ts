/**
 * The backends that the codec's tests run on: the reference and every build of wasm. A build that the engine does not
 * validate fails the tests, it is not skipped: Deno runs them all.
 *
 * @module
 */
import type { BackendOptions } from "../../src/backend/select.ts";

/** Name and options of a backend under test. */
export const BACKENDS: readonly (readonly [string, BackendOptions])[] = [
  ["reference", { backend: "reference" }],
  ["wasm base", { backend: "wasm", build: "base" }],
  ["wasm simd", { backend: "wasm", build: "simd" }],
  ["wasm relaxed", { backend: "wasm", build: "relaxed" }],
];
