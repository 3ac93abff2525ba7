/**
 * A module of kernels beside the codec's: loading, and the memory that it works on. Recipes load the modules they use;
 * coders of one thread share an instance.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { detectBuild, supportsBuild } from "./detect.ts";
import type { WasmBuild } from "./exports.ts";
import { inflateBuild, type InlinedModule } from "./inflate.ts";
import { WasmAllocator } from "./memory.ts";

/** What every module exports. */
export interface ModuleExports {
  readonly memory: WebAssembly.Memory;
  heapBase(): number;
}

/** One instance of a module with its own memory. */
export class KernelModule<Exports extends ModuleExports> {
  readonly build: WasmBuild;
  readonly exports: Exports;
  readonly #allocator: WasmAllocator;

  /** @ignore use the `open` of a module */
  constructor(build: WasmBuild, exports: Exports) {
    this.build = build;
    this.exports = exports;
    this.#allocator = new WasmAllocator(exports.memory, exports.heapBase());
  }

  /** Bytes of memory in use. */
  get bytesInUse(): number {
    return this.#allocator.used;
  }

  /**
   * Takes memory, aligned to 64 bytes, contents undefined. It stays until {@linkcode free}.
   *
   * @throws {KvzLimitError} when the module's 4 GiB do not hold it.
   */
  alloc(byteLength: number): number {
    return this.#allocator.alloc(Math.max(1, byteLength));
  }

  /** Gives memory back. */
  free(address: number): void {
    this.#allocator.free(address);
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

  /** A view of memory. It ends with the next allocation. */
  bytes(address: number, byteLength: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.exports.memory.buffer as ArrayBuffer, address, byteLength);
  }

  /** Copies an array into memory. */
  write(address: number, source: ArrayBufferView): void {
    const { buffer, byteOffset, byteLength } = source;
    this.bytes(address, byteLength).set(new Uint8Array(buffer, byteOffset, byteLength));
  }

  /** Copies memory out into an array. */
  read<T extends ArrayBufferView>(address: number, into: T): T {
    const { buffer, byteOffset, byteLength } = into;
    new Uint8Array(buffer, byteOffset, byteLength).set(this.bytes(address, byteLength));
    return into;
  }
}

/**
 * Instantiates a build of a module, by default the best one that this engine runs.
 *
 * @param load imports the inlined module; given as a function, so that only what is used is loaded
 * @param purpose what the module is for, in messages
 * @throws {KvzBackendError} when the engine cannot run it, or may not compile WebAssembly from bytes (edge runtimes).
 */
export async function instantiate<Exports extends ModuleExports>(
  load: () => Promise<InlinedModule>,
  build: WasmBuild | "auto",
  purpose: string,
): Promise<{ build: WasmBuild; exports: Exports }> {
  const chosen = build === "auto" ? detectBuild() : supportsBuild(build) ? build : null;
  if (chosen === null) {
    const what = build === "auto" ? "WebAssembly" : `the ${build} build of the kernels`;
    throw new KvzBackendError(`Cannot ${purpose}: this engine does not run ${what}`);
  }
  const bytes = await inflateBuild(await load(), chosen);
  try {
    const { instance } = await WebAssembly.instantiate(bytes);
    return { build: chosen, exports: instance.exports as unknown as Exports };
  } catch (cause) {
    throw new KvzBackendError(`Cannot ${purpose}: this runtime does not compile its kernels`, { cause });
  }
}
