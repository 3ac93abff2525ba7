/** Rows times a block of the sensitivity: the same bits in every build as in plain TypeScript. */
import { assertEquals } from "deno-std/assert";
import fc from "fast-check";
import { createWasmBackend } from "../../../src/backend/wasm/create.ts";
import { ReferenceBackend } from "../../../src/backend/reference/reference_backend.ts";
import { WASM_BUILDS } from "../../../src/backend/wasm/exports.ts";
import { multiplyReference, openBlockProduct } from "../../../src/profile/kvz/block_product.ts";

const products = await Promise.all(
  WASM_BUILDS.map(async (build) => [build, await openBlockProduct(await createWasmBackend({ build }))] as const),
);

Deno.test("every build gives the bits of plain TypeScript, any size", () => {
  const values = fc.float({ noNaN: true, noDefaultInfinity: true, min: -(2 ** 20), max: 2 ** 20 });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 40 }).chain((dim) =>
        fc.record({
          dim: fc.constant(dim),
          block: fc.float32Array({ minLength: dim * dim, maxLength: dim * dim, noNaN: true }),
          rows: fc.nat(3).chain((count) => fc.array(values, { minLength: count * dim, maxLength: count * dim })),
        })
      ),
      ({ dim, block, rows }) => {
        const x = Float32Array.from(rows);
        const wanted = new Uint32Array(multiplyReference(block, dim, x).buffer);
        for (const [build, multiply] of products) {
          const found = new Uint32Array(multiply(block, dim, x).buffer);
          // Infinities of a block give NaN, whose bits engines choose.
          found.forEach((bits, i) => {
            if (!isNaN32(bits) || !isNaN32(wanted[i])) assertEquals(bits, wanted[i], `${build}, ${dim}, ${i}`);
          });
        }
      },
    ),
    { numRuns: 200 },
  );
});

Deno.test("it is the product, block from the left", async () => {
  // Rows e₀ and e₁ + 2 e₂ give column 0 and column 1 + 2 · column 2.
  const block = Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9);
  const rows = Float32Array.of(1, 0, 0, 0, 1, 2);
  const wanted = Float32Array.of(1, 4, 7, 8, 17, 26);
  for (const [, multiply] of products) assertEquals(multiply(block, 3, rows), wanted);
  assertEquals((await openBlockProduct(new ReferenceBackend()))(block, 3, rows), wanted);
});

function isNaN32(bits: number): boolean {
  return (bits & 0x7fffffff) > 0x7f800000;
}
