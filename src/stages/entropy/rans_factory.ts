/**
 * Coders for tables that are known only when a chunk is in hand.
 *
 * @module
 */
import type { Backend } from "../../backend/backend.ts";
import { hostBuild } from "../../backend/host.ts";
import { EntropyKernels } from "../../backend/wasm/entropy_kernels.ts";
import { WasmRans } from "./rans.ts";
import { ReferenceRans } from "./rans_reference.ts";
import type { Rans } from "./rans_stream.ts";
import type { RansTables } from "./rans_tables.ts";

/** Makes coders for tables; `free` gives back what one holds. */
export type RansFactory = (tables: RansTables) => Rans & { free?(): void };

/**
 * Coders on the backend's kernels: a GPU's own where it has them, else those of the host's build; the reference coder on
 * the reference backend.
 */
export async function openRans(backend: Backend): Promise<RansFactory> {
  const entropy = backend.gpu?.entropy ?? null;
  if (entropy !== null) {
    const { GpuRans } = await import("./rans_gpu.ts");
    return (tables) => new GpuRans(backend, entropy, tables);
  }
  const build = hostBuild(backend, "rANS");
  if (build === null) return (tables) => new ReferenceRans(tables);
  const kernels = await EntropyKernels.open(build);
  return (tables) => new WasmRans(kernels, tables);
}

/** Runs `body` with a coder that is given back when it is done or fails. */
export async function withRans<T>(
  rans: RansFactory,
  tables: RansTables,
  body: (coder: Rans) => T | Promise<T>,
): Promise<T> {
  const coder = rans(tables);
  try {
    return await body(coder);
  } finally {
    coder.free?.();
  }
}
