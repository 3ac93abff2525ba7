import { assert, assertEquals, assertLess, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { KvzFormatError } from "../../src/errors.ts";
import { ReferenceRans } from "../../src/stages/entropy/rans_reference.ts";
import type { RansTables } from "../../src/stages/entropy/rans_tables.ts";
import { codedRowsLimit, decodeRows, encodeRows } from "../../src/stages/entropy/row_classes.ts";
import { random } from "./lossless_cases.ts";
import { casesFor } from "../cases.ts";

const rans = (tables: RansTables) => new ReferenceRans(tables);

/** Rows of `kinds` distributions over an alphabet. */
function rowsOf(rows: number, tokens: number, alphabet: number, kinds: number, seed: number): Uint8Array {
  const next = random(seed);
  return Uint8Array.from({ length: rows * tokens }, (_, i) => {
    const skew = 1 + Math.floor(i / tokens) % kinds * 3;
    return Math.floor(alphabet * next() ** skew);
  });
}

const CASES = fc.record({
  rows: fc.integer({ min: 1, max: 40 }),
  tokens: fc.integer({ min: 1, max: 60 }),
  alphabet: fc.constantFrom(1, 4, 16, 256),
  kinds: fc.integer({ min: 1, max: 5 }),
  seed: fc.integer(),
});

Deno.test("rows come back, twice the same bytes, within the limit", async () => {
  await fc.assert(
    fc.asyncProperty(CASES, async ({ rows, tokens, alphabet, kinds, seed }) => {
      const symbols = rowsOf(rows, tokens, alphabet, kinds, seed);
      const bytes = await encodeRows(rans, symbols, rows, tokens);
      assertEquals(bytes, await encodeRows(rans, symbols.slice(), rows, tokens));
      assert(bytes.length <= codedRowsLimit(rows, tokens));
      assertEquals(await decodeRows(rans, bytes, rows, tokens), symbols);
    }),
    { numRuns: casesFor(100) },
  );
});

Deno.test("rows of unlike distributions get tables of their own", async () => {
  const symbols = rowsOf(200, 256, 16, 4, 3);
  const bytes = await encodeRows(rans, symbols, 200, 256);
  assert(bytes[0] >= 3, `${bytes[0] + 1} tables`);
  const shuffled = symbols.slice();
  const next = random(1);
  for (let i = shuffled.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [shuffled[i], shuffled[j]] = [shuffled[j], shuffled[i]];
  }
  assertLess(bytes.length, 0.95 * (await encodeRows(rans, shuffled, 200, 256)).length);
});

Deno.test("truncated, longer and damaged rows are refused or decode to rows", async () => {
  const symbols = rowsOf(30, 40, 16, 3, 9);
  const bytes = await encodeRows(rans, symbols, 30, 40);
  for (let length = 0; length < bytes.length; length++) {
    await assertRejects(() => decodeRows(rans, bytes.subarray(0, length), 30, 40), KvzFormatError);
  }
  await assertRejects(() => decodeRows(rans, Uint8Array.of(...bytes, 0, 0), 30, 40), KvzFormatError);
  for (let bit = 0; bit < 8 * bytes.length; bit++) {
    const damaged = bytes.slice();
    damaged[bit >> 3] ^= 1 << (bit & 7);
    await decodesOrRefuses(() => decodeRows(rans, damaged, 30, 40), 1200);
  }
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), fc.integer({ min: 0, max: 15 }), async (any, tables) => {
      if (any.length > 0) any[0] = tables;
      await decodesOrRefuses(() => decodeRows(rans, any, 5, 7), 35);
    }),
  );
});

async function decodesOrRefuses(decode: () => Promise<Uint8Array>, length: number): Promise<void> {
  let symbols: Uint8Array;
  try {
    symbols = await decode();
  } catch (error) {
    assert(error instanceof KvzFormatError, `${error}`);
    return;
  }
  assertEquals(symbols.length, length);
}
