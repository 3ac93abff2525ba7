/**
 * The kernels of integer reconstruction (asm/integer.ts). They are apart from the codec's module, so that recipes without
 * them do not carry them.
 *
 * @module
 */
import type { WasmBuild } from "./exports.ts";
import { instantiate, KernelModule, type ModuleExports } from "./kernel_module.ts";

/** Exports of the module. Pointers are byte addresses; see asm/integer/. */
export interface IntegerExports extends ModuleExports {
  /** Tokens of a product's tile, which their number is padded to a multiple of. */
  tokensAtOnce(): number;
  /** Chooses between the two ways of a relaxed build (asm/integer/dots.ts), which give the same sums. */
  setDots(on: boolean): void;
  packBasis(basis: number, components: number, features: number, to: number): void;
  packLevels(
    levels: number,
    components: number,
    tokens: number,
    low: number,
    high: number,
    lowRuns: number,
    highRuns: number,
    sums: number,
  ): void;
  multiply(
    tiles: number,
    tileDepth: number,
    depth: number,
    low: number,
    high: number,
    lowRuns: number,
    highRuns: number,
    sums: number,
    tokens: number,
    begin: number,
    end: number,
    out: number,
    stride: number,
  ): void;
  scaleRows(rows: number, tokens: number, stride: number, scales: number, tokenScales: number): void;
  scatter(
    src: number,
    stride: number,
    dtype: number,
    blocks: number,
    tokens: number,
    dim: number,
    rotaryDim: number,
    rotation: number,
    mean: number,
    dst: number,
  ): void;
}

/** The module's kernels. */
export class IntegerKernels extends KernelModule<IntegerExports> {
  /**
   * Instantiates a build, by default the best one that this engine runs.
   *
   * @throws {KvzBackendError} when the engine cannot run it.
   */
  static async open(build: WasmBuild | "auto" = "auto"): Promise<IntegerKernels> {
    const { build: chosen, exports } = await instantiate<IntegerExports>(
      async () => (await import("./bytes/integer.ts")).integer,
      build,
      "reconstruct",
    );
    return new IntegerKernels(chosen, exports);
  }
}
