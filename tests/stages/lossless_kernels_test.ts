import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { fromFloat32 } from "../../src/cache/elements.ts";
import type { DType } from "../../src/cache/types.ts";
import { KvzFormatError } from "../../src/errors.ts";
import type { RowModel } from "../../src/stages/lossless/codes.ts";
import { countedRanges, countStep } from "../../src/stages/lossless/counts.ts";
import { ReferenceLossless, symbolValue } from "../../src/stages/lossless/reference.ts";
import { headsOf, rowGroups, rowOrder } from "../../src/stages/lossless/shape.ts";
import { sampledTokens } from "../../src/stages/lossless/kernels.ts";
import { joinBlocks, LOOPS, losslessCases, random } from "./lossless_cases.ts";
import { casesFor } from "../cases.ts";

const reference = new ReferenceLossless();

/** Any model: the loops need not know where it comes from. */
function anyModel(rows: number, seed: number): RowModel {
  const next = random(seed);
  return {
    classes: Uint8Array.from({ length: rows * 16 }, () => 64 * next()),
    flips: Uint8Array.from({ length: rows * 16 }, () => next() < 0.5 ? 128 : 0),
    octaves: Uint8Array.from({ length: rows }, () => 32 * next()),
  };
}

for (const [name, open] of LOOPS) {
  Deno.test(`${name}: elements split and joined are the same, as the reference splits them`, async () => {
    const loops = await open();
    fc.assert(
      fc.property(losslessCases(), (chunk) => {
        const { data, shape, tokens } = chunk;
        const rows = rowOrder(shape);
        const expected = reference.split(headsOf(data, shape.blocks), shape, tokens, rows);
        const parts = loops.split(headsOf(data, shape.blocks), shape, tokens, rows);
        assertEquals({ ...parts }, { ...expected });
        assertEquals(joinBlocks(loops, expected, shape, tokens, rows), data);
        const begin = shape.blocks >> 1;
        const perBlock = data.length / shape.blocks;
        assertEquals(
          joinBlocks(loops, expected, shape, tokens, rows, begin),
          data.subarray(begin * perBlock),
        );
      }),
      { numRuns: casesFor(100) },
    );
  });

  Deno.test(`${name}: chunks of one shape whose greatest exponents differ are split as the reference splits them`, async () => {
    const loops = await open();
    for (const dtype of ["bf16", "f32"] as const) {
      const shape = { blocks: 3, dim: 17, dtype, turns: new Uint32Array(0) };
      const rows = rowOrder(shape);
      // Where they are near, another base is all that is needed; else escapes. The odd element stands in the last block.
      for (const octaves of [0, 0, 3, -4, 25, -27, 90, -100, 0]) {
        for (const odd of [null, 8, 0, Infinity]) {
          const next = random(octaves);
          const values = Float32Array.from(
            { length: 3 * 17 * 5 },
            () => (next() < 0.5 ? -1 : 1) * (1 + next()) * 2 ** octaves,
          );
          if (odd !== null) values[200] = odd;
          const data = fromFloat32(values, dtype);
          assertEquals({ ...loops.split(headsOf(data, shape.blocks), shape, 5, rows) }, {
            ...reference.split(headsOf(data, shape.blocks), shape, 5, rows),
          });
        }
      }
    }
  });

  Deno.test(`${name}: whatever chunk was before, the base and the escapes are those of the reference`, async () => {
    const loops = await open();
    const chunks = fc.array(
      fc.record({
        octave: fc.integer({ min: -60, max: 60 }),
        near: fc.boolean(),
        spread: fc.integer({ min: 1, max: 34 }),
        odd: fc.array(
          fc.tuple(fc.nat({ max: 254 }), fc.constantFrom(0, 2 ** -70, 2 ** 70, Infinity, NaN)),
          { maxLength: 3 },
        ),
        seed: fc.integer(),
      }),
      { minLength: 2, maxLength: 6 },
    );
    fc.assert(
      fc.property(fc.constantFrom<DType>("bf16", "f32"), chunks, (dtype, list) => {
        const shape = { blocks: 3, dim: 17, dtype, turns: new Uint32Array(0) };
        const rows = rowOrder(shape);
        let octave = 0;
        for (const chunk of list) {
          // Mostly near the one before, where symbols are moved.
          octave = chunk.near ? octave + chunk.octave % 3 : chunk.octave;
          const next = random(chunk.seed);
          const values = Float32Array.from(
            { length: 3 * 17 * 5 },
            () => (next() < 0.5 ? -1 : 1) * (1 + next()) * 2 ** (octave - Math.floor(chunk.spread * next())),
          );
          for (const [at, value] of chunk.odd) values[at] = value;
          const heads = headsOf(fromFloat32(values, dtype), shape.blocks);
          assertEquals({ ...loops.split(heads, shape, 5, rows) }, { ...reference.split(heads, shape, 5, rows) });
        }
      }),
      { numRuns: casesFor(100) },
    );
  });

  Deno.test(`${name}: sums, map and counts are the reference's, bit by bit`, async () => {
    const loops = await open();
    fc.assert(
      fc.property(losslessCases(), fc.integer(), (chunk, seed) => {
        const { data, shape, tokens, positions } = chunk;
        if (tokens === 0) return;
        const rows = rowOrder(shape);
        const model = anyModel(rows.length, seed);
        const results = [loops, reference].map((some) => {
          const { symbols } = some.split(headsOf(data, shape.blocks), shape, tokens, rows);
          const original = symbols.slice();
          const sums = new Float32Array(3 * rows.length);
          const counts = new Uint32Array(64 * 256);
          const groups = rowGroups(shape, positions);
          some.measure(symbols, tokens, groups, sums);
          some.normalize(symbols, tokens, groups, model, counts);
          const mapped = symbols.slice();
          assertEquals(some.denormalize(mapped.slice(), tokens, groups, model), original);
          return { sums: new Uint32Array(sums.buffer), counts, mapped };
        });
        assertEquals(results[0], results[1]);
        assertEquals(results[0].counts.reduce((sum, n) => sum + n), rows.length * tokens);
      }),
      { numRuns: casesFor(100) },
    );
  });

  Deno.test(`${name}: codes, classes and maps of rows are the reference's`, async () => {
    const loops = await open();
    fc.assert(
      fc.property(losslessCases(), fc.integer(), (chunk, seed) => {
        const { shape, tokens, positions } = chunk;
        if (tokens === 0) return;
        const next = random(seed);
        const rows = rowOrder(shape).length;
        const groups = rowGroups(shape, positions);
        // Any sums, those of rows that are zero or alike too: what follows may not depend on how they came about.
        const kinds = [() => 0, () => 1, () => next() - 0.5, () => (next() - 0.5) * 2 ** (48 * next() - 8)];
        const sums = Float32Array.from(
          { length: 3 * rows },
          (_, i) => i % 3 < 2 ? kinds[4 * next() | 0]() : 2 ** (40 * next() - 8),
        );
        const results = [loops, reference].map((some) => {
          const codes = { scales: new Uint8Array(rows), means: new Uint8Array(rows) };
          some.choose(sums, tokens, groups, codes);
          const { classes, flips, octaves } = some.model(codes, tokens, groups);
          return { codes, classes: classes.slice(), flips: flips.slice(), octaves: octaves.slice() };
        });
        assertEquals(results[0], results[1]);
      }),
      { numRuns: casesFor(100) },
    );
  });

  Deno.test(`${name}: of many symbols some are counted, and each that occurs at least once`, async () => {
    const loops = await open();
    const next = random(7);
    // Eight groups of 64 tokens and seven tokens more.
    const [rows, tokens] = [1025, 519];
    assertEquals(countStep(rows * tokens), 2);
    const groups = [
      { begin: 0, end: 400, phases: Uint8Array.from({ length: tokens }, (_, t) => t % 7) },
      { begin: 400, end: rows, phases: null },
    ];
    const model = anyModel(rows, 2);
    const symbols = Uint8Array.from(
      { length: rows * tokens },
      // Most are near one magnitude, few anywhere: many of these occur in one place alone, counted or not.
      () => next() < 0.0005 ? 256 * next() : (next() < 0.5 ? 128 : 0) + 40 + 20 * next() * next(),
    );
    const mapped = symbols.slice();
    const counts = new Uint32Array(64 * 256);
    loops.normalize(mapped, tokens, groups, model, counts);
    const [counted, occurs] = [new Uint32Array(64 * 256), new Uint8Array(64 * 256)];
    for (const { begin, end, phases } of groups) {
      for (let row = begin; row < end; row++) {
        for (let t = 0; t < tokens; t++) {
          const index = model.classes[16 * row + (phases?.[t] ?? 0)] * 256 + mapped[row * tokens + t];
          // Every second 64 tokens, the others in rows next to it; the last seven always.
          if (t >= 512 || ((t >> 6) + row) % 2 === 0) counted[index]++;
          occurs[index] = 1;
        }
      }
    }
    const single = counted.filter((count, i) => count === 0 && occurs[i] === 1).length;
    assert(single > 100, `${single} symbols occur and are not counted`);
    assertEquals(counts, counted.map((count, i) => count || occurs[i]));
    assertEquals(loops.denormalize(mapped, tokens, groups, model), symbols);
  });

  Deno.test(`${name}: symbols elsewhere are mapped where they are`, async () => {
    const loops = await open();
    const model = anyModel(3, 1);
    const symbols = Uint8Array.from({ length: 3 * 20 }, (_, i) => 37 * i);
    const [mapped, expected] = [symbols.slice(), symbols.slice()];
    const [counts, expectedCounts] = [new Uint32Array(64 * 256), new Uint32Array(64 * 256)];
    const groups = [{ begin: 1, end: 3, phases: null }];
    loops.normalize(mapped, 20, groups, model, counts);
    reference.normalize(expected, 20, groups, model, expectedCounts);
    assertEquals(mapped, expected);
    assertEquals(counts, expectedCounts);
  });

  Deno.test(`${name}: a block with too many or too few exponents apart is refused`, async () => {
    const loops = await open();
    const shape = { blocks: 2, dim: 16, dtype: "bf16", turns: new Uint32Array(0) } as const;
    const rows = rowOrder(shape);
    const data = new Uint8Array(2 * 16 * 2 * 2);
    const parts = reference.split(headsOf(data, shape.blocks), shape, 2, rows);
    for (const change of [1, -1]) {
      const escapeCounts = Uint32Array.of(32, 32 + change);
      const escapes = new Uint8Array(64 + change);
      assertThrows(
        () => joinBlocks(loops, { ...parts, escapes, escapeCounts }, shape, 2, rows),
        KvzFormatError,
        "block 1",
      );
    }
  });
}

Deno.test("a symbol's value is the middle of what it stands for", () => {
  assertEquals(symbolValue(16 << 2), 1.125);
  assertEquals(symbolValue((17 << 2) | 3 | 128), -2 * 1.875);
  assertEquals(symbolValue(3), 0);
  assertEquals(symbolValue(31 << 2), 0);
});

Deno.test("sampled tokens lie within the chunk, four in a row", () => {
  for (const tokens of [0, 1, 3, 4, 5, 6, 7, 8, 63, 64, 255, 256, 511, 512, 4096]) {
    const sampled = sampledTokens(tokens);
    assertEquals(sampled.every((t) => t < tokens), true);
    if (tokens < 4) assertEquals(sampled.length, tokens);
    else {
      assertEquals(sampled.length > 0 && sampled.length % 4 === 0, true);
      sampled.forEach((t, i) => assertEquals(i % 4 === 0 || t === sampled[i - 1] + 1, true));
    }
  }
});

Deno.test("the range of exponents ends with the greatest finite one", () => {
  const shape = { blocks: 1, dim: 4, dtype: "f32", turns: new Uint32Array(0) } as const;
  const data = new Uint8Array(Float32Array.of(1, -(2 ** 40), Infinity, 2 ** -60).buffer);
  const { base, symbols, escapes } = reference.split(headsOf(data, shape.blocks), shape, 1, rowOrder(shape));
  assertEquals(base, 127 + 40 - 31);
  assertEquals([symbols[1] >> 7, (symbols[1] >> 2) & 31], [1, 31]);
  assertEquals(escapes, Uint8Array.of(127, 255, 67));
});

Deno.test("the more symbols, the smaller the share that is counted, never fewer than 2^18", () => {
  assertEquals([0, 2 ** 19 - 1, 2 ** 19, 2 ** 20, 2880 * 2 * 512, 2 ** 22, 2 ** 30].map(countStep), [
    1,
    1,
    2,
    4,
    8,
    16,
    16,
  ]);
});

Deno.test("ranges hold counted symbols only, the most frequent one in them, and go on from 127 to 0", () => {
  fc.assert(
    fc.property(fc.integer(), fc.double({ min: 0, max: 1, noNaN: true }), (seed, share) => {
      const next = random(seed);
      const counts = Uint32Array.from({ length: 64 * 256 }, () => next() < share ? 1 + 100 * next() : 0);
      const ranges = countedRanges(counts);
      for (let half = 0; half < 128; half++) {
        const own = Array.from(counts.subarray(128 * half, 128 * (half + 1)));
        const [first, size] = ranges.subarray(2 * half, 2 * half + 2);
        const inside = Array.from({ length: size }, (_, i) => (first + i) % 128);
        assert(inside.every((magnitude) => own[magnitude] > 0));
        const top = own.indexOf(Math.max(...own));
        assertEquals(inside.includes(top), own[top] > 0);
        if (size === 0 || size === 128) continue;
        assertEquals([own[(first + 127) % 128], own[(first + size) % 128]], [0, 0]);
      }
    }),
    { numRuns: casesFor(100) },
  );
});
