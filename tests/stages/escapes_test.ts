import { assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { EntropyKernels } from "../../src/backend/wasm/entropy_kernels.ts";
import { WASM_BUILDS } from "../../src/backend/wasm/exports.ts";
import { KvzFormatError } from "../../src/errors.ts";
import { escapeLevels, unescapeLevels } from "../../src/stages/entropy/escapes.ts";
import { escapeLevelsOn, unescapeLevelsOn } from "../../src/stages/entropy/rans_levels.ts";
import type { RansContexts } from "../../src/stages/entropy/rans_contexts.ts";
import { generator } from "../backend/backends.ts";
import { NEXT, randomContexts } from "./rans_cases.ts";
import { casesFor } from "../cases.ts";

interface LevelCase {
  readonly rows: number;
  readonly tokens: number;
  readonly levels: Int32Array;
  readonly contexts: RansContexts;
  readonly limits: Uint8Array;
}

/** Levels under a scale that a table's limit rarely, often or always cuts. */
const levelCases: fc.Arbitrary<LevelCase> = fc.record({
  rows: fc.nat(6),
  tokens: fc.oneof(fc.nat(40), fc.integer({ min: 41, max: 90 })),
  variant: fc.constantFrom("plain" as const, "trellis" as const),
  tables: fc.constantFrom(2, 128),
  scale: fc.constantFrom(1, 3, 20, 130, 1000, 2 ** 24),
  seed: fc.nat(),
}).map(({ rows, tokens, variant, tables, scale, seed }) => {
  const next = generator(seed);
  const contexts = randomContexts(variant, rows, tokens, tables, next);
  const levels = Int32Array.from({ length: rows * tokens }, () => (next() * 2 - 1) ** 3 * scale * 1.1)
    .map((k) => Math.max(-(2 ** 24), Math.min(2 ** 24, k)));
  const limits = Uint8Array.from({ length: tables }, () => next() < 0.3 ? 254 : next() * 255);
  return { rows, tokens, levels, contexts, limits };
});

type Escape = typeof escapeLevels;
type Unescape = typeof unescapeLevels;

/** The reference and the kernels' builds. */
const ESCAPERS: readonly (readonly [string, () => Promise<{ escape: Escape; unescape: Unescape }>])[] = [
  // deno-lint-ignore require-await -- one signature for all
  ["reference", async () => ({ escape: escapeLevels, unescape: unescapeLevels })],
  ...WASM_BUILDS.map((build): [string, () => Promise<{ escape: Escape; unescape: Unescape }>] => [
    `wasm ${build}`,
    async () => {
      const kernels = await EntropyKernels.open(build);
      return {
        escape: (...job) => escapeLevelsOn(kernels, ...job),
        unescape: (...job) => unescapeLevelsOn(kernels, ...job),
      };
    },
  ]),
];

for (const [label, open] of ESCAPERS) {
  Deno.test(`escapes ${label}: levels come back, coded as the reference does`, async () => {
    const { escape, unescape } = await open();
    fc.assert(
      fc.property(levelCases, ({ rows, tokens, levels, contexts, limits }) => {
        const { symbols, escapes } = escape(levels, rows, tokens, contexts, limits);
        assertEquals({ symbols, escapes }, escapeLevels(levels, rows, tokens, contexts, limits));
        assertEquals(unescape(symbols, escapes, rows, tokens, contexts, limits), levels);
      }),
      { numRuns: casesFor(100) },
    );
  });

  Deno.test(`escapes ${label}: truncated and surplus escapes are refused`, async () => {
    const { escape, unescape } = await open();
    fc.assert(
      fc.property(levelCases, ({ rows, tokens, levels, contexts, limits }) => {
        const { symbols, escapes } = escape(levels, rows, tokens, contexts, limits);
        for (let length = 0; length < escapes.length; length++) {
          const cut = escapes.subarray(0, length);
          assertThrows(() => unescape(symbols, cut, rows, tokens, contexts, limits), KvzFormatError);
        }
        const longer = Uint8Array.of(...escapes, 0);
        assertThrows(() => unescape(symbols, longer, rows, tokens, contexts, limits), KvzFormatError);
      }),
      { numRuns: casesFor(40) },
    );
  });

  Deno.test(`escapes ${label}: any bytes are refused or give levels that code to the same bytes`, async () => {
    const { escape, unescape } = await open();
    const noise = fc.record({
      base: levelCases,
      symbols: fc.uint8Array({ minLength: 540, maxLength: 540 }),
      few: fc.boolean(),
      escapes: fc.uint8Array({ maxLength: 400 }),
    });
    fc.assert(
      fc.property(noise, ({ base, symbols, few, escapes }) => {
        const { rows, tokens, contexts, limits } = base;
        const count = rows * tokens;
        const some = symbols.slice(0, count).map((symbol) => few && symbol < 250 ? symbol & 1 : symbol);
        const outcome = (run: Unescape): Int32Array | string => {
          try {
            return run(some, escapes, rows, tokens, contexts, limits);
          } catch (error) {
            if (!(error instanceof KvzFormatError)) throw error;
            return error.message;
          }
        };
        const levels = outcome(unescape);
        assertEquals(levels, outcome(unescapeLevels));
        if (typeof levels !== "string") {
          assertEquals(escape(levels, rows, tokens, contexts, limits), { symbols: some, escapes });
        }
      }),
      { numRuns: casesFor(100) },
    );
  });

  Deno.test(`escapes ${label}: known codes, and what is refused`, async () => {
    const { escape, unescape } = await open();
    const plain = { variant: "plain" as const, tableOf: Uint16Array.of(0) };
    const limits = Uint8Array.of(5);
    const levels = Int32Array.of(0, 1, -1, 2, -2, 3, -3, 69, -(2 ** 24), 2 ** 24);
    const { symbols, escapes } = escape(levels, 1, 10, plain, limits);
    // Codes 0 1 2 3 4 | 5 6 137 2^25 2^25 − 1, less 5: 0, 1, 132, 2^25 − 5, 2^25 − 6.
    assertEquals([...symbols], [0, 1, 2, 3, 4, 254, 254, 254, 255, 255]);
    assertEquals([...escapes], [0, 1, 0x84, 1, 0xfb, 0xff, 0xff, 0x0f, 0xfa, 0xff, 0xff, 0x0f]);
    assertEquals(unescape(symbols, escapes, 1, 10, plain, limits), levels);
    const refuses = (symbol: number, ...bytes: number[]) =>
      assertThrows(() => unescape(Uint8Array.of(symbol), Uint8Array.from(bytes), 1, 1, plain, limits), KvzFormatError);
    assertEquals([...unescape(Uint8Array.of(254), Uint8Array.of(0), 1, 1, plain, limits)], [3]);
    refuses(255, 0); // 3 is odd
    refuses(254, 0x80, 0); // two bytes for 0
    refuses(254, 0x84); // truncated
    refuses(254, 0xfc, 0xff, 0xff, 0x0f); // 2^25 + 1 is beyond −2^24
    refuses(254, 0x80, 0x80, 0x80, 0x80, 1); // five bytes
    refuses(5); // at the limit
    refuses(253);
    assertThrows(() => escape(Int32Array.of(2 ** 24 + 1), 1, 1, plain, limits), RangeError);
    assertThrows(() => escape(Int32Array.of(-(2 ** 24) - 1), 1, 1, plain, limits), RangeError);
    assertThrows(() => escape(Int32Array.of(-(2 ** 31)), 1, 1, plain, limits), RangeError);
    assertThrows(() => escape(Int32Array.of(0), 1, 1, plain, Uint8Array.of(255)), RangeError);
    assertThrows(() => escape(Int32Array.of(0), 1, 2, plain, limits), RangeError);
    assertThrows(() => unescape(Uint8Array.of(0), escapes, 1, 2, plain, limits), RangeError);
    const trellis = { variant: "trellis" as const, classes: new Uint8Array(16), kinds: new Uint8Array(1), next: NEXT };
    assertThrows(() => escape(Int32Array.of(0), 1, 1, trellis, limits), RangeError);
  });
}
