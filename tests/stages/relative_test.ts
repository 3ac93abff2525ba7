import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { bf16ToNumber, f16ToNumber } from "../../src/cache/elements.ts";
import { KvzUnsupportedError } from "../../src/errors.ts";
import {
  alphabetOf,
  dequantizeRelative,
  groupCount,
  type Grouping,
  LEAST_REL,
  quantizeRelative,
  type RelativeShape,
} from "../../src/stages/quantize/relative.ts";
import { random } from "../synthetic.ts";

const place = (group: number) => `group ${group}`;

/** Elements of each group by brute force: from the definition of the axes, not from the code's runs. */
function groups(x: Float32Array, { heads, tokens, dim, block, grouping }: RelativeShape): Map<string, number[]> {
  const out = new Map<string, number[]>();
  for (let i = 0; i < x.length; i++) {
    const [channel, token] = [i % dim, Math.floor(i / dim) % tokens];
    const row = Math.floor(i / dim / tokens);
    const name = [
      Math.floor(row / heads),
      Math.floor(token / block),
      ...(grouping === "token" ? [token] : grouping === "channel" ? [row % heads, channel] : []),
    ].join();
    const list = out.get(name);
    if (list === undefined) out.set(name, [i]);
    else list.push(i);
  }
  return out;
}

const anyCase = fc.record({
  layers: fc.integer({ min: 1, max: 2 }),
  heads: fc.integer({ min: 1, max: 3 }),
  blocks: fc.integer({ min: 1, max: 2 }),
  dim: fc.integer({ min: 1, max: 9 }),
  block: fc.constantFrom(1, 4, 64),
  grouping: fc.constantFrom<Grouping>("block", "token", "channel"),
  // The least often, where codes are the largest.
  rel: fc.oneof(fc.constant(LEAST_REL), fc.double({ min: LEAST_REL, max: 1, noNaN: true })),
  spread: fc.constantFrom(0, 1e-7, 1e-3, 1, 3000),
  offset: fc.constantFrom(0, -0.01, 3, -900),
  seed: fc.nat(),
});

/** Values that differ by their last bit: the range is below all scales of binary16. */
const ONE_ULP = {
  layers: 1,
  heads: 2,
  blocks: 1,
  dim: 1,
  block: 64 as const,
  grouping: "token" as const,
  rel: LEAST_REL,
  spread: 1e-7 as const,
  offset: -0.01 as const,
  seed: 0,
};

Deno.test("no element is off by more than half a step, rel · range / 2 but for the rounding of the scale", () => {
  fc.assert(
    fc.property(anyCase, ({ blocks, rel, spread, offset, seed, ...rest }) => {
      const shape: RelativeShape = { ...rest, tokens: blocks * rest.block };
      const next = random(seed);
      const size = shape.layers * shape.heads * shape.tokens * shape.dim;
      const x = Float32Array.from({ length: size }, () => offset + spread * (next() - next()) * next());
      const ranges = [...groups(x, shape)].map(([name, places]) => {
        const values = places.map((i) => x[i]);
        return { name, places, least: Math.min(...values), most: Math.max(...values) };
      });
      // Codes are integers of 32 bits: a range that is tiny beside its values has none. Where it is just too small or just
      // not, a subnormal scale decides by its rounding. No scale is less than binary16's least.
      const scaleOf = (range: number) => Math.max(2 ** -24, rel * range);
      const reach = Math.max(0, ...ranges.map(({ least, most }) => most > least ? -least / scaleOf(most - least) : 0));
      let codes;
      try {
        codes = quantizeRelative(x, shape, rel, place);
      } catch (error) {
        assert(error instanceof KvzUnsupportedError && reach > 2 ** 30.8, `${error}: codes reach ${reach}`);
        return;
      }
      assert(reach < 2 ** 31.2, `codes reach ${reach}, expected a refusal`);
      assertEquals(codes.scales.length, groupCount(shape));
      const back = dequantizeRelative(codes, shape);
      assert(codes.symbols.every((symbol) => symbol < alphabetOf(rel)));
      for (const { name, places, least, most } of ranges) {
        // binary16: 2^-11 of the scale, or 2^-24 and a step up where its subnormals are coarse; float32 of the result.
        const largest = Math.max(Math.abs(least), Math.abs(most));
        const bound = rel * (most - least) / 2 * (1 + 2 ** -10) + 2 ** -24 + largest * 2 ** -24;
        for (const i of places) {
          assert(Math.abs(back[i] - x[i]) <= bound, `group ${name}: ${x[i]} → ${back[i]}, ± ${bound}`);
        }
      }
    }),
    { examples: [[ONE_ULP]] },
  );
});

Deno.test("a group of one value comes back exactly: any binary16, and bfloat16 from 2^-17 on", () => {
  const shape: RelativeShape = { layers: 1, heads: 1, tokens: 4, dim: 1, block: 4, grouping: "block" };
  const exact = (value: number) => {
    const x = new Float32Array(4).fill(value);
    return dequantizeRelative(quantizeRelative(x, shape, 0.05, place), shape).every((found) => found === value);
  };
  fc.assert(fc.property(fc.nat(0xffff), (bits) => {
    const value = f16ToNumber(bits);
    return !Number.isFinite(value) || exact(value === 0 ? 0 : value);
  }));
  fc.assert(fc.property(fc.nat(0xffff), (bits) => {
    const value = bf16ToNumber(bits);
    return !(Math.abs(value) >= 2 ** -17 && Math.abs(value) <= 2 ** 20) || exact(value);
  }));
});

Deno.test("minima beyond the authors' 8 bits are kept: rel 0.005 of a group about −3", () => {
  const shape: RelativeShape = { layers: 1, heads: 1, tokens: 2, dim: 2, block: 2, grouping: "block" };
  const x = Float32Array.of(-4, -3, -3.5, -3.25);
  const { firsts, symbols } = quantizeRelative(x, shape, 0.005, place);
  assert(firsts[0] < -128, String(firsts[0]));
  assertEquals(Math.max(...symbols), 200);
});

Deno.test("ranges that binary16 has no scale for are refused with their place", () => {
  const shape: RelativeShape = { layers: 1, heads: 1, tokens: 2, dim: 1, block: 2, grouping: "block" };
  assertThrows(
    () => quantizeRelative(Float32Array.of(-1e30, 1e30), shape, 0.1, (group) => `keys, group ${group}`),
    KvzUnsupportedError,
    "keys, group 0",
  );
});
