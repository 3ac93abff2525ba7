import { assert, assertAlmostEquals, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { fromFloat32, toFloat32 } from "../../src/cache/elements.ts";
import { parseHfRope } from "../../src/cache/hf_config.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import { convertPairing } from "../../src/cache/pairing.ts";
import {
  ropeFrequencies,
  ropeMagnitude,
  rotateKeys,
  rotationTable,
  shiftTable,
  yarnAttentionFactor,
} from "../../src/cache/rope.ts";
import type { RopePairing, RopeScaling, RopeSpec } from "../../src/cache/types.ts";
import golden from "./rope_golden.json" with { type: "json" };
import { heldOutError } from "./pca.ts";
import { exists, readSample, SAMPLE, sharedSample, SMOLLM2 } from "./sample.ts";

type Golden = {
  config: Record<string, unknown>;
  inverseFrequencies: number[];
  attentionFactor: number;
  position: number;
  key: number[];
  rotatedKey: number[];
};

for (const [name, wanted] of Object.entries(golden as unknown as Record<string, Golden>)) {
  Deno.test(`RoPE "${name}" has the frequencies, attention factor and keys of transformers`, () => {
    const rope = parseHfRope(wanted.config)!;
    const frequencies = ropeFrequencies(rope);
    assertEquals(frequencies.length, wanted.inverseFrequencies.length);
    // The golden numbers are float32.
    frequencies.forEach((f, i) => assertAlmostEquals(f / wanted.inverseFrequencies[i], 1, 2e-6));
    assertAlmostEquals(ropeMagnitude(rope), wanted.attentionFactor, 1e-12);

    const shape = { dtype: "f32", tokens: 1, dim: wanted.key.length, rotaryDim: rope.dim } as const;
    const positions = Int32Array.of(wanted.position);
    const rotated = rotateKeys(
      fromFloat32(Float32Array.from(wanted.key), "f32"),
      shape,
      rotationTable(rope, positions, "redo"),
    );
    // Angles of up to 5000 in float32 carry errors of up to 5000 · 2⁻²³.
    toFloat32(rotated, "f32").forEach((x, i) => assertAlmostEquals(x, wanted.rotatedKey[i], 2e-3));
    const undone = rotateKeys(rotated, shape, rotationTable(rope, positions, "undo"));
    toFloat32(undone, "f32").forEach((x, i) => assertAlmostEquals(x, wanted.key[i], 1e-6));
  });
}

/** The definition: pair i is the complex number (x + iy), multiplied by magnitude · e^(i·position·frequency). */
function rotateByDefinition(key: number[], pairing: RopePairing, rope: RopeSpec, position: number): number[] {
  const out = key.slice();
  const half = rope.dim / 2;
  const frequencies = ropeFrequencies(rope);
  for (let i = 0; i < half; i++) {
    const [a, b] = pairing === "half-split" ? [i, i + half] : [2 * i, 2 * i + 1];
    const modulus = Math.hypot(key[a], key[b]) * ropeMagnitude(rope);
    const argument = Math.atan2(key[b], key[a]) + position * frequencies[i];
    out[a] = modulus * Math.cos(argument);
    out[b] = modulus * Math.sin(argument);
  }
  return out;
}

const scalings: fc.Arbitrary<RopeScaling | undefined> = fc.oneof(
  fc.constant(undefined),
  fc.record({ type: fc.constant("linear" as const), factor: fc.double({ min: 1, max: 64, noNaN: true }) }),
  fc.record({
    type: fc.constant("llama3" as const),
    factor: fc.double({ min: 1, max: 64, noNaN: true }),
    lowFreqFactor: fc.constant(1),
    highFreqFactor: fc.double({ min: 1.5, max: 8, noNaN: true }),
    originalMaxPosition: fc.integer({ min: 128, max: 32768 }),
  }),
  fc.record({
    type: fc.constant("yarn" as const),
    factor: fc.double({ min: 1, max: 64, noNaN: true }),
    originalMaxPosition: fc.integer({ min: 128, max: 32768 }),
    betaFast: fc.constant(32),
    betaSlow: fc.constant(1),
    attentionFactor: fc.double({ min: 0.5, max: 2, noNaN: true }),
    truncate: fc.boolean(),
  }),
);

const cases = fc.record({
  half: fc.integer({ min: 1, max: 16 }),
  rest: fc.integer({ min: 0, max: 5 }),
  theta: fc.constantFrom(1000, 10000, 500000),
  scaling: scalings,
  positions: fc.array(fc.integer({ min: 0, max: 100000 }), { minLength: 1, maxLength: 4 }),
  blocks: fc.integer({ min: 1, max: 3 }),
  seed: fc.integer(),
}).map(({ half, rest, theta, scaling, positions, blocks, seed }) => {
  const dim = 2 * half + rest;
  const rope: RopeSpec = { theta, dim: 2 * half, pairing: "half-split", ...(scaling ? { scaling } : {}) };
  const keys = Float32Array.from(
    { length: blocks * positions.length * dim },
    (_, i) => Math.sin((i + 1) * 12.9898 + seed % 1000) * 4,
  );
  const shape = { dtype: "f32" as const, tokens: positions.length, dim, rotaryDim: rope.dim };
  return { rope, keys, shape, positions: Int32Array.from(positions) };
});

Deno.test("RoPE agrees with complex multiplication, in both pairings", () => {
  fc.assert(fc.property(cases, fc.constantFrom<RopePairing>("half-split", "adjacent"), (c, pairing) => {
    const { rope, keys, shape, positions } = c;
    const pairs = { dtype: "f32", dim: shape.dim, rotaryDim: rope.dim } as const;
    const bytes = convertPairing(fromFloat32(keys, "f32"), pairs, pairing, "half-split");
    const rotated = rotateKeys(bytes, shape, rotationTable(rope, positions, "redo"));
    const found = toFloat32(convertPairing(rotated, pairs, "half-split", pairing), "f32");
    for (let row = 0; row * shape.dim < keys.length; row++) {
      const key = Array.from(keys.subarray(row * shape.dim, (row + 1) * shape.dim));
      const wanted = rotateByDefinition(key, pairing, rope, positions[row % positions.length]);
      wanted.forEach((x, i) => assertAlmostEquals(found[row * shape.dim + i], x, 1e-5));
    }
  }));
});

Deno.test("RoPE: undo takes redo back, and the part that is not rotated keeps its bits", () => {
  fc.assert(fc.property(cases, ({ rope, keys, shape, positions }) => {
    const redone = rotateKeys(fromFloat32(keys, "f32"), shape, rotationTable(rope, positions, "redo"));
    const back = toFloat32(rotateKeys(redone, shape, rotationTable(rope, positions, "undo")), "f32");
    keys.forEach((x, i) => assertAlmostEquals(back[i], x, 1e-5));
    const rotated = toFloat32(redone, "f32");
    keys.forEach((x, i) => {
      if (i % shape.dim >= rope.dim) assertEquals(rotated[i], x);
    });
  }));
});

Deno.test("RoPE: shifting rotated keys equals rotating them to the new positions", () => {
  fc.assert(fc.property(cases, fc.integer({ min: -1000, max: 1000 }), ({ rope, keys, shape, positions }, by) => {
    const bytes = fromFloat32(keys, "f32");
    const to = positions.map((p) => p + by);
    const shifted = rotateKeys(
      rotateKeys(bytes, shape, rotationTable(rope, positions, "redo")),
      shape,
      shiftTable(rope, positions, to),
    );
    const wanted = toFloat32(rotateKeys(bytes, shape, rotationTable(rope, to, "redo")), "f32");
    toFloat32(shifted, "f32").forEach((x, i) => assertAlmostEquals(x, wanted[i], 2e-5));
  }));
});

Deno.test("yarnAttentionFactor follows the three forms", () => {
  assertAlmostEquals(yarnAttentionFactor(4), 0.1 * Math.log(4) + 1, 1e-15);
  assertEquals(yarnAttentionFactor(0.5), 1);
  assertAlmostEquals(
    yarnAttentionFactor(40, 0.707, 1),
    (0.0707 * Math.log(40) + 1) / (0.1 * Math.log(40) + 1),
    1e-15,
  );
  assertEquals(yarnAttentionFactor(40, 0.707), yarnAttentionFactor(40));
});

Deno.test("RoPE functions refuse impossible arguments", () => {
  const rope: RopeSpec = { theta: 10000, dim: 8, pairing: "half-split" };
  assertThrows(() => ropeFrequencies({ ...rope, dim: 7 }), RangeError, "RoPE dimension is 7");
  assertThrows(() => ropeFrequencies({ ...rope, theta: NaN }), RangeError, "theta is NaN");
  assertThrows(
    () => ropeFrequencies({ ...rope, scaling: { type: "linear", factor: 0 } }),
    RangeError,
    "scaling factor is 0",
  );
  assertThrows(() => shiftTable(rope, Int32Array.of(1), Int32Array.of(1, 2)), RangeError, "expected 1");
  const table = rotationTable(rope, Int32Array.of(3), "redo");
  const shape = { dtype: "f16", tokens: 1, dim: 8, rotaryDim: 8 } as const;
  assertThrows(() => rotateKeys(new Uint8Array(18), shape, table), RangeError, "Cannot rotate keys");
  assertThrows(() => rotateKeys(new Uint8Array(16), { ...shape, tokens: 2 }, table), RangeError, "Cannot rotate keys");
});

/** Keys as float32 rows [tokens][layers · heads · dim], RoPE undone as if they had the given pairing. */
function keyRows(cache: KvCache, undo: RopePairing | "no"): Float32Array {
  const { layers, kvHeads, keyDim } = SMOLLM2;
  const p = layers * kvHeads * keyDim;
  const out = new Float32Array(cache.tokens * p);
  const table = rotationTable(SMOLLM2.rope!, cache.positions, "undo");
  const pairs = { dtype: "f32", dim: keyDim, rotaryDim: keyDim } as const;
  const shape = { ...pairs, tokens: cache.tokens };
  for (let block = 0; block < layers * kvHeads; block++) {
    let bytes = fromFloat32(toFloat32(cache.key(Math.floor(block / kvHeads), block % kvHeads), "f16"), "f32");
    if (undo !== "no") {
      bytes = rotateKeys(convertPairing(bytes, pairs, undo, "half-split"), shape, table);
    }
    const values = toFloat32(bytes, "f32");
    for (let t = 0; t < cache.tokens; t++) {
      out.set(values.subarray(t * keyDim, (t + 1) * keyDim), t * p + block * keyDim);
    }
  }
  return out;
}

function errorsOfUndo(cache: KvCache, split: number, components: number): [number, number, number] {
  const p = SMOLLM2.layers * SMOLLM2.kvHeads * SMOLLM2.keyDim;
  const error = (undo: RopePairing | "no") => heldOutError(keyRows(cache, undo), p, split, components);
  return [error("half-split"), error("no"), error("adjacent")];
}

function assertUndoIsRight([right, stored, wrong]: [number, number, number]): void {
  assert(right < 0.6 * stored, `error ${right} with RoPE undone, expected below 0.6 × ${stored} as stored`);
  assert(wrong > stored, `error ${wrong} with the wrong pairing, expected above ${stored} as stored`);
}

// With 128 rows to fit on, the right undo still comes to 0.62 × stored; three quarters of this short sample are enough
// for 128 components (0.240, 0.480, 0.702).
Deno.test("undoing RoPE on a real cache makes keys of later positions lie in the subspace of earlier ones", () => {
  const errors = errorsOfUndo(readSample(SAMPLE), 192, 128);
  assertUndoIsRight(errors);
  assertAlmostEquals(errors[0], 0.24, 0.005);
  assertAlmostEquals(errors[1], 0.48, 0.005);
  assertAlmostEquals(errors[2], 0.702, 0.01);
});

const LONG = sharedSample("smollm2-wikitext-1024.safetensors");
Deno.test({
  name: "undoing RoPE on a longer cache: fitted on the first half, 128 components (needs ../shared/samples)",
  ignore: !exists(LONG),
  fn: () => {
    const errors = errorsOfUndo(readSample(LONG), 512, 128);
    assertUndoIsRight(errors);
    assertAlmostEquals(errors[0], 0.234, 0.005);
    assertAlmostEquals(errors[1], 0.524, 0.005);
    assertAlmostEquals(errors[2], 0.758, 0.01);
  },
});
