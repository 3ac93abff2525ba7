/**
 * Coders for tables that are known only when a chunk is in hand.
 *
 * @module
 */
import type { Backend } from "../../backend/backend.ts";
import type { GpuEntropy } from "../../backend/gpu/entropy.ts";
import { hostBuild } from "../../backend/host.ts";
import { EntropyKernels, type RansKernels } from "../../backend/wasm/entropy_kernels.ts";
import { WasmRans } from "./rans.ts";
import type { RansBatches } from "./rans_batches.ts";
import type { GpuRans } from "./rans_gpu.ts";
import { ReferenceRans } from "./rans_reference.ts";
import type { Rans } from "./rans_stream.ts";
import type { RansTables } from "./rans_tables.ts";

/** Makes coders for tables; `free` gives back what one holds. */
export type RansFactory = (tables: RansTables) => Rans & { free?(): void };

/** Streams under way by device: those of all its coders go together. */
const batchesOf = new WeakMap<GpuEntropy, RansBatches>();

/** Makes coders whose symbols may lie on the device. */
export type GpuRansFactory = (tables: RansTables) => GpuRans;

/** Coders on a GPU's own kernels; null where it has none. */
export async function openGpuRans(backend: Backend): Promise<GpuRansFactory | null> {
  const entropy = backend.gpu?.entropy ?? null;
  if (entropy === null) return null;
  const [{ GpuRans }, { RansBatches }] = await Promise.all([import("./rans_gpu.ts"), import("./rans_batches.ts")]);
  const batches = batchesOf.get(entropy) ?? new RansBatches(backend, entropy);
  batchesOf.set(entropy, batches);
  return (tables) => new GpuRans(batches, tables);
}

/**
 * Coders on the backend's kernels: a GPU's own where it has them, else those of the host's build; the reference coder on
 * the reference backend.
 *
 * @param own kernels of the host's build to use instead of the entropy module: symbols may lie in their memory
 */
export async function openRans(backend: Backend, own?: RansKernels): Promise<RansFactory> {
  const gpu = await openGpuRans(backend);
  if (gpu !== null) return gpu;
  const build = hostBuild(backend, "rANS");
  if (build === null) return (tables) => new ReferenceRans(tables);
  const kernels = own ?? await EntropyKernels.open(build);
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
