/**
 * The quantizers of rows in few bits, as interfaces: plain TypeScript defines them (uniform.ts,
 * ggml_blocks.ts), WebAssembly runs them (asm/groups.ts), and GPUs. All give the same bits.
 *
 * @module
 */
import type { Backend } from "../../backend/backend.ts";
import { GroupsModule } from "../../backend/wasm/group_kernels.ts";
import { KvzBackendError } from "../../errors.ts";
import { hostBuild } from "../../backend/host.ts";
import { noteHostWork } from "../../backend/host_work.ts";
import { type BlockType, dequantizeBlocks, quantizeBlocks } from "./ggml_blocks.ts";
import { type CodedGroups, dequantizeGroups, type GroupShape, quantizeGroups } from "./uniform.ts";

/** Uniform quantization of groups. */
export interface GroupKernels {
  /** As `quantizeGroups`. `x` may be overwritten. */
  quantize(x: Float32Array, shape: GroupShape): CodedGroups | Promise<CodedGroups>;
  /** As `dequantizeGroups`. */
  dequantize(coded: CodedGroups, shape: GroupShape): Float32Array | Promise<Float32Array>;
}

/** ggml's blocks. */
export interface BlockKernels {
  /** As `quantizeBlocks`. */
  quantize(values: Float32Array, type: BlockType): Uint8Array | Promise<Uint8Array>;
  /** As `dequantizeBlocks`. */
  dequantize(bytes: Uint8Array, type: BlockType): Float32Array | Promise<Float32Array>;
}

/** The quantizer of groups on a backend. */
export async function openGroups(backend: Backend): Promise<GroupKernels> {
  const openHost = async () =>
    (await openModule(backend, "groups"))?.groups ?? { quantize: quantizeGroups, dequantize: dequantizeGroups };
  const groups = backend.gpu?.groups ?? null;
  if (groups === null || !await groups.exact()) return await openHost();
  const { GpuGroupKernels } = await import("./groups_gpu.ts");
  return new GpuGroupKernels(backend, groups, openHost);
}

/** The quantizer of blocks on a backend. */
export async function openBlocks(backend: Backend): Promise<BlockKernels> {
  const blocks = backend.gpu?.blocks ?? null;
  if (blocks !== null && await blocks.exact()) {
    const { GpuBlockKernels } = await import("./blocks_gpu.ts");
    return new GpuBlockKernels(backend, blocks);
  }
  return (await openModule(backend, "blocks"))?.blocks ?? { quantize: quantizeBlocks, dequantize: dequantizeBlocks };
}

/** The kernels; null for plain TypeScript: on the reference backend, and on edge runtimes that compile no WebAssembly. */
async function openModule(backend: Backend, work: string): Promise<GroupsModule | null> {
  const build = hostBuild(backend, work);
  if (build === null) return null;
  try {
    return await GroupsModule.open(build);
  } catch (error) {
    if (!(error instanceof KvzBackendError)) throw error;
    noteHostWork(backend, `${work} (in TypeScript)`);
    return null;
  }
}
