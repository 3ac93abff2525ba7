/**
 * The kernels of dense layers (asm/dense.ts), for recipes that rotate heads, restore them from factors or code them with
 * autoencoders. What they compute is in src/stages/transform/dense_host.ts.
 *
 * @module
 */
import type { WasmBuild } from "./exports.ts";
import { instantiate, KernelModule, type ModuleExports } from "./kernel_module.ts";

/** Element types of rows, as the kernels know them. */
export const [F32, F16] = [0, 1];

/** Exports of the module. Pointers are byte addresses, strides bytes between panels of eight rows. */
export interface DenseExports extends ModuleExports {
  encodeLatents(rows: number, count: number, width: number, codes: number, limits: number): void;
  decodeLatents(codes: number, limits: number, count: number, width: number, rows: number): void;
  packWeights(src: number, inputs: number, outputs: number, dst: number): void;
  toPanels(src: number, dtype: number, rows: number, width: number, dst: number, stride: number): void;
  fromPanels(
    src: number,
    stride: number,
    rows: number,
    width: number,
    limit: number,
    dst: number,
    dtype: number,
  ): void;
  layer(
    x: number,
    xStride: number,
    panels: number,
    depth: number,
    weights: number,
    outputs: number,
    bias: number,
    slope: number,
    y: number,
    yStride: number,
  ): void;
}

/** The module's kernels. */
export class DenseKernels extends KernelModule<DenseExports> {
  /**
   * Instantiates a build, by default the best one that this engine runs.
   *
   * @throws {KvzBackendError} when the engine cannot run it.
   */
  static async open(build: WasmBuild | "auto" = "auto"): Promise<DenseKernels> {
    const { build: chosen, exports } = await instantiate<DenseExports>(
      async () => (await import("./bytes/dense.ts")).dense,
      build,
      "run dense layers",
    );
    return new DenseKernels(chosen, exports);
  }
}
