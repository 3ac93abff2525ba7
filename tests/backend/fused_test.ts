import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { type Backend, type BlockShape, paddedLength } from "../../src/backend/backend.ts";
import { f16ToNumber, fromFloat32, numberToF16, toFloat32 } from "../../src/cache/elements.ts";
import { BYTES_PER_ELEMENT, type DType } from "../../src/cache/types.ts";
import { casesFor } from "../cases.ts";
import { dirty, readFloats, testBackends, uniform, upload } from "./backends.ts";

/**
 * What the fused calls may lose (docs/backends.md, "Bounds"): rows and coefficients are binary16 for a GPU's tensor cores
 * (2^-11 of each, or half of the least binary16; the 64 leading coefficients are two of them), sums binary32.
 */
const HALF = 2 ** -11;
const SUM = 2 ** -22;
const LEADING = 64;
/** What rounding to an element type adds; the numbers here are above its subnormal ones, or far below the bound. */
const ROUNDING: Readonly<Record<DType, number>> = { f32: 0, f16: 2 ** -11, bf16: 2 ** -8 };

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
  const [from, middle] = [upload(backend, fromFloat32(source, shape.dtype)), upload(backend, mean)];
  const out = dirty(backend, shape.tokens * paddedLength(components) * 4);
  backend.gatherProject(from, shape, null, middle, basis, out);
  const found = await readFloats(backend, out);
  for (const it of [basis, from, middle, out]) it.free();
  return found;
}

/** gatherProject of random elements against float64. */
async function checkGatherProject(
  backend: Backend,
  shape: BlockShape,
  components: number,
  seed: number,
): Promise<void> {
  const { dtype, blocks, tokens, dim } = shape;
  const features = blocks * dim;
  const source = toFloat32(fromFloat32(uniform(tokens * features, seed, 3), dtype), dtype);
  const mean = uniform(features, seed + 20);
  const rows = basisRows(components * features, seed + 40);
  const found = await gatherProject(backend, source, shape, mean, rows, components);
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
      assert(error <= bound, `[${t}][${c}] is ${found[t * stride + c]}, expected ${sum} ± ${bound}`);
    }
  }
}

/** reconstructScatter of random coefficients, features from `begin` on, against float64. */
async function checkReconstructScatter(
  backend: Backend,
  shape: BlockShape,
  components: number,
  begin: number,
  seed: number,
): Promise<void> {
  const { dtype, blocks, tokens, dim } = shape;
  const n = blocks * dim;
  const features = begin + n + 5;
  const stride = paddedLength(components);
  const y = uniform(tokens * stride, seed, 100);
  // Falling as coefficients do, down to what binary16 has no normal numbers for.
  for (let j = 0; j < y.length; j++) y[j] = j % stride < components ? y[j] / (1 + (j % stride) ** 2) : 0;
  const mean = uniform(n, seed + 20);
  const rows = basisRows(components * features, seed + 40);
  const basis = backend.uploadBasis(rows, components, features);
  const [from, middle] = [upload(backend, y), upload(backend, mean)];
  const bytes = tokens * n * BYTES_PER_ELEMENT[dtype];
  const out = dirty(backend, bytes);
  backend.reconstructScatter(from, basis, begin, shape, null, middle, out);
  const found = toFloat32(await backend.read(out, 0, bytes), dtype);
  for (const it of [basis, from, middle, out]) it.free();
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
      bound += (Math.abs(wanted) + bound) * (2 ** -23 + ROUNDING[dtype]);
      const at = (Math.floor(f / dim) * tokens + t) * dim + f % dim;
      const error = Math.abs(found[at] - wanted);
      assert(error <= bound, `[${t}][${f}] from ${begin} is ${found[at]}, expected ${wanted} ± ${bound}`);
    }
  }
}

testBackends("gatherProject is within its bound of float64, its padding zero", async (backend) => {
  for (const [i, [tokens, components, blocks, dim]] of SHAPES.entries()) {
    await checkGatherProject(backend, shapeOf(tokens, blocks, dim), components, i);
  }
});

testBackends("reconstructScatter is within its bound of float64, from any feature", async (backend) => {
  for (const [i, [tokens, components, blocks, dim]] of SHAPES.entries()) {
    for (const begin of [0, 8, 3]) {
      await checkReconstructScatter(backend, shapeOf(tokens, blocks, dim), components, begin, i);
    }
  }
});

testBackends("fused calls of any shape and type are within their bounds", async (backend) => {
  const any = fc.record({
    dtype: fc.constantFrom<DType>("f32", "f16", "bf16"),
    tokens: fc.nat(20),
    components: fc.oneof({ weight: 3, arbitrary: fc.nat(30) }, fc.constantFrom(64, 72, 136)),
    blocks: fc.nat(3),
    dim: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constantFrom(24, 32, 64)),
    begin: fc.oneof(fc.nat(20), fc.constantFrom(0, 8, 64)),
    seed: fc.nat(1 << 20),
  });
  await fc.assert(
    fc.asyncProperty(any, async ({ components, begin, seed, ...rest }) => {
      const shape = { ...rest, rotaryDim: 0 };
      await checkGatherProject(backend, shape, components, seed);
      await checkReconstructScatter(backend, shape, components, begin, seed);
    }),
    { numRuns: casesFor(25) },
  );
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
