import { assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { fromFloat32, toFloat32 } from "../../src/cache/elements.ts";
import { convertPairing } from "../../src/cache/pairing.ts";
import { BYTES_PER_ELEMENT, type RopePairing } from "../../src/cache/types.ts";
import { dtypes, noise } from "./arbitrary.ts";

Deno.test("pairing: adjacent[2i] = half[i], adjacent[2i + 1] = half[i + dim/2], the rest in place", () => {
  const shape = { dtype: "f32", dim: 7, rotaryDim: 6 } as const;
  const half = fromFloat32(Float32Array.of(0, 1, 2, 10, 11, 12, 99), "f32");
  const adjacent = convertPairing(half, shape, "half-split", "adjacent");
  assertEquals(toFloat32(adjacent, "f32"), Float32Array.of(0, 10, 1, 11, 2, 12, 99));
  assertEquals(convertPairing(adjacent, shape, "adjacent", "half-split"), half);
});

Deno.test("pairing: there and back is the identity, for every type, offset and partial rotation", () => {
  const pairings = fc.constantFrom<RopePairing>("half-split", "adjacent");
  fc.assert(
    fc.property(
      dtypes,
      fc.nat(5),
      fc.integer({ min: 1, max: 20 }),
      fc.nat(10),
      fc.nat(3),
      pairings,
      pairings,
      (dtype, rows, dim, pairs, offset, from, to) => {
        const shape = { dtype, dim, rotaryDim: Math.min(2 * pairs, dim & ~1) };
        const bytes = noise(offset + rows * dim * BYTES_PER_ELEMENT[dtype], dim).subarray(offset);
        const there = convertPairing(bytes, shape, from, to);
        assertEquals(convertPairing(there, shape, to, from), bytes.slice());
        if (from === to || shape.rotaryDim <= 2) assertEquals(there, bytes.slice());
      },
    ),
  );
});

Deno.test("pairing refuses odd or too large rotated dimensions and broken rows", () => {
  const shape = { dtype: "f16", dim: 4, rotaryDim: 4 } as const;
  const convert = (change: object, length = 8) => () =>
    convertPairing(new Uint8Array(length), { ...shape, ...change }, "adjacent", "half-split");
  assertThrows(convert({ rotaryDim: 3 }), RangeError, "rotated dimension is 3");
  assertThrows(convert({ rotaryDim: 6 }), RangeError, "expected an even number up to 4");
  assertThrows(convert({}, 7), RangeError, "7 bytes are not a multiple of the row's 8");
});
