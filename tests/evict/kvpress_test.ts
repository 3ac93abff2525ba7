/** The same tokens, channels and budgets as kvpress keeps, for the same inputs (make_kvpress_golden.py). */
import { assertEquals } from "deno-std/assert";
import { toFloat32 } from "../../src/cache/elements.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import type { ModelSpec } from "../../src/cache/types.ts";
import { openCodec } from "../../src/codec/open.ts";
import { kvpressBudgets } from "../../src/stages/tokens/budgets.ts";
import { keptTokens } from "./helpers.ts";

interface Golden {
  readonly model: { readonly layers: number; kvHeads: number; keyDim: number; tokens: number; heads: number };
  readonly keys: readonly string[];
  readonly queries: readonly string[];
  readonly cases: readonly { recipe: string; options: Record<string, number | string>; kept: number[][][] }[];
  readonly channels: readonly { options: Record<string, number>; kept: number[][][] }[];
  readonly budgets: readonly [
    layers: number,
    tokens: number,
    window: number,
    beta: number,
    keep: number,
    found: number[],
  ][];
}

const golden: Golden = JSON.parse(await Deno.readTextFile(new URL("kvpress_golden.json", import.meta.url)));
const { layers, kvHeads, keyDim, tokens, heads } = golden.model;
const model: ModelSpec = { layers, kvHeads, keyDim, valueDim: 2, rope: null };
const bytes = (text: string) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const cache = new KvCache({
  model,
  dtype: "f32",
  positions: Int32Array.from({ length: tokens }, (_, t) => t),
  layers: golden.keys.map((key) => ({ key: bytes(key), value: new Uint8Array(kvHeads * tokens * 2 * 4) })),
  queries: { dtype: "f32", heads, tokens, layers: golden.queries.map(bytes) },
});

for (const { recipe, options, kept } of golden.cases) {
  Deno.test(`${recipe} keeps the tokens that kvpress keeps, ${JSON.stringify(options)}`, async () => {
    await using codec = await openCodec(null);
    const file = await codec.compress(cache, { recipe, ...options });
    const { cache: restored } = await codec.decompress(file.bytes);
    assertEquals(keptTokens(restored, cache.positions), kept);
  });
}

for (const { options, kept } of golden.channels) {
  Deno.test(`think keeps the channels that kvpress keeps, ${JSON.stringify(options)}`, async () => {
    await using codec = await openCodec(null);
    const file = await codec.compress(cache, { recipe: "think", ...options });
    const { cache: restored } = await codec.decompress(file.bytes);
    const found = kept.map((_, layer) =>
      Array.from({ length: kvHeads }, (_, head) => {
        const keys = toFloat32(restored.key(layer, head), "f32");
        return Array.from({ length: keyDim }, (_, j) => j).filter((j) =>
          keys.some((x, i) => i % keyDim === j && x !== 0)
        );
      })
    );
    assertEquals(found, kept);
  });
}

Deno.test("pyramidkv has kvpress's budgets", () => {
  for (const [layers, tokens, window, beta, keep, found] of golden.budgets) {
    assertEquals(
      kvpressBudgets({ layers, tokens, window, beta }, keep),
      found,
      `${[layers, tokens, window, beta, keep]}`,
    );
  }
});
