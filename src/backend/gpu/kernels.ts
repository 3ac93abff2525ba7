/**
 * What a GPU backend has beside the kernels of every backend. WASM keeps these in modules of their own, which stages load
 * themselves; a GPU's stages take them from here, because their data is on the device.
 *
 * @module
 */
import type { GpuBlocks } from "./blocks.ts";
import type { GpuCodeStreams } from "./code_streams.ts";
import type { GpuDense } from "./dense.ts";
import type { GpuEntropy } from "./entropy.ts";
import type { GpuGroups } from "./groups.ts";
import type { GpuHuffman } from "./huffman.ts";
import type { GpuInteger } from "./integer.ts";
import type { GpuMemory } from "./memory.ts";
import type { GpuTrellis } from "./trellis.ts";

/** Families of kernels; null where a device lacks one, and the stage computes it in WASM. */
export interface GpuKernels {
  readonly memory: GpuMemory | null;
  readonly blocks: GpuBlocks | null;
  readonly codeStreams: GpuCodeStreams | null;
  readonly dense: GpuDense | null;
  readonly entropy: GpuEntropy | null;
  readonly groups: GpuGroups | null;
  readonly huffman: GpuHuffman | null;
  readonly integer: GpuInteger | null;
  readonly trellis: GpuTrellis | null;
}
