import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { type Backend, type BlockShape, paddedLength } from "../../src/backend/backend.ts";
import type { GpuInteger } from "../../src/backend/gpu/integer.ts";
import { createBackend } from "../../src/backend/select.ts";
import { rotationTable } from "../../src/cache/rope.ts";
import { BYTES_PER_ELEMENT, type DType } from "../../src/cache/types.ts";
import { casesFor } from "../cases.ts";
import { BACKENDS, dirty, firstDifference, generator, uniform, upload } from "./backends.ts";

const MAX_LEVEL = 32639;

/** Registers a test for every backend of a GPU. */
function testGpus(name: string, test: (backend: Backend, integer: GpuInteger) => Promise<void> | void): void {
  for (const [label, options] of BACKENDS.filter(([label]) => label === "cuda" || label === "webgpu")) {
    Deno.test(`${label}: ${name}`, async () => {
      using backend = await createBackend(options);
      const integer = backend.gpu?.integer ?? null;
      if (integer === null) throw new Error("The backend has no integer kernels");
      await test(backend, integer);
    });
  }
}

interface Case {
  readonly tokens: number;
  readonly components: number;
  readonly features: number;
  readonly range: readonly [begin: number, end: number];
  /** Share of the levels that need a high byte. */
  readonly large: number;
  /** Elements from token to token beyond what the components need. */
  readonly spare?: number;
}

/** One and many; below, at and beyond tiles (64, 128, 256) and depths (64); with few, all and no high bytes. */
const CASES: readonly Case[] = [
  { tokens: 1, components: 1, features: 1, range: [0, 1], large: 1 },
  { tokens: 7, components: 17, features: 31, range: [3, 30], large: 0.2 },
  { tokens: 64, components: 64, features: 64, range: [0, 64], large: 0.5, spare: 64 },
  { tokens: 100, components: 65, features: 201, range: [0, 201], large: 0.001, spare: 16 },
  { tokens: 131, components: 200, features: 300, range: [8, 300], large: 0.0002 },
  { tokens: 260, components: 130, features: 260, range: [0, 257], large: 0 },
  { tokens: 1024, components: 3, features: 1536, range: [0, 1536], large: 0.01 },
  { tokens: 3, components: 0, features: 9, range: [0, 9], large: 0 },
  { tokens: 0, components: 4, features: 6, range: [0, 6], large: 0 },
  { tokens: 2, components: 4, features: 6, range: [2, 2], large: 0 },
];

function operands({ tokens, components, features, large, spare = 0 }: Case, seed: number) {
  const next = generator(seed);
  const basis = Int8Array.from({ length: components * features }, () => Math.floor(next() * 127) - 63);
  const stride = Math.ceil(components / 16) * 16 + spare;
  const levels = new Int16Array(tokens * stride);
  for (let t = 0; t < tokens; t++) {
    for (let c = 0; c < components; c++) {
      const most = next() < large ? MAX_LEVEL : 127;
      levels[t * stride + c] = Math.round((next() * 2 - 1) * most);
    }
  }
  return { basis, levels, stride };
}

/** Σ_c basis[c][f] · levels[t][c], exact in float64, modulo 2^32; rows padded. */
function reference(it: Case, { basis, levels, stride }: ReturnType<typeof operands>): Int32Array {
  const { tokens, components, features, range: [begin, end] } = it;
  const columns = paddedLength(end - begin);
  const sums = new Int32Array(tokens * columns);
  const row = new Float64Array(end - begin);
  for (let t = 0; t < tokens; t++) {
    row.fill(0);
    for (let c = 0; c < components; c++) {
      const level = levels[t * stride + c];
      for (let f = begin; f < end; f++) row[f - begin] += basis[c * features + f] * level;
    }
    for (let j = 0; j < row.length; j++) sums[t * columns + j] = row[j] | 0;
  }
  return sums;
}

async function multiply(
  backend: Backend,
  integer: GpuInteger,
  { tokens, components, features, range: [begin, end] }: Case,
  { basis, levels, stride }: ReturnType<typeof operands>,
): Promise<Int32Array> {
  const uploaded = integer.uploadBasis(basis, components, features);
  const [from, out] = [upload(backend, levels), dirty(backend, tokens * paddedLength(end - begin) * 4)];
  integer.multiply(uploaded, from, stride, tokens, begin, end, out);
  const sums = new Int32Array((await backend.read(out)).buffer);
  for (const it of [uploaded, from, out]) it.free();
  return sums;
}

testGpus("integer sums are exact, their padding zero", async (backend, integer) => {
  for (const [i, it] of CASES.entries()) {
    const given = operands(it, i);
    const found = await multiply(backend, integer, it, given);
    assertEquals(firstDifference(found, reference(it, given)), -1, JSON.stringify(it));
  }
});

const SIZES = fc.oneof({ weight: 4, arbitrary: fc.nat(40) }, fc.constantFrom(63, 64, 65, 129));

testGpus("integer sums of any shape are exact, of all components or of leading ones", async (backend, integer) => {
  const any = fc.record({
    tokens: SIZES,
    components: SIZES,
    features: SIZES,
    cut: fc.tuple(fc.nat(), fc.nat()),
    large: fc.constantFrom(0, 0.001, 0.3, 1),
    sixteens: fc.nat(9),
    seed: fc.nat(),
  });
  await fc.assert(
    fc.asyncProperty(any, async ({ tokens, components, features, cut, large, sixteens, seed }) => {
      const begin = cut[0] % (features + 1);
      const range = [begin, begin + cut[1] % (features - begin + 1)] as const;
      const stride = 16 * sixteens;
      const it: Case = { tokens, components, features, range, large };
      const { basis, levels: all, stride: from } = operands(it, seed);
      const levels = new Int16Array(tokens * stride);
      for (let t = 0; t < tokens; t++) {
        levels.set(all.subarray(t * from, t * from + Math.min(from, stride)), t * stride);
      }
      const found = await multiply(backend, integer, it, { basis, levels, stride });
      const leading = Math.min(components, stride);
      assertEquals(firstDifference(found, reference({ ...it, components: leading }, { basis, levels, stride })), -1);
    }),
    { numRuns: casesFor(25) },
  );
});

testGpus("integer sums of the leading components alone, where levels have no more", async (backend, integer) => {
  for (const [components, stride] of [[33, 16], [200, 48], [200, 64], [200, 144], [129, 128]]) {
    const it: Case = { tokens: 131, components, features: 40, range: [8, 35], large: 0.1 };
    const given = operands(it, stride);
    const levels = new Int16Array(it.tokens * stride);
    for (let t = 0; t < it.tokens; t++) {
      levels.set(given.levels.subarray(t * given.stride, t * given.stride + stride), t * stride);
    }
    const found = await multiply(backend, integer, it, { ...given, levels, stride });
    const leading = { ...given, levels, stride, basis: given.basis.subarray(0, stride * it.features) };
    const wanted = reference({ ...it, components: Math.min(components, stride) }, leading);
    assertEquals(firstDifference(found, wanted), -1, `${stride} of ${components}`);
  }
});

testGpus("integer sums are exact at the extremes, next to 2³¹", async (backend, integer) => {
  const it: Case = { tokens: 4, components: 1044, features: 9, range: [0, 9], large: 1 };
  const stride = 1056;
  const basis = Int8Array.from({ length: 1044 * 9 }, (_, i) => i % 9 === 8 ? 63 : i % 2 === 0 ? 63 : -63);
  const levels = new Int16Array(4 * stride);
  levels.fill(MAX_LEVEL, 0, 1044).fill(-MAX_LEVEL, stride, stride + 1044);
  // Bytes that carry: 128 is 256 − 128, −129 is −256 + 127.
  levels.fill(128, 2 * stride, 2 * stride + 1044).fill(-129, 3 * stride, 3 * stride + 1044);
  const wanted = reference(it, { basis, levels, stride });
  assertEquals(wanted[8], 63 * MAX_LEVEL * 1044);
  assertEquals(firstDifference(await multiply(backend, integer, it, { basis, levels, stride }), wanted), -1);
});

testGpus("integer sums of views begin where the views do", async (backend, integer) => {
  const it: Case = { tokens: 5, components: 33, features: 40, range: [8, 24], large: 0.3 };
  const given = operands(it, 77);
  const bytes = given.levels.byteLength;
  const all = backend.alloc(512 + bytes);
  const levels = backend.view(all, 256, bytes);
  backend.write(levels, given.levels);
  const out = dirty(backend, 1024);
  const basis = integer.uploadBasis(given.basis, 33, 40);
  integer.multiply(basis, levels, given.stride, 5, 8, 24, backend.view(out, 512, 5 * 16 * 4));
  const found = new Int32Array((await backend.read(out)).buffer);
  assertEquals(firstDifference(found.subarray(128, 128 + 80), reference(it, given)), -1);
  assert(found.subarray(0, 128).every((word) => word === -1));
});

const SHAPES: readonly BlockShape[] = [
  { dtype: "f16", blocks: 3, tokens: 5, dim: 64, rotaryDim: 64 },
  { dtype: "bf16", blocks: 2, tokens: 7, dim: 24, rotaryDim: 16 },
  { dtype: "f32", blocks: 2, tokens: 300, dim: 8, rotaryDim: 8 },
  { dtype: "f16", blocks: 3, tokens: 5, dim: 7, rotaryDim: 4 },
  { dtype: "bf16", blocks: 1, tokens: 3, dim: 5, rotaryDim: 0 },
  { dtype: "f32", blocks: 2, tokens: 3, dim: 6, rotaryDim: 2 },
];

/** scatterSums of random sums, and what the reference makes of the same numbers. */
async function scattered(
  host: Backend,
  backend: Backend,
  integer: GpuInteger,
  shape: BlockShape,
  turned: boolean,
  seed: number,
) {
  const { dtype, blocks, tokens, dim, rotaryDim } = shape;
  const features = blocks * dim;
  const stride = paddedLength(features);
  const next = generator(seed);
  const sums = Int32Array.from({ length: tokens * stride }, () => Math.floor((next() * 2 - 1) * 2 ** (31 * next())));
  const scales = uniform(features, seed + 10, 2 ** -20);
  const tokenScales = uniform(tokens, seed + 20, 3);
  const mean = uniform(features, seed + 30, 2);
  const positions = Int32Array.from({ length: tokens }, (_, t) => 3 * t);
  const table = rotaryDim === 0 || !turned
    ? null
    : rotationTable({ dim: rotaryDim, theta: 10000, pairing: "half-split" }, positions, "redo");
  const rows = new Float32Array(sums.length);
  for (let t = 0; t < tokens; t++) {
    for (let f = 0; f < features; f++) {
      const factor = Math.fround(scales[f] * tokenScales[t]);
      rows[t * stride + f] = Math.fround(Math.fround(sums[t * stride + f]) * factor);
    }
  }
  const bytes = features * tokens * BYTES_PER_ELEMENT[dtype];
  const turns = (of: Backend) => table === null ? null : upload(of, table);
  const wanted = dirty(host, bytes);
  host.scatter(upload(host, rows), shape, turns(host), upload(host, mean), wanted);
  const out = dirty(backend, bytes);
  const own = [sums, scales, tokenScales, mean].map((data) => upload(backend, data));
  const rotation = turns(backend);
  integer.scatterSums(own[0], shape, own[1], own[2], rotation, own[3], out);
  const both = [await backend.read(out, 0, bytes), await host.read(wanted, 0, bytes)];
  for (const it of [...own, out, wanted]) it.free();
  rotation?.free();
  return both;
}

testGpus("scatterSums gives the reference's bits", async (backend, integer) => {
  using host = await createBackend({ backend: "reference" });
  for (const [i, shape] of SHAPES.entries()) {
    for (const turned of [false, true]) {
      const [found, expected] = await scattered(host, backend, integer, shape, turned, i);
      assertEquals(firstDifference(found, expected), -1, `${JSON.stringify(shape)}, rotated: ${turned}`);
    }
  }
  const any = fc.record({
    dtype: fc.constantFrom<DType>("f32", "f16", "bf16"),
    blocks: fc.nat(4),
    tokens: fc.nat(20),
    dim: fc.oneof(fc.integer({ min: 1, max: 27 }), fc.constantFrom(16, 24, 32, 64)),
    half: fc.nat(32),
    turned: fc.boolean(),
    seed: fc.nat(1 << 20),
  });
  await fc.assert(
    fc.asyncProperty(any, async ({ half, turned, seed, ...rest }) => {
      const shape = { ...rest, rotaryDim: 2 * Math.min(half, rest.dim >> 1) };
      const [found, expected] = await scattered(host, backend, integer, shape, turned, seed);
      assertEquals(firstDifference(found, expected), -1);
    }),
    { numRuns: casesFor(25) },
  );
});

testGpus("integer kernels refuse what does not fit", (backend, integer) => {
  assertThrows(() => integer.uploadBasis(new Int8Array(5), 2, 3), RangeError, "5 elements");
  assertThrows(() => integer.uploadBasis(Int8Array.of(0, 0, 64, 0), 2, 2), RangeError, "is 64, expected −63 … 63");
  const basis = integer.uploadBasis(new Int8Array(20 * 8), 20, 8);
  const [levels, sums] = [backend.alloc(2 * 32 * 2), backend.alloc(2 * 8 * 4)];
  assertThrows(() => integer.multiply(basis, levels, 40, 2, 0, 8, sums), RangeError, '"stride" is 40');
  assertThrows(() => integer.multiply(basis, levels, 32, 3, 0, 8, sums), RangeError, '"levels" has 128 bytes');
  assertThrows(() => integer.multiply(basis, levels, 32, 2, 0, 9, sums), RangeError);
  assertThrows(() => integer.multiply(basis, backend.alloc(192), 32, 3, 0, 8, sums), RangeError, '"sums" has 64 bytes');
  const shape: BlockShape = { dtype: "f32", blocks: 1, tokens: 2, dim: 8, rotaryDim: 0 };
  const [eight, two, none] = [backend.alloc(32), backend.alloc(8), backend.alloc(0)];
  const dst = backend.alloc(64);
  assertThrows(() => integer.scatterSums(sums, shape, two, two, null, eight, dst), RangeError, '"scales"');
  assertThrows(() => integer.scatterSums(sums, shape, eight, none, null, eight, dst), RangeError, '"tokenScales"');
  assertThrows(() => integer.scatterSums(eight, shape, eight, two, null, eight, dst), RangeError);
});
