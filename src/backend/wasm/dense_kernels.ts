/**
 * The kernels of float32 products (asm/dense.ts), for recipes that rotate heads or restore them from factors.
 *
 * @module
 */
import type { WasmBuild } from "./exports.ts";
import { instantiate, KernelModule, type ModuleExports } from "./kernel_module.ts";

/** Exports of the module. Pointers are byte addresses. */
export interface DenseExports extends ModuleExports {
  multiply(a: number, rows: number, k: number, b: number, n: number, c: number): void;
}

/** Elements of the rows and of the result that lie in the kernels' memory at a time. */
const SLICE = 1 << 19;

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
      "multiply",
    );
    return new DenseKernels(chosen, exports);
  }

  /** Products by a matrix [k][n], which stays in the kernels' memory until it is disposed. */
  product(
    matrix: Float32Array,
    k: number,
    n: number,
  ): { multiply(rows: Float32Array): Float32Array; [Symbol.dispose](): void } {
    const width = Math.ceil(n / 4) * 4;
    const padded = new Float32Array(k * width);
    for (let i = 0; i < k; i++) padded.set(matrix.subarray(i * n, (i + 1) * n), i * width);
    const b = this.alloc(padded.byteLength);
    this.write(b, padded);
    return {
      multiply: (rows) => this.#multiply(rows, k, b, n, width),
      [Symbol.dispose]: () => this.free(b),
    };
  }

  #multiply(rows: Float32Array, k: number, b: number, n: number, width: number): Float32Array {
    const count = rows.length / k;
    const out = new Float32Array(count * n);
    const step = Math.max(4, Math.floor(SLICE / Math.max(k, width)) & ~3);
    this.scoped((alloc) => {
      const a = alloc(Math.min(step, count) * k * 4);
      const c = alloc(Math.min(step, count) * width * 4);
      const slice = new Float32Array(width === n ? 0 : step * width);
      for (let r = 0; r < count; r += step) {
        const some = Math.min(step, count - r);
        this.write(a, rows.subarray(r * k, (r + some) * k));
        this.exports.multiply(a, some, k, b, width, c);
        if (width === n) {
          this.read(c, out.subarray(r * n, (r + some) * n));
          continue;
        }
        this.read(c, slice.subarray(0, some * width));
        for (let i = 0; i < some; i++) out.set(slice.subarray(i * width, i * width + n), (r + i) * n);
      }
    });
    return out;
  }
}
