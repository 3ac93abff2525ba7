import { assert, assertEquals } from "deno-std/assert";
import fc from "fast-check";
import { WASM_BUILDS } from "../../src/backend/wasm/exports.ts";
import { supportsBuild } from "../../src/backend/wasm/detect.ts";
import { DenseKernels } from "../../src/backend/wasm/dense_kernels.ts";
import { referenceProduct } from "../../src/stages/transform/products.ts";
import { random } from "../synthetic.ts";

Deno.test("products: every build gives the reference's bits, whatever the sizes", async () => {
  for (const build of WASM_BUILDS.filter(supportsBuild)) {
    const kernels = await DenseKernels.open(build);
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 23 }),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 21 }),
        fc.nat(),
        (rows, k, n, seed) => {
          const next = random(seed);
          const [a, b] = [rows * k, k * n].map((length) => new Float32Array(length).map(() => next() - 0.5));
          const product = kernels.product(b, k, n);
          assertEquals(product.multiply(a), referenceProduct(b, k, n).multiply(a));
          product[Symbol.dispose]();
        },
      ),
      { numRuns: 60 },
    );
    assertEquals(kernels.bytesInUse, 0);
  }
});

Deno.test("products: many rows go through in slices, and sums are sums", async () => {
  const kernels = await DenseKernels.open();
  const [rows, k, n] = [9000, 64, 66];
  const next = random(2);
  const [a, b] = [rows * k, k * n].map((length) => new Float32Array(length).map(() => next() - 0.5));
  const out = kernels.product(b, k, n).multiply(a);
  for (const r of [0, 1, 4095, 7943, 8999]) {
    for (const j of [0, 65]) {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += a[r * k + i] * b[i * n + j];
      assert(Math.abs(out[r * n + j] - sum) < 1e-5);
    }
  }
});
