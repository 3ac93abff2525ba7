import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { f16ToNumber } from "../../src/cache/elements.ts";
import { createBackend } from "../../src/backend/select.ts";
import { BACKENDS, dirty, firstDifference, readFloats, readHalves, testBackends, uniform, upload } from "./backends.ts";
import { casesFor } from "../cases.ts";

const rows = fc.record({
  rows: fc.nat(4),
  length: fc.integer({ min: 1, max: 40 }),
  values: fc.array(fc.oneof(fc.float({ min: -500, max: 500, noNaN: true }), fc.float({ noNaN: true })), {
    minLength: 1,
  }),
});

Deno.test("fp8 rows get equal codes and scales, and equal values back, on every backend", async () => {
  const backends = await Promise.all(BACKENDS.map(([, options]) => createBackend(options)));
  await fc.assert(
    fc.asyncProperty(rows, async ({ rows, length, values }) => {
      const x = Float32Array.from({ length: rows * length }, (_, i) => values[i % values.length]);
      const results = await Promise.all(backends.map(async (backend) => {
        const [codes, scales, dst] = [dirty(backend, x.length), dirty(backend, rows * 2), dirty(backend, x.byteLength)];
        backend.encodeFp8(upload(backend, x), rows, length, codes, scales);
        backend.decodeFp8(codes, scales, rows, length, dst);
        return [await backend.read(codes), await readHalves(backend, scales), await readFloats(backend, dst)];
      }));
      for (const result of results) {
        result.forEach((part, i) => assertEquals(firstDifference(part, results[0][i]), -1));
      }
    }),
    { numRuns: casesFor(100) },
  );
  for (const backend of backends) backend[Symbol.dispose]();
});

testBackends("fp8 restores every value to 2⁻⁴ of it or half the least step", async (backend) => {
  const [count, length] = [9, 77];
  const x = uniform(count * length, 5, 100);
  x.forEach((_, i) => x[i] *= 2 ** -(i % 15));
  const [codes, scales, dst] = [backend.alloc(x.length), backend.alloc(count * 2), backend.alloc(x.byteLength)];
  backend.encodeFp8(upload(backend, x), count, length, codes, scales);
  backend.decodeFp8(codes, scales, count, length, dst);
  const steps = await readHalves(backend, scales, count);
  (await readFloats(backend, dst)).forEach((found, i) => {
    const scale = f16ToNumber(steps[Math.floor(i / length)]);
    // The largest may saturate where its scale was rounded down: 2^-11 of it.
    const bound = Math.max(Math.abs(x[i]) * 2 ** -4, scale * 2 ** -10) * 1.001;
    assert(Math.abs(found - x[i]) <= bound, `${x[i]} came back as ${found}`);
  });
});

testBackends("fp8 refuses buffers that are too short", (backend) => {
  const [x, codes, scales] = [64, 16, 4].map((bytes) => backend.alloc(bytes));
  backend.encodeFp8(x, 2, 8, codes, scales);
  backend.decodeFp8(codes, scales, 2, 8, x);
  for (const [count, length] of [[2, 9], [3, 5], [-1, 8], [2, 0.5]]) {
    assertThrows(() => backend.encodeFp8(x, count, length, codes, scales), RangeError);
    assertThrows(() => backend.decodeFp8(codes, scales, count, length, x), RangeError);
  }
});
