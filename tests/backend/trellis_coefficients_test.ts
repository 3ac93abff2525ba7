/** Coefficients → sixteenths of a step on the GPU backends: the host's float64, bit by bit. */
import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import type { Backend } from "../../src/backend/backend.ts";
import { levelStride } from "../../src/backend/gpu/trellis.ts";
import { tokenMajor } from "../../src/stages/quantize/trellis/gpu_side.ts";
import { stepOf } from "../../src/stages/quantize/trellis/step.ts";
import { toSubsteps } from "../../src/stages/quantize/trellis/substeps.ts";
import { withScratch } from "../../src/stages/scratch.ts";
import { normal, uniform } from "../stages/trellis/cases.ts";
import { testTrellis } from "./trellis_gpus.ts";
import { casesFor } from "../cases.ts";

testTrellis("coefficients become the sixteenths that the host makes of them", async (backend, { encoder }) => {
  const [components, tokens, stride, gain] = [45, 70, 48, 4];
  const deviate = normal(5);
  await withScratch(backend, async (scratch) => {
    const halves = [0, 1].map(() => Float32Array.from({ length: 2 * tokens * stride }, () => 40 * deviate()));
    const sums = [0, 1].map((chunk) => {
      const out = new Float32Array(tokens * components);
      for (const half of halves) {
        for (let t = 0; t < tokens; t++) {
          for (let c = 0; c < components; c++) {
            out[t * components + c] += gain * half[(chunk * tokens + t) * stride + c];
          }
        }
      }
      return out;
    });
    const batch = { chunks: 2, components, tokens };
    const buffers = { first: scratch.upload(halves[0]), second: scratch.upload(halves[1]), stride, gain };
    const largest = scratch.alloc(32);
    encoder.magnitudes(buffers, batch, largest);
    const found = new Float64Array((await backend.read(largest, 0, 32)).buffer);
    const wanted = sums.map((values) => toSubsteps(values, components, tokens, 120));
    for (const chunk of [0, 1]) {
      let [most, mostSum] = [0, 0];
      for (let t = 0; t < tokens; t++) {
        let sum = 0;
        for (let c = 0; c < components; c++) sum += Math.abs(sums[chunk][t * components + c]);
        mostSum = Math.max(mostSum, sum);
      }
      for (const value of sums[chunk]) most = Math.max(most, Math.abs(value));
      assertEquals(found.slice(2 * chunk, 2 * chunk + 2), Float64Array.of(most, mostSum));
    }
    const factors = scratch.upload(Float64Array.from(wanted, ({ s }) => 16 / stepOf(s)));
    const rowStride = levelStride(components);
    for (const first of [0, 3]) {
      const length = (first + tokens) * rowStride;
      const rows = scratch.upload(new Int32Array(2 * length).fill(-1));
      encoder.substeps(buffers, batch, first, factors, rows);
      const all = new Int32Array((await backend.read(rows)).buffer);
      for (const chunk of [0, 1]) {
        const rowsWanted = new Int32Array(length).fill(-1, 0, first * rowStride);
        tokenMajor(wanted[chunk].y, components, tokens, rowsWanted.subarray(first * rowStride));
        assertEquals(all.slice(chunk * length, (chunk + 1) * length), rowsWanted);
      }
    }
    halves[1][7] = NaN;
    encoder.magnitudes({ ...buffers, second: scratch.upload(halves[1]) }, batch, largest);
    assert(Number.isNaN(new Float64Array((await backend.read(largest, 0, 8)).buffer)[0]));
  });
});

/** A float32 of any sign, 2^least to 2^most. */
function spread(next: () => number, least: number, most: number): number {
  const magnitude = (1 + next()) * 2 ** Math.floor(least + (most - least) * next());
  return Math.fround(next() < 0.5 ? -magnitude : magnitude);
}

testTrellis("sums of magnitudes are those of float64", async (backend, { encoder }) => {
  const cases = fc.record({
    seed: fc.nat(1e6),
    components: fc.integer({ min: 1, max: 100 }),
    tokens: fc.constantFrom(1, 3, 64, 65, 150),
    octaves: fc.constantFrom(1, 4, 29, 60, 200),
  });
  await fc.assert(
    fc.asyncProperty(cases, async ({ seed, components, tokens, octaves }) => {
      const next = uniform(seed);
      const values = Float32Array.from({ length: tokens * components }, () => {
        // Neighbours of powers of two as well: sums whose significands are full of ones or zeros.
        const value = spread(next, -octaves / 2, octaves / 2);
        return next() < 0.3 ? 2 ** Math.round(Math.log2(Math.abs(value))) * (1 - 2 ** -24 * Math.round(next())) : value;
      });
      const [largest, sums] = await measured(backend, values, components, tokens);
      let [most, mostSum] = [0, 0];
      for (let t = 0; t < tokens; t++) {
        let sum = 0;
        for (let c = 0; c < components; c++) {
          const magnitude = Math.abs(values[t * components + c]);
          most = Math.max(most, magnitude);
          sum += magnitude;
        }
        mostSum = Math.max(mostSum, sum);
      }
      assertEquals([largest, sums], [most, mostSum]);
    }),
    { numRuns: casesFor(40) },
  );
  for (const bad of [NaN, Infinity, -Infinity]) {
    const values = new Float32Array(70).fill(1).with(33, bad);
    const [largest] = await measured(backend, values, 7, 10);
    assert(!Number.isFinite(largest), `${bad}: ${largest}`);
  }
  assertEquals(await measured(backend, new Float32Array(9), 3, 3), [0, 0]);

  async function measured(backend: Backend, values: Float32Array, components: number, tokens: number) {
    return await withScratch(backend, async (scratch) => {
      const [first, second] = [scratch.upload(values), scratch.upload(new Float32Array(values.length))];
      const largest = scratch.alloc(16);
      const batch = { chunks: 1, components, tokens };
      encoder.magnitudes({ first, second, stride: components, gain: 1 }, batch, largest);
      return [...new Float64Array((await backend.read(largest, 0, 16)).buffer)];
    });
  }
});

testTrellis("products are rounded to float64, then to integers", async (backend, { encoder }) => {
  const next = uniform(7);
  const [chunks, components] = [300, 40];
  const factors = new Float64Array(chunks);
  const values = new Float32Array(chunks * components);
  for (let i = 0; i < chunks; i++) {
    const significand = (1 << 23) + 2 * Math.floor(next() * (1 << 22)) + 1;
    const half = Math.floor(next() * 2 ** (next() * 17)) + 0.5;
    // Of the kinds: any; a power of two, so that halves are met; a half divided by a number, which is met or just missed.
    factors[i] =
      [(1 + next()) * 2 ** Math.floor(30 * next() - 15), 2 ** Math.floor(30 * next() - 15), half / significand][i % 3];
    if (i === 0) factors[i] = 0;
    for (let c = 0; c < components; c++) {
      const wanted = spread(next, -4, 16);
      const product = i % 3 === 1 ? Math.round(2 * wanted) / 2 : wanted;
      values[i * components + c] = i === 0 ? wanted : product / factors[i];
    }
    if (i % 3 === 2) {
      for (let c = 0; c < 20; c += 2) values[i * components + c] = (c % 4 === 0 ? 1 : -1) * significand;
    }
    values[i * components + 1] = 0;
  }
  const roundToEven = (x: number) => {
    const rounded = Math.round(x);
    return rounded - x === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
  };
  const found = await withScratch(backend, async (scratch) => {
    const [first, second] = [scratch.upload(values), scratch.upload(new Float32Array(values.length))];
    const rows = scratch.alloc(chunks * levelStride(components) * 4);
    const batch = { chunks, components, tokens: 1 };
    encoder.substeps({ first, second, stride: components, gain: 1 }, batch, 0, scratch.upload(factors), rows);
    return new Int32Array((await backend.read(rows)).buffer);
  });
  let halves = 0;
  for (let i = 0; i < chunks; i++) {
    for (let c = 0; c < components; c++) {
      const product = values[i * components + c] * factors[i];
      const what = `${values[i * components + c]} · ${factors[i]}`;
      assertEquals(found[i * levelStride(components) + c], roundToEven(product) + 0, what);
      if (Math.abs(product % 1) === 0.5 && i % 3 === 2) halves++;
    }
  }
  assert(halves > 100, `${halves} halves met by rounding`);
});

testTrellis("batches beyond what grids and places take are refused", async (backend, { encoder }) => {
  // No buffer of this size is made: the checks come first.
  const huge = { byteLength: 2 ** 50, free() {} };
  const coefficients = { first: huge, second: huge, stride: 8, gain: 1 };
  for (const change of [{ chunks: 65536 }, { tokens: 65536 }, { tokens: 4097 }, { components: 0 }]) {
    const batch = { chunks: 1, components: 8, tokens: 8, ...change };
    const [name] = Object.keys(change);
    assertThrows(() => encoder.magnitudes(coefficients, batch, huge), RangeError, `"${name}" is`);
    assertThrows(() => encoder.substeps(coefficients, batch, 0, huge, huge), RangeError, `"${name}" is`);
  }
  await backend.read(backend.alloc(4));
});
