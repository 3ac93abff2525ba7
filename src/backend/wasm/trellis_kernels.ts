/**
 * The kernels of prediction and trellis-coded quantization (asm/trellis.ts): loading, and the memory they work on. They
 * are apart from the codec's module, so that recipes without them do not carry them.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { detectBuild, supportsBuild } from "./detect.ts";
import type { WasmBuild } from "./exports.ts";
import { inflateBuild } from "./inflate.ts";
import { WasmAllocator } from "./memory.ts";

/** Exports of the module. Pointers are byte addresses; `work` is that of a table in the order of asm/trellis/work.ts. */
export interface TrellisExports {
  readonly memory: WebAssembly.Memory;
  heapBase(): number;
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

/** One instance of the kernels with its own memory. */
export class TrellisKernels {
  readonly build: WasmBuild;
  readonly exports: TrellisExports;
  readonly #allocator: WasmAllocator;

  private constructor(build: WasmBuild, exports: TrellisExports) {
    this.build = build;
    this.exports = exports;
    this.#allocator = new WasmAllocator(exports.memory, exports.heapBase());
  }

  /**
   * Instantiates a build, by default the best one that this engine runs.
   *
   * @throws {KvzBackendError} when the engine cannot run it, or may not compile WebAssembly from bytes (edge runtimes).
   */
  static async open(build: WasmBuild | "auto" = "auto"): Promise<TrellisKernels> {
    const chosen = build === "auto" ? detectBuild() : supportsBuild(build) ? build : null;
    if (chosen === null) {
      const what = build === "auto" ? "WebAssembly" : `the ${build} build of the kernels`;
      throw new KvzBackendError(`Cannot quantize: this engine does not run ${what}`);
    }
    // Imported when needed, so that recipes without it do not carry it.
    const bytes = await inflateBuild((await import("./bytes/trellis.ts")).trellis, chosen);
    try {
      const { instance } = await WebAssembly.instantiate(bytes);
      return new TrellisKernels(chosen, instance.exports as unknown as TrellisExports);
    } catch (cause) {
      throw new KvzBackendError("Cannot quantize: this runtime does not compile the trellis kernels", { cause });
    }
  }

  /** Bytes of memory in use. */
  get bytesInUse(): number {
    return this.#allocator.used;
  }

  /**
   * Runs `body` with blocks, aligned to 64 bytes and with undefined contents, that are given back when it returns or
   * throws.
   *
   * @throws {KvzLimitError} when the module's 4 GiB do not hold them.
   */
  scoped<T>(body: (alloc: (byteLength: number) => number) => T): T {
    const blocks: number[] = [];
    try {
      return body((byteLength) => {
        const address = this.#allocator.alloc(Math.max(1, byteLength));
        blocks.push(address);
        return address;
      });
    } finally {
      for (const address of blocks) this.#allocator.free(address);
    }
  }

  /** A view of memory. It ends with the next allocation. */
  bytes(address: number, byteLength: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.exports.memory.buffer as ArrayBuffer, address, byteLength);
  }

  /** Copies an array into memory. */
  write(address: number, source: ArrayBufferView): void {
    const { buffer, byteOffset, byteLength } = source;
    this.bytes(address, byteLength).set(new Uint8Array(buffer, byteOffset, byteLength));
  }

  /** Copies memory out into a new array. */
  read<T extends ArrayBufferView>(address: number, into: T): T {
    const { buffer, byteOffset, byteLength } = into;
    new Uint8Array(buffer, byteOffset, byteLength).set(this.bytes(address, byteLength));
    return into;
  }
}
