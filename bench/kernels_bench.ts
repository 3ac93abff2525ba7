/**
 * Every kernel under `deno bench`, one group a kernel, one row a build. bench/kernels.ts gives the same as shares of the
 * machine's limits.
 *
 * @module
 */
import { createWasmBackend } from "../src/backend/wasm/create.ts";
import { WASM_BUILDS } from "../src/backend/wasm/exports.ts";
import { kernelsOf } from "../cli/bench/kernel_cases.ts";

for (const build of [...WASM_BUILDS].reverse()) {
  const backend = await createWasmBackend({ build });
  for (const { name, run } of kernelsOf(backend)) {
    Deno.bench({ name: build, group: name, baseline: build === "relaxed", n: 20, warmup: 2, fn: run });
  }
}
