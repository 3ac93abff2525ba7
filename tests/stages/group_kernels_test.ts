import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { createBackend } from "../../src/backend/select.ts";
import { supportsBuild } from "../../src/backend/wasm/detect.ts";
import { WASM_BUILDS } from "../../src/backend/wasm/exports.ts";
import { GroupsModule } from "../../src/backend/wasm/group_kernels.ts";
import { KvzLimitError } from "../../src/errors.ts";
import { f16ToNumber } from "../../src/cache/elements.ts";
import { dequantizeBlocks, quantizeBlocks } from "../../src/stages/quantize/ggml_blocks.ts";
import { type GroupKernels, openGroups } from "../../src/stages/quantize/group_kernels.ts";
import { dequantizeGroups, type GroupShape, paramCount, quantizeGroups } from "../../src/stages/quantize/uniform.ts";
import { hadamard } from "../../src/stages/transform/hadamard.ts";
import { casesFor } from "../cases.ts";
import { BACKENDS, firstDifference, generator, uniform } from "../backend/backends.ts";

/** Numbers of sizes from 2^-spread to 2^spread, zeros of both signs among them. */
function numbers(length: number, seed: number, spread: number): Float32Array {
  const next = generator(seed);
  return Float32Array.from({ length }, () => {
    const kind = next();
    if (kind < 0.1) return kind < 0.05 ? 0 : -0;
    return (2 * next() - 1) * 2 ** Math.floor(spread * (2 * next() - 1));
  });
}

const shapes = fc.oneof(
  fc.record({
    outer: fc.integer({ min: 0, max: 5 }),
    length: fc.integer({ min: 1, max: 40 }),
    inner: fc.constantFrom(1, 1, 2, 4, 7, 16, 30),
    group: fc.integer({ min: 1, max: 40 }),
    rotated: fc.constant(false),
  }),
  // Of those that GPUs take.
  fc.record({
    outer: fc.integer({ min: 1, max: 70 }),
    length: fc.constantFrom(4, 36, 64, 100),
    inner: fc.constantFrom(1, 4, 12, 64),
    group: fc.constantFrom(4, 32, 64),
    rotated: fc.constant(false),
  }),
  fc.integer({ min: 2, max: 11 }).chain((log) =>
    fc.record({
      outer: fc.integer({ min: 1, max: 40 }),
      length: fc.constant(1 << log),
      inner: fc.constant(1),
      group: fc.constantFrom(1 << log, 32),
      rotated: fc.constant(true),
    })
  ),
  fc.integer({ min: 0, max: 8 }).chain((log) =>
    fc.record({
      outer: fc.integer({ min: 0, max: 5 }),
      length: fc.constant(1 << log),
      inner: fc.constant(1),
      group: fc.constantFrom(1 << log, 5),
      rotated: fc.constant(true),
    })
  ),
);
const anyGroups = fc.record({
  where: shapes,
  bits: fc.integer({ min: 1, max: 8 }),
  leastRange: fc.constantFrom(0, 1e-5),
  spread: fc.constantFrom(0, 4, 14, 40, 130),
  constant: fc.boolean(),
  seed: fc.nat({ max: 1 << 20 }),
});

async function checkGroups(kernels: GroupKernels, numRuns: number): Promise<void> {
  await fc.assert(
    fc.asyncProperty(anyGroups, async ({ where, bits, leastRange, spread, constant, seed }) => {
      const shape: GroupShape = { ...where, bits, leastRange };
      const x = numbers(shape.outer * shape.length * shape.inner, seed, spread);
      if (constant) x.fill(x[0] ?? 0);
      const wanted = quantizeGroups(x.slice(), shape);
      const found = await kernels.quantize(x, shape);
      // What is not finite is refused, NaN may have either sign, and codes are anything.
      const special = (half: number) => (half & 0x7c00) === 0x7c00;
      const finite = (params: Uint16Array) =>
        params.map((half, i) => special(half) || special(params[i ^ 1]) ? 0x7c00 : half);
      assertEquals(firstDifference(finite(found.params), finite(wanted.params)), -1);
      if (finite(wanted.params).includes(0x7c00)) return;
      assertEquals(firstDifference(found.codes, wanted.codes), -1);
      assertEquals(firstDifference(await kernels.dequantize(wanted, shape), dequantizeGroups(wanted, shape)), -1);
    }),
    { numRuns },
  );
}

for (const build of WASM_BUILDS.filter(supportsBuild)) {
  Deno.test(`groups, ${build}: codes, scales and restored values are the reference's, whatever the shape`, async () => {
    const kernels = await GroupsModule.open(build);
    await checkGroups(kernels.groups, casesFor(300));
    assertEquals(kernels.bytesInUse, 0);
  });

  Deno.test(`groups, ${build}: many rows go in slices`, async () => {
    const { groups } = await GroupsModule.open(build);
    for (const [outer, length, inner, group] of [[5000, 128, 1, 128], [3, 2000, 64, 32]]) {
      const shape: GroupShape = { outer, length, inner, group, bits: 4, leastRange: 0, rotated: false };
      const x = uniform(outer * length * inner, 1, 9);
      const [found, wanted] = [await groups.quantize(x, shape), quantizeGroups(x, shape)];
      assertEquals(firstDifference(found.codes, wanted.codes), -1);
      assertEquals(firstDifference(found.params, wanted.params), -1);
      assertEquals(firstDifference(await groups.dequantize(found, shape), dequantizeGroups(wanted, shape)), -1);
    }
  });

  Deno.test(`groups, ${build}: ggml's blocks are the reference's bytes, and back`, async () => {
    const { blocks } = await GroupsModule.open(build);
    const values = fc.record({
      n: fc.integer({ min: 0, max: 9 }),
      spread: fc.constantFrom(0, 3, 15, 130),
      seed: fc.nat(),
    });
    fc.assert(
      fc.property(values, ({ n, spread, seed }) => {
        const x = numbers(32 * n, seed, spread);
        // Middles between codes of q8_0: 127 is the largest, whose scale is 1.
        if (n > 1) x.set(Float32Array.from({ length: 32 }, (_, i) => i === 0 ? 127 : i * 3.5 - 50));
        for (const type of ["q8_0", "q4_0"] as const) {
          const wanted = quantizeBlocks(x, type);
          assertEquals(firstDifference(blocks.quantize(x, type), wanted), -1);
          if (spread < 100) {
            assertEquals(firstDifference(blocks.dequantize(wanted, type), dequantizeBlocks(wanted, type)), -1);
          }
        }
      }),
      { numRuns: casesFor(150) },
    );
    const many = uniform(32 * 20_000, 3);
    assertEquals(firstDifference(blocks.quantize(many, "q4_0"), quantizeBlocks(many, "q4_0")), -1);
  });
}

for (const [label, options] of BACKENDS) {
  Deno.test(`${label}: the quantizer of groups gives the reference's bits`, async () => {
    using backend = await createBackend(options);
    if (backend.gpu !== null && !await backend.gpu.groups!.exact()) console.error(`${label}: the host computes groups`);
    await checkGroups(await openGroups(backend), casesFor(80));
  });
}

for (const [label, options] of BACKENDS.filter(([label]) => label === "cuda" || label === "webgpu")) {
  Deno.test(`${label}: groups that the kernels do not take are refused`, async () => {
    using backend = await createBackend(options);
    const kernels = backend.gpu!.groups!;
    const [long, short] = [backend.alloc(4096), backend.alloc(16)];
    const shape: GroupShape = { outer: 2, length: 64, inner: 1, group: 64, bits: 4, leastRange: 0, rotated: true };
    for (const change of [{ length: 62 }, { group: 6 }, { inner: 3 }, { inner: 4 }, { length: 4096 }]) {
      assertThrows(() => kernels.quantize(long, { ...shape, ...change }, long, long), RangeError, "multiples of 4");
    }
    // No buffer of this size is made: the check comes first.
    const huge = { byteLength: 2 ** 50, free() {} };
    for (const outer of [2 ** 26, 2 ** 26 - 1]) {
      assertThrows(() => kernels.quantize(huge, { ...shape, outer }, huge, huge), KvzLimitError, "go in a call");
      assertThrows(() => kernels.dequantize(huge, huge, { ...shape, outer }, huge), KvzLimitError, "go in a call");
    }
    assertThrows(() => kernels.quantize(short, shape, long, long), RangeError, '"x" has 16 bytes');
    assertThrows(() => kernels.quantize(long, shape, short, long), RangeError, '"codes" has 16 bytes');
    assertThrows(() => kernels.dequantize(long, backend.alloc(4), shape, long), RangeError, '"params" has 4 bytes');
  });
}

Deno.test("groups: restored values are those of float64 within half a step, rotation and parameters' rounding", async () => {
  using backend = await createBackend({ backend: "wasm" });
  const kernels = await openGroups(backend);
  for (const [bits, length, rotated] of [[2, 32, false], [4, 64, true], [8, 128, true], [3, 128, false]] as const) {
    const shape: GroupShape = { outer: 50, length, inner: 1, group: length, bits, leastRange: 1e-5, rotated };
    const x = uniform(50 * length, bits, 6);
    const coded = await kernels.quantize(x.slice(), shape);
    const back = await kernels.dequantize(coded, { ...shape, rotated: false });
    assertEquals(coded.params.length, paramCount(shape));
    for (let r = 0; r < 50; r++) {
      const row = Float64Array.from(x.subarray(r * length, (r + 1) * length));
      const wanted = rotated ? matrixProduct(row) : row;
      const step = f16ToNumber(coded.params[2 * r]);
      wanted.forEach((value, i) => {
        // Zero and scale are binary16: 2^-11 of the least value and of the range.
        const slack = 2 ** -11 * (Math.abs(f16ToNumber(coded.params[2 * r + 1])) + step * 2 ** bits) + 1e-5;
        assert(Math.abs(back[r * length + i] - value) <= step / 2 + slack);
      });
    }
  }
});

/** Times the Walsh–Hadamard matrix, whose entry (i, j) is (−1)^(ones of i and j) ÷ √n. */
function matrixProduct(row: Float64Array): Float64Array {
  return row.map((_, i) => {
    let sum = 0;
    row.forEach((value, j) => {
      let ones = 0;
      for (let bits = i & j; bits > 0; bits &= bits - 1) ones++;
      sum += ones % 2 === 0 ? value : -value;
    });
    return sum / Math.sqrt(row.length);
  });
}

Deno.test("groups: codes and parameters by hand", () => {
  // Range 3 in 2 bits: scale 1; 0.5 and 1.5 are middles, rounded to even.
  const shape: GroupShape = { outer: 1, length: 6, inner: 1, group: 6, bits: 2, leastRange: 0, rotated: false };
  const { codes, params } = quantizeGroups(Float32Array.of(-1, 2, -0.5, 0.5, 1.5, 0.25), shape);
  assertEquals([...codes], [0, 3, 0, 2, 2, 1]);
  assertEquals([...params].map(f16ToNumber), [1, -1]);
  // A zero has no sign, whichever came first.
  for (const zeros of [[0, -0], [-0, 0]]) {
    const coded = quantizeGroups(Float32Array.from(zeros), { ...shape, length: 2, group: 2 });
    assertEquals([...coded.params], [0, 0]);
  }
  const x = Float32Array.of(1, 2, 3, 4);
  hadamard(x, 4);
  assertEquals([...x], [5, -1, -2, 0]);
});
