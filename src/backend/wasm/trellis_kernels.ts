/**
 * The kernels of prediction and trellis-coded quantization (asm/trellis.ts): loading, and the memory they work on. They
 * are apart from the codec's module, so that recipes without them do not carry them.
 *
 * @module
 */
import type { WasmBuild } from "./exports.ts";
import { instantiate, KernelModule, type ModuleExports } from "./kernel_module.ts";

/** Exports of the module. Pointers are byte addresses; `work` is that of a table in the order of asm/trellis/work.ts. */
export interface TrellisExports extends ModuleExports {
  predictTokens(work: number, begin: number, end: number): void;
  quantizeTokens(work: number, begin: number, end: number): void;
  chooseEnergies(work: number, begin: number, end: number): void;
  rememberStates(work: number): void;
  chooseOffsets(work: number): void;
  decodeTrellis(
    levels: number,
    components: number,
    tokens: number,
    rho32: number,
    refs: number,
    modes: number,
    states: number,
    out: number,
  ): number;
  transpose16(from: number, rows: number, columns: number, to: number, stride: number): void;
  transpose32(from: number, rows: number, columns: number, to: number, stride: number): void;
}

/** The module's kernels. */
export class TrellisKernels extends KernelModule<TrellisExports> {
  /**
   * Instantiates a build, by default the best one that this engine runs.
   *
   * @throws {KvzBackendError} when the engine cannot run it.
   */
  static async open(build: WasmBuild | "auto" = "auto"): Promise<TrellisKernels> {
    const { build: chosen, exports } = await instantiate<TrellisExports>(
      async () => (await import("./bytes/trellis.ts")).trellis,
      build,
      "quantize",
    );
    return new TrellisKernels(chosen, exports);
  }
}
