import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { type Backend, type BlockShape, paddedLength } from "../../src/backend/backend.ts";
import { fromFloat32, toFloat32 } from "../../src/cache/elements.ts";
import { BYTES_PER_ELEMENT, type DType } from "../../src/cache/types.ts";
import { createBackend } from "../../src/backend/select.ts";
import { BACKENDS, dirty, firstDifference, readFloats, testBackends, uniform, upload } from "./backends.ts";
import { casesFor } from "../cases.ts";

const EPS = 2 ** -24;

interface Case {
  readonly shape: BlockShape;
  readonly rotated: boolean;
  readonly centred: boolean;
  readonly seed: number;
}

const cases: fc.Arbitrary<Case> = fc.record({
  shape: fc.record({
    dtype: fc.constantFrom<DType>("f32", "f16", "bf16"),
    blocks: fc.nat(4),
    tokens: fc.oneof(fc.nat(4), fc.integer({ min: 15, max: 34 })),
    dim: fc.oneof(fc.integer({ min: 1, max: 27 }), fc.constantFrom(16, 24, 32, 64)),
    rotaryDim: fc.oneof(fc.nat(13).map((half) => half * 2), fc.constantFrom(16, 32, 64)),
  }).map((shape) => ({ ...shape, rotaryDim: Math.min(shape.rotaryDim, shape.dim & ~1) })),
  rotated: fc.boolean(),
  centred: fc.boolean(),
  seed: fc.nat(),
});

/** cos and sin of random angles, [tokens][2][rotaryDim / 2]. */
function rotationOf({ tokens, rotaryDim }: BlockShape, seed: number): Float32Array {
  const half = rotaryDim / 2;
  const angles = uniform(tokens * half, seed, 4);
  const table = new Float32Array(tokens * rotaryDim);
  angles.forEach((angle, i) => {
    const at = Math.floor(i / half) * rotaryDim + i % half;
    table[at] = Math.cos(angle);
    table[at + half] = Math.sin(angle);
  });
  return table;
}

/** The rotation of element i of a head, in float64, and the sum of the magnitudes that enter it. */
function rotated(x: (i: number) => number, i: number, table: Float32Array | null, at: number, dim: number) {
  const half = dim / 2;
  if (table === null || i >= dim) return { value: x(i), weight: Math.abs(x(i)) };
  const [c, s] = [table[at + i % half], table[at + half + i % half]];
  const [p, q] = i < half ? [x(i) * c, -x(i + half) * s] : [x(i) * c, x(i - half) * s];
  return { value: p + q, weight: Math.abs(p) + Math.abs(q) };
}

function tables({ shape, rotated, centred, seed }: Case) {
  const { blocks, dim } = shape;
  return {
    rotation: rotated ? rotationOf(shape, seed + 1) : null,
    mean: centred ? uniform(blocks * dim, seed + 2, 2) : null,
  };
}

async function gather(backend: Backend, one: Case, source: Uint8Array): Promise<Float32Array> {
  const { blocks, tokens, dim } = one.shape;
  const { rotation, mean } = tables(one);
  const dst = dirty(backend, tokens * paddedLength(blocks * dim) * 4);
  const load = (data: Float32Array | null) => data && upload(backend, data);
  backend.gather(upload(backend, source), one.shape, load(rotation), load(mean), dst);
  return await readFloats(backend, dst);
}

async function scatter(backend: Backend, one: Case, rows: Float32Array): Promise<Uint8Array> {
  const { dtype, blocks, tokens, dim } = one.shape;
  const { rotation, mean } = tables(one);
  const dst = dirty(backend, blocks * tokens * dim * BYTES_PER_ELEMENT[dtype]);
  const load = (data: Float32Array | null) => data && upload(backend, data);
  backend.scatter(upload(backend, rows), one.shape, load(rotation), load(mean), dst);
  return await backend.read(dst);
}

function sourceOf({ shape: { dtype, blocks, tokens, dim }, seed }: Case): Uint8Array {
  return fromFloat32(uniform(blocks * tokens * dim, seed, 5), dtype);
}

function rowsOf({ shape: { blocks, tokens, dim }, seed }: Case): Float32Array {
  return uniform(tokens * paddedLength(blocks * dim), seed + 3, 5);
}

testBackends("gather is within 4 roundings of float64, its padding zero", async (backend) => {
  await fc.assert(
    fc.asyncProperty(cases, async (one) => {
      const { dtype, blocks, tokens, dim, rotaryDim } = one.shape;
      const source = sourceOf(one);
      const x = toFloat32(source, dtype);
      const { rotation, mean } = tables(one);
      const found = await gather(backend, one, source);
      const stride = paddedLength(blocks * dim);
      assertEquals(found.length, tokens * stride);
      for (let t = 0; t < tokens; t++) {
        for (let f = 0; f < stride; f++) {
          const [block, i] = [Math.floor(f / dim), f % dim];
          const head = (j: number) => x[(block * tokens + t) * dim + j];
          const { value, weight } = f < blocks * dim
            ? rotated(head, i, rotation, t * rotaryDim, rotaryDim)
            : { value: 0, weight: 0 };
          const mu = f < blocks * dim ? mean?.[f] ?? 0 : 0;
          const error = Math.abs(found[t * stride + f] - (value - mu));
          assert(error <= 4 * EPS * (weight + Math.abs(mu)), `[${t}][${f}] is off by ${error}`);
        }
      }
    }),
    { numRuns: casesFor(100) },
  );
});

testBackends("scatter is within 4 roundings and one of the element type of float64", async (backend) => {
  await fc.assert(
    fc.asyncProperty(cases, async (one) => {
      const { dtype, blocks, tokens, dim, rotaryDim } = one.shape;
      const rows = rowsOf(one);
      const { rotation, mean } = tables(one);
      const found = toFloat32(await scatter(backend, one, rows), dtype);
      const stride = paddedLength(blocks * dim);
      const unit = { f32: EPS, f16: 2 ** -11, bf16: 2 ** -8 }[dtype];
      for (let block = 0; block < blocks; block++) {
        for (let t = 0; t < tokens; t++) {
          for (let i = 0; i < dim; i++) {
            const head = (j: number) => rows[t * stride + block * dim + j] + (mean?.[block * dim + j] ?? 0);
            const { value, weight } = rotated(head, i, rotation, t * rotaryDim, rotaryDim);
            const error = Math.abs(found[(block * tokens + t) * dim + i] - value);
            // The sums of small terms are rounded before they are rotated, relative to the terms.
            const bound = 4 * EPS * (weight + 14) + unit * Math.abs(value) * 1.001 + 2 ** -25;
            assert(error <= bound, `[${block}][${t}][${i}] is off by ${error}, bound ${bound}`);
          }
        }
      }
    }),
    { numRuns: casesFor(100) },
  );
});

testBackends("without rotation and mean, scatter undoes gather bit for bit", async (backend) => {
  await fc.assert(
    fc.asyncProperty(cases, async (one) => {
      const plain = { ...one, rotated: false, centred: false };
      const { dtype, blocks, tokens, dim } = one.shape;
      const bytes = Uint8Array.from(uniform(blocks * tokens * dim * BYTES_PER_ELEMENT[dtype], one.seed, 256));
      const back = await scatter(backend, plain, await gather(backend, plain, bytes));
      const [before, after] = [toFloat32(bytes, dtype), toFloat32(back, dtype)];
      assertEquals(firstDifference(after, before), -1);
    }),
    { numRuns: casesFor(100) },
  );
});

Deno.test("gather and scatter agree bit for bit over all backends and builds", async () => {
  const builds = await Promise.all(BACKENDS.map(([, options]) => createBackend(options)));
  await fc.assert(
    fc.asyncProperty(cases, async (one) => {
      const gathered = await Promise.all(builds.map((backend) => gather(backend, one, sourceOf(one))));
      const scattered = await Promise.all(builds.map((backend) => scatter(backend, one, rowsOf(one))));
      for (const other of gathered) assertEquals(firstDifference(other, gathered[0]), -1);
      for (const other of scattered) assertEquals(firstDifference(other, scattered[0]), -1);
    }),
    { numRuns: casesFor(100) },
  );
  for (const backend of builds) backend[Symbol.dispose]();
});

testBackends("gather and scatter refuse sizes that do not fit", (backend) => {
  const shape: BlockShape = { dtype: "f16", blocks: 2, tokens: 3, dim: 4, rotaryDim: 2 };
  const [source, rows, table, mean] = [48, 96, 24, 32].map((bytes) => backend.alloc(bytes));
  const run = (change: Partial<BlockShape>, [src, dst, rotation, mu] = [source, rows, table, mean]) => {
    backend.gather(src, { ...shape, ...change }, rotation, mu, dst);
    backend.scatter(dst, { ...shape, ...change }, rotation, mu, src);
  };
  run({});
  assertThrows(() => run({ tokens: 4 }), RangeError);
  assertThrows(() => run({ blocks: 3 }), RangeError);
  assertThrows(() => run({ dim: 5 }), RangeError);
  assertThrows(() => run({ rotaryDim: 3 }), RangeError, "even");
  assertThrows(() => run({ rotaryDim: 6 }), RangeError);
  assertThrows(() => run({ rotaryDim: 4 }), RangeError);
  assertThrows(() => run({ dtype: "f32" }), RangeError);
  assertThrows(() => run({ dtype: "f64" as "f32" }), RangeError, "f64");
  assertThrows(() => run({ tokens: -1 }), RangeError);
  assertThrows(() => run({}, [rows, mean, table, mean]), RangeError);
});
