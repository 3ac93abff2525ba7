/**
 * The entropy coder's kernels (asm/entropy.ts): loading, and the memory they work on. They are apart from the codec's
 * module, so that recipes without them do not carry them.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { detectBuild, supportsBuild } from "./detect.ts";
import type { WasmBuild } from "./exports.ts";
import { inflateBuild } from "./inflate.ts";
import { WasmAllocator } from "./memory.ts";

/** Exports of the module. Pointers are byte addresses; see asm/entropy/. */
export interface EntropyExports {
  readonly memory: WebAssembly.Memory;
  heapBase(): number;
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

/** One instance of the kernels with its own memory. Coders of one thread share it. */
export class EntropyKernels {
  readonly build: WasmBuild;
  readonly exports: EntropyExports;
  readonly #allocator: WasmAllocator;

  private constructor(build: WasmBuild, exports: EntropyExports) {
    this.build = build;
    this.exports = exports;
    this.#allocator = new WasmAllocator(exports.memory, exports.heapBase());
  }

  /**
   * Instantiates a build, by default the best one that this engine runs.
   *
   * @throws {KvzBackendError} when the engine cannot run it, or may not compile WebAssembly from bytes (edge runtimes).
   */
  static async open(build: WasmBuild | "auto" = "auto"): Promise<EntropyKernels> {
    const chosen = build === "auto" ? detectBuild() : supportsBuild(build) ? build : null;
    if (chosen === null) {
      const what = build === "auto" ? "WebAssembly" : `the ${build} build of the kernels`;
      throw new KvzBackendError(`Cannot code symbols: this engine does not run ${what}`);
    }
    // Imported when needed, so that recipes without it do not carry it.
    const bytes = await inflateBuild((await import("./bytes/entropy.ts")).entropy, chosen);
    try {
      const { instance } = await WebAssembly.instantiate(bytes);
      return new EntropyKernels(chosen, instance.exports as unknown as EntropyExports);
    } catch (cause) {
      throw new KvzBackendError("Cannot code symbols: this runtime does not compile the entropy kernels", { cause });
    }
  }

  /**
   * Takes memory, aligned to 64 bytes, contents undefined. It stays until {@linkcode free}.
   *
   * @throws {KvzLimitError} when the module's 4 GiB do not hold it.
   */
  alloc(byteLength: number): number {
    return this.#allocator.alloc(byteLength);
  }

  /** Gives memory back. */
  free(address: number): void {
    this.#allocator.free(address);
  }

  /** Bytes of memory in use. */
  get bytesInUse(): number {
    return this.#allocator.used;
  }

  /** Runs `body` with blocks that are given back when it returns or throws. */
  scoped<T>(body: (alloc: (byteLength: number) => number) => T): T {
    const blocks: number[] = [];
    try {
      return body((byteLength) => {
        const address = this.alloc(byteLength);
        blocks.push(address);
        return address;
      });
    } finally {
      for (const address of blocks) this.free(address);
    }
  }

  /** A view of memory. It ends with the next {@linkcode alloc}. */
  bytes(address: number, byteLength: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.exports.memory.buffer as ArrayBuffer, address, byteLength);
  }

  /** Copies an array into memory. */
  write(address: number, source: Uint8Array | Uint16Array | Int32Array): void {
    const { buffer, byteOffset, byteLength } = source;
    this.bytes(address, byteLength).set(new Uint8Array(buffer, byteOffset, byteLength));
  }
}
