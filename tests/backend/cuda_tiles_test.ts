/**
 * Every tile of the products' kernels, whatever the device would choose: a large GPU takes the smallest for all that tests
 * can afford.
 *
 * @module
 */
import { assert, assertEquals } from "deno-std/assert";
import { paddedLength } from "../../src/backend/backend.ts";
import type { CudaBackend } from "../../src/backend/cuda/cuda_backend.ts";
import { CudaGemm, type Order, type Product } from "../../src/backend/cuda/gemm.ts";
import { CudaInteger } from "../../src/backend/cuda/integer.ts";
import { createBackend } from "../../src/backend/select.ts";
import { f16ToNumber, numberToF16 } from "../../src/cache/elements.ts";
import { BACKENDS, dirty, firstDifference, generator, readFloats, uniform, upload } from "./backends.ts";

function testCuda(name: string, test: (backend: CudaBackend) => Promise<void>): void {
  if (!BACKENDS.some(([label]) => label === "cuda")) return;
  Deno.test(`cuda: ${name}`, async () => {
    using backend = await createBackend({ backend: "cuda" }) as CudaBackend;
    await test(backend);
  });
}

/** Beyond one tile of every size in rows and columns, and several tiles deep; columns with and without padding. */
const SIZES = [[150, 280, 200], [129, 259, 72], [3, 9, 8]] as const;

testCuda("every tile of the products gives the same bits, near float64", async (backend) => {
  for (const [i, [m, n, k]] of SIZES.entries()) {
    const halves = Uint16Array.from(uniform(m * k, i), numberToF16);
    const values = Float32Array.from(halves, f16ToNumber);
    for (const order of ["ByRows", "ByColumns"] as const satisfies readonly Order[]) {
      const ldb = order === "ByRows" ? k : paddedLength(n);
      const b = Uint16Array.from(uniform((order === "ByRows" ? n : k) * ldb, 10 + i), numberToF16);
      const basis = upload(backend, b);
      const product: Product = {
        a: upload(backend, halves),
        lda: k,
        b: backend.device.address(basis),
        ldb,
        c: dirty(backend, m * paddedLength(n) * 4),
        m,
        n,
        k,
        limit: order === "ByRows" ? n : ldb,
      };
      const wide = upload(backend, values);
      const results: Float32Array[] = [];
      for (const tile of [256, 128, 64]) {
        const gemm = new CudaGemm(backend.device, null, tile);
        const c = dirty(backend, m * paddedLength(n) * 4);
        gemm.halves(order, { ...product, c }, 2);
        results.push(await readFloats(backend, c));
        if (tile === 256) continue;
        const d = dirty(backend, m * paddedLength(n) * 4);
        gemm.floats(order, { ...product, a: wide, c: d });
        results.push((await readFloats(backend, d)).map((value) => 2 * value));
      }
      const [of256, of128, floats128, of64, floats64] = results;
      assertEquals(firstDifference(of128, of256), -1, `tile 128, ${order}, ${SIZES[i]}`);
      assertEquals(firstDifference(of64, of256), -1, `tile 64, ${order}, ${SIZES[i]}`);
      assertEquals(firstDifference(floats64, floats128), -1, `floats, ${order}, ${SIZES[i]}`);
      for (const [kind, found] of [["halves", of256], ["floats", floats128]] as const) {
        for (let t = 0; t < m; t++) {
          for (let j = 0; j < paddedLength(n); j++) {
            let [sum, weight] = [0, 0];
            for (let d = 0; d < (j < n ? k : 0); d++) {
              const term = 2 * values[t * k + d] * f16ToNumber(b[order === "ByRows" ? j * ldb + d : d * ldb + j]);
              sum += term;
              weight += Math.abs(term);
            }
            const error = Math.abs(found[t * paddedLength(n) + j] - sum);
            const bound = (k + 1) * weight * (kind === "halves" ? 2 ** -22 : 2 ** -24);
            assert(error <= bound, `${kind} ${order} [${t}][${j}] of ${SIZES[i]} is off by ${error}, at most ${bound}`);
          }
        }
      }
    }
  }
});

testCuda("every tile of the integer products is exact", async (backend) => {
  const [tokens, components, features, stride] = [150, 200, 280, 208];
  const next = generator(5);
  const basis = Int8Array.from({ length: components * features }, () => Math.floor(next() * 127) - 63);
  const levels = Int16Array.from({ length: tokens * stride }, (_, i) => {
    // High bytes in the second tile of the depth only, and of some tokens only.
    const most = i % stride === 70 && i < 100 * stride ? 32639 : 127;
    return i % stride < components ? Math.round((next() * 2 - 1) * most) : 0;
  });
  const wanted = new Int32Array(tokens * features);
  for (let t = 0; t < tokens; t++) {
    for (let c = 0; c < components; c++) {
      const level = levels[t * stride + c];
      for (let f = 0; f < features; f++) wanted[t * features + f] += level * basis[c * features + f];
    }
  }
  const on = upload(backend, levels);
  for (const tile of [256, 128, 64]) {
    const integer = new CudaInteger(backend.device, tile);
    const uploaded = integer.uploadBasis(basis, components, features);
    const sums = dirty(backend, tokens * features * 4);
    integer.multiply(uploaded, on, stride, tokens, 0, features, sums);
    const found = new Int32Array((await backend.read(sums)).buffer);
    assertEquals(firstDifference(found, wanted), -1, `tile ${tile}`);
  }
});
