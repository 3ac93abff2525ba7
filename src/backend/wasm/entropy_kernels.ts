/**
 * The entropy coder's kernels (asm/entropy.ts): loading, and the memory they work on. They are apart from the codec's
 * module, so that recipes without them do not carry them.
 *
 * @module
 */
import type { WasmBuild } from "./exports.ts";
import { instantiate, KernelModule, type ModuleExports } from "./kernel_module.ts";

/** The rANS coder among the exports of a module. Pointers are byte addresses; see asm/entropy/. */
export interface RansExports extends ModuleExports {
  decodeTable(frequencies: number, bits: number, to: number): void;
  encodeTable(frequencies: number, to: number): void;
  tableIndices(
    symbols: number,
    rows: number,
    tokens: number,
    classes: number,
    kinds: number,
    next: number,
    states: number,
    to: number,
  ): void;
  decode(
    bytes: number,
    length: number,
    begin: number,
    end: number,
    rows: number,
    tokens: number,
    bits: number,
    tables: number,
    choice: number,
    classes: number,
    next: number,
    trellis: number,
    states: number,
    out: number,
  ): number;
  encode(
    symbols: number,
    rows: number,
    tokens: number,
    bits: number,
    tables: number,
    tableOf: number,
    indices: number,
    kinds: number,
    states: number,
    end: number,
  ): number;
}

/** A module with the rANS coder: coders of one thread share its memory. */
export type RansKernels = KernelModule<RansExports>;

/** Exports of the module. Pointers are byte addresses; see asm/entropy/. */
export interface EntropyExports extends RansExports {
  escape(
    levels: number,
    rows: number,
    tokens: number,
    tableOf: number,
    classes: number,
    kinds: number,
    next: number,
    limits: number,
    states: number,
    symbols: number,
    escapes: number,
  ): number;
  unescape(
    symbols: number,
    escapes: number,
    end: number,
    rows: number,
    tokens: number,
    tableOf: number,
    classes: number,
    kinds: number,
    next: number,
    limits: number,
    states: number,
    levels: number,
  ): number;
}

/** The module's kernels. */
export class EntropyKernels extends KernelModule<EntropyExports> {
  /**
   * Instantiates a build, by default the best one that this engine runs.
   *
   * @throws {KvzBackendError} when the engine cannot run it, or may not compile WebAssembly from bytes (edge runtimes).
   */
  static async open(build: WasmBuild | "auto" = "auto"): Promise<EntropyKernels> {
    const { build: chosen, exports } = await instantiate<EntropyExports>(
      async () => (await import("./bytes/entropy.ts")).entropy,
      build,
      "code symbols",
    );
    return new EntropyKernels(chosen, exports);
  }
}
