import { assert, assertEquals } from "deno-std/assert";
import fc from "fast-check";
import { WASM_BUILDS } from "../../src/backend/wasm/exports.ts";
import { supportsBuild } from "../../src/backend/wasm/detect.ts";
import { DenseKernels } from "../../src/backend/wasm/dense_kernels.ts";
import { toHalves } from "../../src/cache/elements.ts";
import { type DenseLayer, productLayer } from "../../src/stages/transform/dense.ts";
import { decodeLatents, encodeLatents } from "../../src/stages/quantize/latent_int8.ts";
import { HostNet } from "../../src/stages/transform/dense_host.ts";
import { ReferenceNet } from "../../src/stages/transform/dense_reference.ts";
import { casesFor } from "../cases.ts";
import { random } from "../synthetic.ts";

/** Numbers of sizes from 2^-spread to 1, some zero. */
function numbers(length: number, seed: number, spread: number): Float32Array {
  const next = random(seed);
  return Float32Array.from({ length }, () => next() < 0.05 ? 0 : (2 * next() - 1) * 2 ** -Math.floor(spread * next()));
}

function layersOf(widths: readonly number[], slope: number, seed: number, spread: number): DenseLayer[] {
  return widths.slice(1).map((outputs, i) => ({
    inputs: widths[i],
    outputs,
    weights: numbers(widths[i] * outputs, seed + i, spread),
    bias: i % 2 === 0 ? numbers(outputs, seed + 10 + i, spread) : null,
    slope: i + 2 < widths.length ? slope : 1,
  }));
}

function identity(n: number): Float32Array {
  return Float32Array.from({ length: n * n }, (_, i) => i % (n + 1) === 0 ? 1 : 0);
}

const bits = (x: Float32Array) => new Uint32Array(x.buffer, x.byteOffset, x.length);

const anyNet = fc.record({
  rows: fc.integer({ min: 0, max: 29 }),
  // The factors of widths are blocks: of what comes, and of what goes.
  from: fc.integer({ min: 1, max: 3 }),
  into: fc.integer({ min: 1, max: 3 }),
  widths: fc.array(fc.integer({ min: 1, max: 13 }), { minLength: 2, maxLength: 4 }),
  slope: fc.constantFrom(1, 0, 0.01, 2),
  // Products of numbers of 2^-80 are subnormal.
  spread: fc.constantFrom(0, 8, 80),
  seed: fc.nat({ max: 1 << 20 }),
});

Deno.test("dense layers: every build gives the reference's bits, whatever the sizes, in blocks or not", async () => {
  for (const build of WASM_BUILDS.filter(supportsBuild)) {
    const kernels = await DenseKernels.open(build);
    fc.assert(
      fc.property(anyNet, ({ rows, from, into, widths: some, slope, spread, seed }) => {
        const widths = some.map((width, i) => (i === 0 ? from : i === some.length - 1 ? into : 1) * width);
        const layers = layersOf(widths, slope, seed, spread);
        const x = numbers(rows * widths[0], seed + 100, spread);
        using host = new HostNet(kernels, layers);
        const wanted = new ReferenceNet(layers).run(x, { from, into });
        // Twice: what the first left in memory must not matter.
        for (let i = 0; i < 2; i++) assertEquals(bits(host.run(x, { from, into })), bits(wanted));
      }),
      { numRuns: casesFor(100) },
    );
    assertEquals(kernels.bytesInUse, 0);
  }
});

Deno.test("dense layers: rows of binary16 and results as binary16 are what converting gives", async () => {
  for (const build of WASM_BUILDS.filter(supportsBuild)) {
    const kernels = await DenseKernels.open(build);
    fc.assert(
      fc.property(anyNet, fc.boolean(), ({ rows, from, into, widths: some, slope, seed }, saturate) => {
        const widths = some.map((width, i) => (i === 0 ? from : i === some.length - 1 ? into : 1) * width);
        // From subnormal to far beyond binary16.
        const layers = layersOf(widths, slope, seed, 12).map((layer) => ({
          ...layer,
          weights: layer.weights.map((w) => w * 16),
        }));
        const x = toHalves(numbers(rows * widths[0], seed + 100, 20).map((v) => v * 2 ** 10));
        using host = new HostNet(kernels, layers);
        const wanted = new ReferenceNet(layers).runToHalves(x, { from, into, saturate });
        assertEquals(host.runToHalves(x, { from, into, saturate }), wanted);
        assertEquals(bits(host.run(x, { from })), bits(new ReferenceNet(layers).run(x, { from })));
      }),
      { numRuns: casesFor(100) },
    );
  }
});

Deno.test("dense layers: infinities and NaN stay what they are, beyond binary16 or saturated", async () => {
  for (const build of WASM_BUILDS.filter(supportsBuild)) {
    using net = new HostNet(await DenseKernels.open(build), [productLayer(Float32Array.of(1), 1, 1)]);
    const x = Float32Array.of(NaN, Infinity, -Infinity, 65503, 65519, -65520, 1e30, -1e30, NaN, 2 ** -24, -(2 ** -25));
    // In whole panels and at their end.
    const wanted = (saturate: boolean) => toHalves(x, saturate);
    const most = [0x7e00, 0x7c00, 0xfc00, 0x7bff, 0x7bff, 0xfbff, 0x7bff, 0xfbff, 0x7e00, 1, 0x8000];
    assertEquals([...wanted(true)], most);
    assertEquals([...wanted(false)].slice(5, 8), [0xfc00, 0x7c00, 0xfc00]);
    // A NaN's sign is the engine's.
    const plain = (halves: Uint16Array) => halves.map((half) => (half & 0x7fff) > 0x7c00 ? 0x7e00 : half);
    // The sum begins with +0, so that −2^-25, which rounds to −0, is all that is negative and zero.
    for (const saturate of [true, false]) {
      assertEquals(plain(net.runToHalves(x, { saturate })), wanted(saturate));
      // Vectors: 1e30 becomes infinite, all else is beyond binary16, zero or of its size.
      const layers = [productLayer(identity(4).map((v) => v * 1e10), 4, 4)];
      using wide = new HostNet(await DenseKernels.open(build), layers);
      const four = Float32Array.from({ length: 48 }, (_, i) => [1e30, -1e-6, 3e-6, -7, 1e-20, 0][i % 6]);
      assertEquals(wide.runToHalves(four, { saturate }), new ReferenceNet(layers).runToHalves(four, { saturate }));
    }
  }
});

Deno.test("dense layers: memory that infinities were in does not matter", async () => {
  const kernels = await DenseKernels.open();
  const layers = layersOf([3, 5, 2], 0.1, 1, 0);
  using net = new HostNet(kernels, layers);
  net.run(new Float32Array(48).fill(Infinity));
  const x = numbers(27, 7, 0);
  assertEquals(bits(net.run(x)), bits(new ReferenceNet(layers).run(x)));
});

Deno.test("dense layers: many rows go through in slices, and sums are sums", async () => {
  const kernels = await DenseKernels.open();
  const [rows, inputs, outputs] = [9000, 64, 66];
  const layer = { inputs, outputs, weights: numbers(inputs * outputs, 2, 0), bias: null, slope: 1 };
  const x = numbers(rows * inputs, 3, 0);
  using net = new HostNet(kernels, [layer]);
  const out = net.run(x, { into: 2 });
  for (const r of [0, 1, 3967, 3968, 8999]) {
    for (const j of [0, 65]) {
      let sum = 0;
      for (let i = 0; i < inputs; i++) sum += x[r * inputs + i] * layer.weights[i * outputs + j];
      const block = Math.floor(j / 33);
      assert(Math.abs(out[(block * rows + r) * 33 + j % 33] - sum) < 1e-5);
    }
  }
});

Deno.test("int8 rows: every build gives the reference's codes, limits and results", async () => {
  for (const build of WASM_BUILDS.filter(supportsBuild)) {
    const kernels = await DenseKernels.open(build);
    fc.assert(
      fc.property(anyNet, ({ rows, from, widths: some, slope, spread, seed }) => {
        const widths = [from * some[0], ...some.slice(1)];
        const layers = layersOf(widths, slope, seed, spread);
        const x = numbers(rows * widths[0], seed + 100, spread);
        using host = new HostNet(kernels, layers);
        const reference = new ReferenceNet(layers);
        const wanted = reference.runToInt8(x, { from });
        assertEquals(host.runToInt8(x, { from }), wanted);
        // Back through layers as wide as these results are.
        const back = layersOf([widths[widths.length - 1], 5], 1, seed, spread);
        using there = new HostNet(kernels, back);
        assertEquals(bits(there.run(wanted)), bits(new ReferenceNet(back).run(wanted)));
        assertEquals(there.runToHalves(wanted), new ReferenceNet(back).runToHalves(wanted));
      }),
      { numRuns: casesFor(100) },
    );
  }
});

Deno.test("int8 rows: any numbers, halves and zeros of both signs included", async () => {
  for (const build of WASM_BUILDS.filter(supportsBuild)) {
    const kernels = await DenseKernels.open(build);
    const element = fc.oneof(
      fc.float({ min: -65504, max: 65504, noDefaultInfinity: true }),
      fc.constantFrom(0, -0, 1, -1, 0.5, 2 ** -26, -(2 ** -24), 65504, NaN),
      fc.integer({ min: -600, max: 600 }).map((n) => n / 4),
    );
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), fc.array(element, { maxLength: 60 }), (width, list) => {
        const rows = Float32Array.from(list.slice(0, list.length - list.length % width));
        const count = rows.length / width;
        const wanted = encodeLatents(rows, width);
        const some = { codes: new Uint8Array(rows.length), limits: new Uint16Array(2 * count) };
        const restored = new Float32Array(rows.length);
        kernels.scoped((alloc) => {
          const [at, codes, limits] = [alloc(4 * rows.length), alloc(rows.length), alloc(4 * count)];
          kernels.write(at, rows);
          kernels.exports.encodeLatents(at, count, width, codes, limits);
          kernels.read(codes, some.codes);
          kernels.read(limits, some.limits);
          kernels.exports.decodeLatents(codes, limits, count, width, at);
          kernels.read(at, restored);
        });
        // A row of NaN alone has no limits; recipes refuse it.
        const finite = Array.from({ length: count }, (_, row) => (wanted.limits[2 * row] & 0x7c00) !== 0x7c00);
        assertEquals(some.limits, wanted.limits);
        const back = decodeLatents(wanted, width);
        for (let i = 0; i < rows.length; i++) {
          if (!finite[Math.floor(i / width)]) continue;
          assertEquals(some.codes[i], wanted.codes[i]);
          assert(Object.is(restored[i], back[i]), `${restored[i]}, expected ${back[i]}`);
        }
      }),
      { numRuns: casesFor(1000) },
    );
  }
});
