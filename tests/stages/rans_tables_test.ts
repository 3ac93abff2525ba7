import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import {
  normalizeTables,
  normalizeWeights,
  type RansBits,
  requireTables,
} from "../../src/stages/entropy/rans_tables.ts";

/** Σ −weight · log2(frequency / 2^bits). */
function cost(weights: readonly number[], frequencies: ArrayLike<number>): number {
  return weights.reduce((sum, weight, i) => weight > 0 ? sum - weight * Math.log2(frequencies[i]) : sum, 0);
}

const weightLists = fc.array(
  fc.oneof(fc.constant(0), fc.nat(1000), fc.double({ min: 1e-9, max: 1e9, noNaN: true })),
  { minLength: 1, maxLength: 256 },
).filter((list) => list.some((weight) => weight > 0));

Deno.test("frequencies sum to 2^bits, and exactly the weights above 0 have one", () => {
  fc.assert(fc.property(weightLists, fc.constantFrom<RansBits>(11, 12), (weights, bits) => {
    const frequencies = normalizeWeights(weights, bits);
    assertEquals(frequencies.length, 256);
    assertEquals(frequencies.reduce((sum, f) => sum + f, 0), 1 << bits);
    for (let i = 0; i < 256; i++) assertEquals(frequencies[i] > 0, (weights[i] ?? 0) > 0);
  }));
});

Deno.test("no exchange of one between two symbols makes the code shorter", () => {
  fc.assert(fc.property(weightLists, (weights) => {
    const frequencies = normalizeWeights(weights, 11);
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const gains = weights.map((w, i) => w > 0 ? w * Math.log2((frequencies[i] + 1) / frequencies[i]) : 0);
    const losses = weights.map((w, i) =>
      frequencies[i] > 1 ? w * Math.log2(frequencies[i] / (frequencies[i] - 1)) : Infinity
    );
    assert(Math.max(...gains) <= Math.min(...losses) + 1e-6 * total);
  }));
});

Deno.test("frequencies cost almost nothing over the weights themselves", () => {
  const weights = Array.from({ length: 256 }, (_, i) => Math.round(1e5 * Math.exp(-((i - 128) ** 2) / (2 * 18 ** 2))));
  const sum = weights.reduce((a, b) => a + b, 0);
  const entropy = weights.reduce((bits, w) => w > 0 ? bits - w / sum * Math.log2(w / sum) : bits, 0);
  const coded = cost(weights, normalizeWeights(weights, 12)) / sum + 12;
  assert(coded < entropy * 1.005, `${coded} bits for ${entropy}`);
});

Deno.test("known frequencies", () => {
  assertEquals([...normalizeWeights([1], 11).subarray(0, 2)], [2048, 0]);
  assertEquals([...normalizeWeights([1, 1, 0, 2], 12).subarray(0, 4)], [1024, 1024, 0, 2048]);
  // A rare symbol keeps its one, at the cost of the common ones.
  assertEquals([...normalizeWeights([1e-9, 1e9, 1e9], 11).subarray(0, 3)], [1, 1023, 1024]);
  assertEquals(normalizeWeights(new Array(256).fill(3), 11), new Uint16Array(256).fill(8));
});

Deno.test("wrong weights and tables are refused", () => {
  assertThrows(() => normalizeWeights([], 11), RangeError);
  assertThrows(() => normalizeWeights([0, 0], 11), RangeError);
  assertThrows(() => normalizeWeights([1, -1], 11), RangeError);
  assertThrows(() => normalizeWeights([NaN], 11), RangeError);
  assertThrows(() => normalizeWeights([Infinity], 11), RangeError);
  assertThrows(() => normalizeWeights([1.7e308, 1.7e308], 11), RangeError);
  assertThrows(() => normalizeWeights(new Array(257).fill(1), 11), RangeError);
  assertThrows(() => normalizeWeights([1], 10 as RansBits), RangeError);
  const tables = normalizeTables([[1, 2], [3]], 11);
  requireTables(tables);
  assertThrows(() => requireTables({ bits: 12, frequencies: tables.frequencies }), RangeError);
  assertThrows(() => requireTables({ bits: 11, frequencies: tables.frequencies.subarray(1) }), RangeError);
  assertThrows(() => requireTables({ bits: 11, frequencies: new Uint16Array(0) }), RangeError);
});
