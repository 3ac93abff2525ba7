import { assert, assertAlmostEquals, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { dequantize, ggmlType, ggmlTypeId, hadamardBlock, quantize, rowBytes } from "../../src/adapters/ggml_types.ts";
import { KvzUnsupportedError } from "../../src/errors.ts";
import { hadamard } from "../../src/stages/transform/hadamard.ts";
import golden from "./ggml_golden.json" with { type: "json" };

type Golden = Record<string, { row: number[] } & Record<"q8_0" | "q4_0", { bytes: string; values: number[] }>>;

for (const [name, wanted] of Object.entries(golden as unknown as Golden)) {
  Deno.test(`ggml: "${name}" is quantized and dequantized as by the gguf package`, () => {
    for (const type of ["q8_0", "q4_0"] as const) {
      const bytes = quantize(Float32Array.from(wanted.row), type);
      assertEquals(Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(""), wanted[type].bytes);
      assertEquals(dequantize(bytes, type), Float32Array.from(wanted[type].values));
    }
  });
}

Deno.test("ggml: what was dequantized is quantized to the same bytes again", () => {
  // Below 4e-6 scales underflow to zero and leave codes behind that mean nothing.
  const magnitude = fc.float({ noNaN: true, min: Math.fround(1e-4), max: 1000 });
  const value = fc.oneof(fc.constant(0), magnitude, magnitude.map((x) => -x));
  fc.assert(
    fc.property(
      fc.array(value, { minLength: 64, maxLength: 64 }),
      fc.constantFrom("q8_0" as const, "q4_0" as const),
      (row, type) => {
        const bytes = quantize(Float32Array.from(row), type);
        assertEquals(quantize(dequantize(bytes, type), type), bytes);
      },
    ),
    { numRuns: 500 },
  );
});

Deno.test("ggml: the Hadamard transform is the matrix (−1)^popcount(i & j) / √n, and its own inverse", () => {
  fc.assert(
    fc.property(fc.constantFrom(64, 128, 256), fc.integer({ min: 1, max: 3 }), fc.integer(), (n, blocks, seed) => {
      const x = Float32Array.from({ length: n * blocks }, (_, i) => Math.sin(i * 1.3 + seed % 100));
      const y = x.slice();
      hadamard(y, n);
      for (const i of [0, 1, n - 1]) {
        for (let b = 0; b < blocks; b++) {
          let sum = 0;
          for (let j = 0; j < n; j++) {
            const parity = (i & j).toString(2).split("1").length - 1;
            sum += (parity % 2 ? -1 : 1) * x[b * n + j];
          }
          assertAlmostEquals(y[b * n + i], sum / Math.sqrt(n), 1e-5);
        }
      }
      hadamard(y, n);
      y.forEach((value, i) => assertAlmostEquals(value, x[i], 1e-6));
    }),
  );
});

Deno.test("ggml: Hadamard blocks are 64 for values, the largest 64 · 2^k for keys, none for other heads", () => {
  assertEquals([64, 80, 96, 128, 192, 256, 320].map((dim) => hadamardBlock("key", dim)), [64, 0, 0, 128, 64, 256, 64]);
  assertEquals([64, 80, 96, 128, 192, 256, 320].map((dim) => hadamardBlock("value", dim)), [64, 0, 0, 64, 64, 64, 64]);
});

Deno.test("ggml: types have ids, names and row sizes", () => {
  for (
    const [id, type, bytes] of [[0, "f32", 256], [1, "f16", 128], [30, "bf16", 128], [8, "q8_0", 68], [
      2,
      "q4_0",
      36,
    ]] as const
  ) {
    assertEquals(ggmlType(id), type);
    assertEquals(ggmlTypeId(type), id);
    assertEquals(rowBytes(type, 64), bytes);
  }
  assert(Number.isNaN(rowBytes("q8_0", 48)));
  assertThrows(() => ggmlType(3), KvzUnsupportedError, "element type q4_1 is not supported");
  assertThrows(() => ggmlType(-7), KvzUnsupportedError, "element type -7 is not supported");
});
