import { assert, assertEquals } from "deno-std/assert";
import type { DType } from "../../src/cache/types.ts";
import { ReferenceRans } from "../../src/stages/entropy/rans_reference.ts";
import { LosslessCoder } from "../../src/stages/lossless/coder.ts";
import { decodeBlocks, LOOPS } from "./lossless_cases.ts";

/** As tests/stages/make_lossless_golden.py writes it. */
interface Golden {
  readonly dtype: DType;
  readonly blocks: number;
  readonly dim: number;
  readonly tokens: number;
  readonly turns: readonly number[];
  /** Position of the first token. */
  readonly first: number;
  readonly elements: string;
  readonly contexts: string;
  readonly symbols: string;
  readonly planes: string;
  readonly escapes: string;
}

const GOLDEN: readonly Golden[] = JSON.parse(
  await Deno.readTextFile(new URL("./lossless_golden.json", import.meta.url)),
);

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16));
}

Deno.test("golden chunks hold every mode and element type", () => {
  const found = GOLDEN.map(({ dtype, contexts }) => `${dtype} ${parseInt(contexts.slice(0, 2), 16)}`);
  for (const kind of ["f16 0", "f16 1", "f16 2", "bf16 0", "bf16 2", "f32 1", "f32 2"]) {
    assert(found.includes(kind), kind);
  }
  assert(GOLDEN.some(({ escapes }) => escapes.length > 0));
});

for (const [name, open] of LOOPS) {
  Deno.test(`${name}: chunks that another implementation made decode to its elements`, async () => {
    const loops = await open();
    for (const { dtype, blocks, dim, tokens, turns, first, elements, ...streams } of GOLDEN) {
      const shape = { dtype, blocks, dim, turns: Uint32Array.from(turns) };
      const coder = new LosslessCoder(loops, (tables) => new ReferenceRans(tables), shape);
      const positions = Int32Array.from({ length: tokens }, (_, t) => first + t);
      const decoded = await decodeBlocks(
        coder,
        {
          contexts: bytesOf(streams.contexts),
          symbols: bytesOf(streams.symbols),
          planes: bytesOf(streams.planes),
          escapes: bytesOf(streams.escapes),
        },
        tokens,
        positions,
      );
      assertEquals(decoded, bytesOf(elements), `${dtype}, ${streams.contexts.slice(0, 6)}`);
    }
  });
}
