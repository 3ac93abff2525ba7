import { assert, assertEquals, assertThrows } from "deno-std/assert";
import { type Backend, type BlockShape, paddedLength } from "../../src/backend/backend.ts";
import { f16ToNumber, numberToF16 } from "../../src/cache/elements.ts";
import { dirty, readFloats, testBackends, uniform, upload } from "./backends.ts";

/**
 * What the fused calls may lose (docs/backends.md, "Bounds"): rows and coefficients are binary16 for a GPU's tensor cores
 * (2^-11 of each, or half of the least binary16; the 64 leading coefficients are two of them), sums binary32.
 */
const HALF = 2 ** -11;
const SUM = 2 ** -22;
const LEADING = 64;

/** Tokens, components, blocks, dim: sizes below, at and beyond tiles (64, 128, 256), components with and without padding. */
const SHAPES = [
  [1, 1, 1, 1],
  [7, 17, 3, 10],
  [64, 64, 2, 32],
  [33, 150, 5, 24],
  [100, 70, 7, 29],
  [130, 200, 4, 66],
  [100, 136, 3, 64],
] as const;

function basisRows(length: number, seed: number): Uint16Array {
  return Uint16Array.from(uniform(length, seed, 0.3), numberToF16);
}

function shapeOf(tokens: number, blocks: number, dim: number): BlockShape {
  return { dtype: "f32", blocks, tokens, dim, rotaryDim: 0 };
}

async function gatherProject(
  backend: Backend,
  source: Float32Array,
  shape: BlockShape,
  mean: Float32Array,
  rows: Uint16Array,
  components: number,
): Promise<Float32Array> {
  const basis = backend.uploadBasis(rows, components, shape.blocks * shape.dim);
  const out = dirty(backend, shape.tokens * paddedLength(components) * 4);
  backend.gatherProject(upload(backend, source), shape, null, upload(backend, mean), basis, out);
  return await readFloats(backend, out);
}

testBackends("gatherProject is within its bound of float64, its padding zero", async (backend) => {
  for (const [i, [tokens, components, blocks, dim]] of SHAPES.entries()) {
    const features = blocks * dim;
    const source = uniform(tokens * features, i, 3);
    const mean = uniform(features, 20 + i);
    const rows = basisRows(components * features, 40 + i);
    const found = await gatherProject(backend, source, shapeOf(tokens, blocks, dim), mean, rows, components);
    const stride = paddedLength(components);
    assertEquals(found.length, tokens * stride);
    for (let t = 0; t < tokens; t++) {
      for (let c = 0; c < stride; c++) {
        let [sum, bound] = [0, 0];
        for (let f = 0; f < (c < components ? features : 0); f++) {
          const x = Math.fround(source[(Math.floor(f / dim) * tokens + t) * dim + f % dim] - mean[f]);
          const b = f16ToNumber(rows[c * features + f]);
          sum += x * b;
          bound += Math.abs(b) * (Math.abs(x) * (HALF + (features + 1) * SUM) + 2 ** -25);
        }
        const error = Math.abs(found[t * stride + c] - sum);
        assert(error <= bound, `[${t}][${c}] of ${SHAPES[i]} is ${found[t * stride + c]}, expected ${sum} ± ${bound}`);
      }
    }
  }
});

testBackends("reconstructScatter is within its bound of float64, from any feature", async (backend) => {
  for (const [i, [tokens, components, blocks, dim]] of SHAPES.entries()) {
    for (const begin of [0, 8, 3]) {
      const n = blocks * dim;
      const features = begin + n + 5;
      const stride = paddedLength(components);
      const y = uniform(tokens * stride, i, 100);
      // Falling as coefficients do, down to what binary16 has no normal numbers for.
      for (let j = 0; j < y.length; j++) y[j] = j % stride < components ? y[j] / (1 + (j % stride) ** 2) : 0;
      const mean = uniform(n, 20 + i);
      const rows = basisRows(components * features, 40 + i);
      const basis = backend.uploadBasis(rows, components, features);
      const out = dirty(backend, tokens * n * 4);
      const shape = shapeOf(tokens, blocks, dim);
      backend.reconstructScatter(upload(backend, y), basis, begin, shape, null, upload(backend, mean), out);
      const found = await readFloats(backend, out);
      for (let t = 0; t < tokens; t++) {
        for (let f = 0; f < n; f++) {
          let [sum, bound] = [0, 0];
          for (let c = 0; c < components; c++) {
            const [a, b] = [y[t * stride + c], f16ToNumber(rows[c * features + begin + f])];
            sum += a * b;
            const half = c < LEADING ? 2 ** -21 : HALF;
            bound += Math.abs(b) * (Math.abs(a) * (half + (components + LEADING + 1) * SUM) + 2 ** -20);
          }
          const wanted = sum + mean[f];
          bound += Math.abs(wanted) * 2 ** -23;
          const at = (Math.floor(f / dim) * tokens + t) * dim + f % dim;
          const error = Math.abs(found[at] - wanted);
          assert(
            error <= bound,
            `[${t}][${f}] of ${SHAPES[i]} from ${begin} is ${found[at]}, expected ${wanted} ± ${bound}`,
          );
        }
      }
    }
  }
});

testBackends("fused calls keep NaN in its token and out of the padding", async (backend) => {
  const [tokens, components, blocks, dim] = [9, 11, 2, 12];
  const source = uniform(tokens * blocks * dim, 1);
  source[4 * dim + 2] = NaN;
  const shape = shapeOf(tokens, blocks, dim);
  const mean = new Float32Array(blocks * dim);
  const found = await gatherProject(backend, source, shape, mean, basisRows(components * 24, 2), components);
  found.forEach((value, i) => {
    assertEquals(Number.isNaN(value), Math.floor(i / 16) === 4 && i % 16 < components, `[${Math.floor(i / 16)}]`);
    if (i % 16 >= components) assertEquals(value, 0);
  });
});

testBackends(
  "every coefficient that an int4 code can stand for is within reconstructScatter's range",
  async (backend) => {
    // shift 65,504 and 15 · 65,504, the largest binary16: at the other end of the scale a small one beside it.
    const y = new Float32Array(8);
    y[0] = 16 * 65504;
    y[1] = 0.25;
    const basis = backend.uploadBasis(Uint16Array.from([1, 0, 0, 1], numberToF16), 2, 2);
    const out = dirty(backend, 8);
    backend.reconstructScatter(upload(backend, y), basis, 0, shapeOf(1, 1, 2), null, null, out);
    assertEquals([...await readFloats(backend, out)], [16 * 65504, 0.25]);
  },
);

testBackends("fused calls refuse sizes that do not fit", (backend) => {
  const basis = backend.uploadBasis(new Uint16Array(3 * 8), 3, 8);
  const shape = shapeOf(2, 1, 8);
  const [source, small] = [backend.alloc(64), backend.alloc(32)];
  assertThrows(() => backend.gatherProject(small, shape, null, null, basis, source), RangeError);
  assertThrows(() => backend.gatherProject(source, shape, null, null, basis, small), RangeError);
  assertThrows(() => backend.gatherProject(source, shape, null, backend.alloc(4), basis, source), RangeError);
  assertThrows(() => backend.reconstructScatter(small, basis, 0, shape, null, null, source), RangeError);
  assertThrows(() => backend.reconstructScatter(source, basis, 0, shape, null, null, small), RangeError);
  assertThrows(() => backend.reconstructScatter(source, basis, 1, shape, null, null, source), RangeError);
});
