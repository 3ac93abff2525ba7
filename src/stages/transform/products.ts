/**
 * Products of float32 matrices that round the same everywhere: every sum runs from the first to the last of its terms,
 * each product and each sum rounded to float32 by itself. In WebAssembly (asm/dense.ts) or, for the reference backend, in
 * plain TypeScript: the same bits.
 *
 * @module
 */
import type { Backend } from "../../backend/backend.ts";
import { DenseKernels } from "../../backend/wasm/dense_kernels.ts";
import { hostBuild } from "../../backend/host.ts";

/** A matrix [k][n] that rows are multiplied by. */
export interface RowProduct extends Disposable {
  /** Rows [rows][k] times the matrix: [rows][n]. */
  multiply(rows: Float32Array): Float32Array;
}

/** Makes products. */
export type ProductFactory = (matrix: Float32Array, k: number, n: number) => RowProduct;

/** Products on the host's kernels; in plain TypeScript on the reference backend. */
export async function openProducts(backend: Backend): Promise<ProductFactory> {
  const build = hostBuild(backend, "dense layers");
  if (build === null) return referenceProduct;
  const kernels = await DenseKernels.open(build);
  return (matrix, k, n) => kernels.product(matrix, k, n);
}

/** The definition. */
export function referenceProduct(matrix: Float32Array, k: number, n: number): RowProduct {
  return {
    multiply(rows) {
      const count = rows.length / k;
      const out = new Float32Array(count * n);
      for (let r = 0; r < count; r++) {
        for (let i = 0; i < k; i++) {
          const x = rows[r * k + i];
          // Storing rounds the sum; the product of two float32 is exact in float64 and has to be rounded first.
          for (let j = 0; j < n; j++) out[r * n + j] += Math.fround(x * matrix[i * n + j]);
        }
      }
      return out;
    },
    [Symbol.dispose]() {},
  };
}
