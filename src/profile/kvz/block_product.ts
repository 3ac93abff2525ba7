/**
 * Rows times a block of the sensitivity, float64 sums in order: the same bits in plain TypeScript and in every build.
 *
 * @module
 */
import type { Backend } from "../../backend/backend.ts";
import { hostBuild } from "../../backend/host.ts";
import { IntegerKernels } from "../../backend/wasm/integer_kernels.ts";

/** out[r][i] = Σ_j block[i][j] · rows[r][j], float32 of a float64 sum; block [dim][dim], rows [any number][dim]. */
export type BlockProduct = (block: Float32Array, dim: number, rows: Float32Array) => Float32Array;

/**
 * The product in the WebAssembly build that serves a backend, in plain TypeScript for the reference.
 *
 * @throws {KvzBackendError} when the kernels cannot be had.
 */
export async function openBlockProduct(backend: Backend): Promise<BlockProduct> {
  const build = hostBuild(backend, "forward matrix");
  if (build === null) return multiplyReference;
  const kernels = await IntegerKernels.open(build);
  return (block, dim, rows) =>
    kernels.scoped((alloc) => {
      const transposed = new Float64Array(block.length);
      for (let i = 0; i < dim; i++) for (let j = 0; j < dim; j++) transposed[j * dim + i] = block[i * dim + j];
      const [left, right, out] = [transposed.byteLength, rows.byteLength, rows.byteLength].map(alloc);
      kernels.write(left, transposed);
      kernels.write(right, rows);
      kernels.exports.multiplyBlock(left, dim, right, rows.length / dim, out);
      const product = new Float32Array(rows.length);
      kernels.read(out, product);
      return product;
    });
}

/** {@linkcode BlockProduct} in plain TypeScript. */
export function multiplyReference(block: Float32Array, dim: number, rows: Float32Array): Float32Array {
  const out = new Float32Array(rows.length);
  for (let row = 0; row < rows.length; row += dim) {
    for (let i = 0; i < dim; i++) {
      let sum = 0;
      for (let j = 0; j < dim; j++) sum += block[i * dim + j] * rows[row + j];
      out[row + i] = sum;
    }
  }
  return out;
}
