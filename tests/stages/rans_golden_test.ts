import { assertEquals } from "deno-std/assert";
import { escapeLevels, unescapeLevels } from "../../src/stages/entropy/escapes.ts";
import type { RansContexts } from "../../src/stages/entropy/rans_contexts.ts";
import type { RansBits } from "../../src/stages/entropy/rans_tables.ts";
import { CODERS } from "./rans_cases.ts";

interface Golden {
  readonly variant: RansContexts["variant"];
  readonly bits: RansBits;
  readonly rows: number;
  readonly tokens: number;
  readonly frequencies: string;
  readonly limits: string;
  readonly tableOf: string;
  readonly classes: string;
  readonly kinds: string;
  readonly next: string;
  readonly levels: string;
  readonly symbols: string;
  readonly escapes: string;
  readonly stream: string;
}

/** Written by tests/stages/make_rans_golden.py. */
const GOLDEN: readonly Golden[] = JSON.parse(
  await Deno.readTextFile(new URL("./rans_golden.json", import.meta.url)),
);

function fromHex(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

function contextsOf({ variant, tableOf, classes, kinds, next }: Golden): RansContexts {
  if (variant === "plain") return { variant, tableOf: new Uint16Array(fromHex(tableOf).buffer) };
  return { variant, classes: fromHex(classes), kinds: fromHex(kinds), next: fromHex(next) };
}

Deno.test("golden vectors hold all that they should", () => {
  assertEquals(GOLDEN.map(({ variant, bits }) => `${variant} ${bits}`), [
    ...["plain 11", "plain 12", "plain 12", "trellis 11", "trellis 12"],
  ]);
  assertEquals(GOLDEN.filter(({ escapes }) => escapes.length > 0).length, 4);
});

for (const [i, golden] of GOLDEN.entries()) {
  const { rows, tokens, bits } = golden;
  const contexts = contextsOf(golden);
  const symbols = fromHex(golden.symbols);
  const limits = fromHex(golden.limits);

  Deno.test(`golden ${i}: levels are the symbols and escapes of the Python implementation`, () => {
    const levels = new Int32Array(fromHex(golden.levels).buffer);
    const escapes = fromHex(golden.escapes);
    assertEquals(escapeLevels(levels, rows, tokens, contexts, limits), { symbols, escapes });
    assertEquals(unescapeLevels(symbols, escapes, rows, tokens, contexts, limits), levels);
  });

  for (const [label, open] of CODERS) {
    Deno.test(`golden ${i}, rans ${label}: the stream is that of the Python implementation`, async () => {
      const rans = await open({ bits, frequencies: new Uint16Array(fromHex(golden.frequencies).buffer) });
      assertEquals(await rans.encode(symbols, rows, tokens, contexts), fromHex(golden.stream));
      assertEquals(await rans.decode(fromHex(golden.stream), rows, tokens, contexts), symbols);
    });
  }
}
