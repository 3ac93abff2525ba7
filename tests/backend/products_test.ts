import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { type Backend, type BlockShape, paddedLength } from "../../src/backend/backend.ts";
import { f16ToNumber, numberToF16 } from "../../src/cache/elements.ts";
import { casesFor } from "../cases.ts";
import { dirty, firstDifference, generator, readFloats, testBackends, uniform, upload } from "./backends.ts";

/** Unit roundoff of float32. */
const EPS = 2 ** -24;

/** Tokens, components, features: one and many, below, at and beside tiles (6, 8) and blocks (256, 258). */
const SHAPES = [
  [1, 1, 1],
  [1, 8, 8],
  [2, 3, 5],
  [5, 9, 7],
  [6, 8, 16],
  [7, 17, 31],
  [13, 40, 257],
  [12, 256, 264],
  [259, 11, 65],
  [33, 300, 523],
  [4, 5, 0],
  [3, 0, 9],
  [0, 4, 6],
];

/** Basis entries as binary16 bits: magnitudes of an orthonormal basis, with zeros and subnormals. */
function basisRows(length: number, seed: number): Uint16Array {
  const next = generator(seed);
  return Uint16Array.from({ length }, () => {
    const kind = next();
    const value = (next() * 2 - 1) * (kind < 0.1 ? 2 ** -15 : kind < 0.15 ? 0 : kind < 0.2 ? 1 : 0.05);
    return numberToF16(value);
  });
}

/** Rows with a stride, padding zero. */
function rowsOf(tokens: number, columns: number, seed: number): Float32Array {
  const stride = paddedLength(columns);
  const values = uniform(tokens * stride, seed, 3);
  for (let t = 0; t < tokens; t++) values.fill(0, t * stride + columns, (t + 1) * stride);
  return values;
}

/** Checks x[t][j] against Σ_k a(t, k) · b(k, j) within (depth + 1) · 2^-24 · Σ |a||b|, and that padding is zero. */
function checkProduct(
  found: Float32Array,
  [tokens, depth, columns]: readonly [number, number, number],
  a: (t: number, k: number) => number,
  b: (k: number, j: number) => number,
): void {
  const stride = paddedLength(columns);
  assertEquals(found.length, tokens * stride);
  for (let t = 0; t < tokens; t++) {
    for (let j = 0; j < stride; j++) {
      let sum = 0;
      let weight = 0;
      for (let k = 0; k < (j < columns ? depth : 0); k++) {
        const product = a(t, k) * b(k, j);
        sum += product;
        weight += Math.abs(product);
      }
      const error = Math.abs(found[t * stride + j] - sum);
      if (!(error <= (depth + 1) * EPS * weight)) {
        assert(
          false,
          `Entry [${t}][${j}] is ${found[t * stride + j]}, expected ${sum} ± ${(depth + 1) * EPS * weight}`,
        );
      }
    }
  }
}

function project(
  backend: Backend,
  x: Float32Array,
  rows: Uint16Array,
  shape: readonly number[],
): Promise<Float32Array> {
  const [tokens, components, features] = shape;
  const basis = backend.uploadBasis(rows, components, features);
  const out = dirty(backend, tokens * paddedLength(components) * 4);
  backend.project(upload(backend, x), tokens, basis, out);
  return readFloats(backend, out);
}

function reconstruct(
  backend: Backend,
  coefficients: Float32Array,
  rows: Uint16Array,
  [tokens, components, features]: readonly number[],
  begin: number = 0,
  end: number = features,
): Promise<Float32Array> {
  const basis = backend.uploadBasis(rows, components, features);
  const out = dirty(backend, tokens * paddedLength(end - begin) * 4);
  backend.reconstruct(upload(backend, coefficients), tokens, basis, begin, end, out);
  return readFloats(backend, out);
}

testBackends("project is within (p + 1) · 2⁻²⁴ · Σ|x||b| of float64", async (backend) => {
  for (const [i, shape] of SHAPES.entries()) {
    const [tokens, components, features] = shape;
    const [x, rows] = [rowsOf(tokens, features, i), basisRows(components * features, 100 + i)];
    const found = await project(backend, x, rows, shape);
    checkProduct(
      found,
      [tokens, features, components],
      (t, k) => x[t * paddedLength(features) + k],
      (k, c) => f16ToNumber(rows[c * features + k]),
    );
  }
});

testBackends("project on the leading components gives what all give", async (backend) => {
  for (const [tokens, components, features] of [[3, 21, 13], [9, 40, 24], [130, 136, 70]]) {
    const [x, rows] = [rowsOf(tokens, features, 1), basisRows(components * features, 2)];
    const all = await project(backend, x, rows, [tokens, components, features]);
    const basis = backend.uploadBasis(rows, components, features);
    const shape: BlockShape = { dtype: "f32", blocks: 1, tokens, dim: features, rotaryDim: 0 };
    const elements = Float32Array.from({ length: tokens * features }, (_, i) => {
      return x[Math.floor(i / features) * paddedLength(features) + i % features];
    });
    const wide = dirty(backend, tokens * paddedLength(components) * 4);
    backend.gatherProject(upload(backend, elements), shape, null, null, basis, wide);
    const fused = await readFloats(backend, wide);
    for (const leading of [0, 8, 16, components]) {
      const stride = paddedLength(leading);
      const cut = (from: Float32Array) =>
        Float32Array.from({ length: tokens * stride }, (_, i) => {
          return from[Math.floor(i / stride) * paddedLength(components) + i % stride];
        });
      const out = dirty(backend, tokens * stride * 4);
      backend.project(upload(backend, x), tokens, basis, out, leading);
      assertEquals((await readFloats(backend, out)).subarray(0, tokens * stride), cut(all));
      const outFused = dirty(backend, tokens * stride * 4);
      backend.gatherProject(upload(backend, elements), shape, null, null, basis, outFused, leading);
      assertEquals((await readFloats(backend, outFused)).subarray(0, tokens * stride), cut(fused));
    }
    for (const leading of [7, -8, 1.5, components + 8]) {
      assertThrows(
        () => backend.project(upload(backend, x), tokens, basis, wide, leading),
        RangeError,
        `"components" is ${leading}`,
      );
    }
    basis.free();
  }
});

testBackends("reconstruct is within (r + 1) · 2⁻²⁴ · Σ|y||b| of float64, whole or by ranges", async (backend) => {
  for (const [i, shape] of SHAPES.entries()) {
    const [tokens, components, features] = shape;
    const [y, rows] = [rowsOf(tokens, components, i), basisRows(components * features, 200 + i)];
    const whole = await reconstruct(backend, y, rows, shape);
    checkProduct(
      whole,
      [tokens, components, features],
      (t, k) => y[t * paddedLength(components) + k],
      (k, f) => f16ToNumber(rows[k * features + f]),
    );
    const cuts = [0, 1, 5, 8, 11, 16, 30, 64, 100, features].filter((cut) => cut <= features);
    for (const begin of cuts) {
      for (const end of cuts.filter((cut) => cut >= begin)) {
        const part = await reconstruct(backend, y, rows, shape, begin, end);
        const stride = paddedLength(end - begin);
        const wanted = new Float32Array(tokens * stride);
        for (let t = 0; t < tokens; t++) {
          const from = t * paddedLength(features);
          wanted.set(whole.subarray(from + begin, from + end), t * stride);
        }
        assertEquals(firstDifference(part, wanted), -1, `features [${begin}, ${end}) of ${shape}`);
      }
    }
  }
});

testBackends(
  "products of any shape, of leading components or a range of features, are within their bounds",
  async (backend) => {
    const any = fc.record({
      tokens: fc.oneof({ weight: 3, arbitrary: fc.nat(12) }, fc.constantFrom(63, 65, 130)),
      components: fc.oneof({ weight: 3, arbitrary: fc.nat(30) }, fc.constantFrom(64, 129)),
      features: fc.oneof({ weight: 3, arbitrary: fc.nat(40) }, fc.constantFrom(64, 257)),
      cut: fc.tuple(fc.nat(), fc.nat()),
      eights: fc.nat(),
      seed: fc.nat(1 << 20),
    });
    await fc.assert(
      fc.asyncProperty(any, async ({ tokens, components, features, cut, eights, seed }) => {
        const rows = basisRows(components * features, seed);
        const [x, y] = [rowsOf(tokens, features, seed + 1), rowsOf(tokens, components, seed + 2)];
        const leading = Math.min(components, 8 * (eights % (components / 8 + 2 | 0)));
        const begin = cut[0] % (features + 1);
        const end = begin + cut[1] % (features - begin + 1);
        const basis = backend.uploadBasis(rows, components, features);
        const [from, back] = [upload(backend, x), upload(backend, y)];
        const out = dirty(backend, tokens * paddedLength(leading) * 4);
        const restored = dirty(backend, tokens * paddedLength(end - begin) * 4);
        backend.project(from, tokens, basis, out, leading);
        backend.reconstruct(back, tokens, basis, begin, end, restored);
        checkProduct(
          await readFloats(backend, out),
          [tokens, features, leading],
          (t, k) => x[t * paddedLength(features) + k],
          (k, c) => f16ToNumber(rows[c * features + k]),
        );
        checkProduct(
          await readFloats(backend, restored),
          [tokens, components, end - begin],
          (t, k) => y[t * paddedLength(components) + k],
          (k, f) => f16ToNumber(rows[k * features + begin + f]),
        );
        for (const it of [basis, from, back, out, restored]) it.free();
      }),
      { numRuns: casesFor(25) },
    );
  },
);

testBackends("a token's result does not depend on the other tokens", async (backend) => {
  const [tokens, components, features] = [263, 21, 270];
  const rows = basisRows(components * features, 1);
  const [x, y] = [rowsOf(tokens, features, 2), rowsOf(tokens, components, 3)];
  const coefficients = await project(backend, x, rows, [tokens, components, features]);
  const restored = await reconstruct(backend, y, rows, [tokens, components, features]);
  for (const [begin, end] of [[0, 1], [0, 5], [0, 6], [0, 256], [3, 4], [7, 20], [257, 263], [258, 259]]) {
    const cut = (all: Float32Array, columns: number) =>
      all.slice(begin * paddedLength(columns), end * paddedLength(columns));
    const shape = [end - begin, components, features];
    const some = await project(backend, cut(x, features), rows, shape);
    assertEquals(firstDifference(some, cut(coefficients, components)), -1, `project [${begin}, ${end})`);
    const back = await reconstruct(backend, cut(y, components), rows, shape);
    assertEquals(firstDifference(back, cut(restored, features)), -1, `reconstruct [${begin}, ${end})`);
  }
});

testBackends("every basis entry below 4 is used exactly", async (backend) => {
  const positive = Array.from({ length: 0x4400 }, (_, i) => i);
  const rows = Uint16Array.from([...positive, ...positive.map((bits) => bits | 0x8000)]);
  const features = rows.length;
  const found = await reconstruct(backend, Float32Array.of(1, 0, 0, 0, 0, 0, 0, 0), rows, [1, 1, features]);
  // A sum that begins at +0 loses the sign of -0, which the comparison must not see.
  assertEquals(
    firstDifference(found.map((value) => value + 0), Float32Array.from(rows, f16ToNumber).map((v) => v + 0)),
    -1,
  );
  const ones = new Float32Array(paddedLength(1) * 1);
  ones[0] = 1;
  const across = await project(backend, ones, rows, [1, features, 1]);
  assertEquals(firstDifference(across.map((value) => value + 0), found.map((value) => value + 0)), -1);
});

testBackends("NaN stays in its row and out of the padding", async (backend) => {
  const [tokens, components, features] = [7, 9, 10];
  const x = rowsOf(tokens, features, 1);
  x[3 * paddedLength(features) + 2] = NaN;
  const found = await project(backend, x, basisRows(components * features, 2), [tokens, components, features]);
  found.forEach((value, i) => {
    const [t, c] = [Math.floor(i / 16), i % 16];
    assertEquals(Number.isNaN(value), t === 3 && c < components, `[${t}][${c}]`);
  });
});

testBackends("products and bases refuse sizes and entries that cannot be", (backend) => {
  assertThrows(() => backend.uploadBasis(new Uint16Array(5), 2, 3), RangeError, "5 elements");
  for (const bits of [0x4400, 0xc400, 0x7c00, 0x7e00]) {
    assertThrows(() => backend.uploadBasis(Uint16Array.of(0, 0, bits, 0), 2, 2), RangeError, "element 0 of row 1");
  }
  assertThrows(() => backend.uploadBasis(new Uint16Array(4), -1, 2), RangeError, '"components" is -1');
  const basis = backend.uploadBasis(new Uint16Array(9), 3, 3);
  const [small, big] = [backend.alloc(32), backend.alloc(64)];
  assertThrows(() => backend.project(small, 2, basis, big), RangeError);
  assertThrows(() => backend.project(big, 2, basis, small), RangeError);
  assertThrows(() => backend.reconstruct(small, 2, basis, 0, 3, big), RangeError);
  assertThrows(() => backend.reconstruct(big, 2, basis, 0, 3, small), RangeError);
  for (const [begin, end] of [[-1, 2], [2, 1], [0, 4], [0.5, 2]]) {
    assertThrows(() => backend.reconstruct(big, 2, basis, begin, end, big), RangeError);
  }
});
