import { assert, assertAlmostEquals, assertEquals } from "deno-std/assert";
import { CalibrateKernels } from "../../src/backend/wasm/calibrate_kernels.ts";
import { ReferenceBackend } from "../../src/backend/reference/reference_backend.ts";
import { ErrorTableBuilder } from "../../src/profile/error_table.ts";
import { fillGaussian } from "../../src/profile/random.ts";
import { GROUP_SIZES, GROUP_TYPES } from "../../src/profile/types.ts";
import { errorTableReference } from "./error_table_reference.ts";

const BUILDS = ["base", "simd", "relaxed"] as const;

/** Coefficients [rows][rank] with falling spread, and the special values a quantizer meets. */
function coefficients(rows: number, rank: number, seed: number): Float32Array<ArrayBuffer> {
  const noise = new Float64Array(rows * rank);
  fillGaussian(noise, seed);
  const x = Float32Array.from(noise, (value, at) => value * 100 / (1 + at % rank));
  // Zeros, equal neighbours, ties, numbers that are subnormal in binary16 and in E4M3, signs.
  [0, -0, 0, 3, 3, 3, -3, 0.5, 1e-6, -1e-6, 3e-8, 1e-12, 448, -448, 7, 2.5].forEach((value, i) => {
    if (i < rank && rows > 1) x[rank + i] = value;
  });
  if (rows > 2) x.fill(0, 2 * rank, 3 * rank);
  if (rows > 3) x.fill(-1.25, 3 * rank, 4 * rank);
  return x;
}

function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, relative: number): void {
  assertEquals(actual.length, expected.length);
  for (let i = 0; i < expected.length; i++) {
    if (expected[i] === Infinity) assertEquals(actual[i], Infinity, `at ${i}`);
    else assertAlmostEquals(actual[i], expected[i], relative * expected[i] + 1e-20, `at ${i}`);
  }
}

for (const build of BUILDS) {
  Deno.test(`the error table is that of the reference quantizer (${build})`, async () => {
    const kernels = await CalibrateKernels.open(build);
    // Rows that are no multiple of the kernel's four; ranks below, at and above group sizes.
    for (const [rows, rank] of [[1, 1], [5, 15], [6, 16], [7, 37], [4, 130], [2, 300], [1, 1040]]) {
      const x = coefficients(rows, rank, rank);
      const builder = new ErrorTableBuilder(kernels, rank);
      builder.add(x, rows, rank);
      const table = builder.finish();
      assertEquals([table.rows, table.rank], [rows, rank]);
      assertClose(table.errors, errorTableReference(x, rows, rank), 2e-6);
      const energy = Float64Array.from({ length: rank }, (_, i) => {
        let sum = 0;
        for (let row = 0; row < rows; row++) sum += x[row * rank + i] ** 2;
        return sum;
      });
      assertClose(table.energy, energy, 1e-12);
    }
  });

  Deno.test(`the error table adds up over calls and skips row padding (${build})`, async () => {
    const kernels = await CalibrateKernels.open(build);
    const [rows, rank, stride] = [11, 20, 24];
    const x = coefficients(rows, rank, 3);
    const padded = new Float32Array(rows * stride).fill(NaN);
    for (let row = 0; row < rows; row++) padded.set(x.subarray(row * rank, (row + 1) * rank), row * stride);
    const builder = new ErrorTableBuilder(kernels, rank);
    builder.add(padded, 8, stride);
    builder.add(padded.subarray(8 * stride), 3, stride);
    const table = builder.finish();
    assertEquals(table.rows, rows);
    assertClose(table.errors, errorTableReference(x, rows, rank), 2e-6);
  });

  Deno.test(`shifts and scales beyond binary16 make a group impossible (${build})`, async () => {
    const kernels = await CalibrateKernels.open(build);
    const x = new Float32Array(16).fill(1);
    x[4] = -70000;
    const builder = new ErrorTableBuilder(kernels, 16);
    builder.add(x, 1, 16);
    const { errors } = builder.finish();
    const entry = (i: number, s: number, t: number) => errors[(i * GROUP_SIZES.length + s) * GROUP_TYPES.length + t];
    assertEquals([entry(4, 0, 0), entry(4, 0, 1)], [Infinity, Infinity]);
    // fp8 has no shift: 70000 / 448 is well inside.
    assert(entry(4, 0, 2) < 1e6);
    assertEquals(entry(15, 1, 0), Infinity);
    assertEquals(entry(3, 0, 0), 0);
  });
}

Deno.test("entries of the error table are what Backend.quantize and dequantize lose", async () => {
  const [rows, rank] = [9, 100];
  const x = coefficients(rows, rank, 8);
  const builder = new ErrorTableBuilder(await CalibrateKernels.open(), rank);
  builder.add(x, rows, rank);
  const table = builder.finish();
  using backend = new ReferenceBackend();
  const source = backend.alloc(x.byteLength);
  backend.write(source, x);
  const stride = rank;
  for (const [last, s, type] of [[99, 0, 1], [70, 1, 1], [63, 2, 2], [99, 2, 3], [15, 1, 2], [0, 0, 3]] as const) {
    const size = GROUP_SIZES[s];
    const plan = backend.uploadPlan([{ first: last + 1 - size, size, type }]);
    const [symbols, params] = [backend.alloc(rows * plan.components), backend.alloc(rows * 4)];
    const restored = backend.alloc(x.byteLength);
    backend.quantize(source, stride, rows, plan, symbols, params);
    backend.dequantize(symbols, params, plan, rows, restored, stride);
    const back = new Float32Array((await backend.read(restored)).buffer, 0, x.length);
    let error = 0;
    for (let row = 0; row < rows; row++) {
      for (let i = last + 1 - size; i <= last; i++) error += (x[row * rank + i] - back[row * rank + i]) ** 2;
    }
    const entry = table.errors[(last * GROUP_SIZES.length + s) * GROUP_TYPES.length + GROUP_TYPES.indexOf(type)];
    assertAlmostEquals(entry, error, 1e-6 * error + 1e-20);
  }
});
