import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { densify } from "../../src/cache/densify.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { SMALL_MODEL, syntheticCache } from "../synthetic.ts";

const { layers, kvHeads, keyDim, valueDim } = SMALL_MODEL;

/** The cache with only the chosen tokens in every head. */
function keep(cache: KvCache, chosen: (layer: number, head: number) => readonly number[]): KvCache {
  const rows = (bytes: Uint8Array, dim: number, tokens: readonly number[]) =>
    Uint8Array.from(tokens.flatMap((t) => Array.from(bytes.subarray(t * dim * 2, (t + 1) * dim * 2))));
  return KvCache.ragged({
    model: cache.model,
    dtype: cache.dtype,
    blocks: Array.from({ length: layers }, (_, l) =>
      Array.from({ length: kvHeads }, (_, h) => ({
        key: rows(cache.key(l, h), keyDim, chosen(l, h)),
        value: rows(cache.value(l, h), valueDim, chosen(l, h)),
        positions: Int32Array.from(chosen(l, h), (t) => cache.positions[t]),
      }))),
  });
}

Deno.test("what a head holds stays bit by bit, the rest is zero and hidden", () => {
  const tokens = 9;
  const subsets = fc.array(fc.subarray(Array.from({ length: tokens }, (_, t) => t)), {
    minLength: layers * kvHeads,
    maxLength: layers * kvHeads,
  });
  fc.assert(fc.property(subsets, fc.nat(50), (sets, firstPosition) => {
    const full = syntheticCache(tokens, { firstPosition });
    const { cache, bias } = densify(keep(full, (l, h) => sets[l * kvHeads + h]), full.positions);
    assertEquals(cache.ragged, false);
    assertEquals(cache.positions, full.positions);
    for (let l = 0; l < layers; l++) {
      for (let h = 0; h < kvHeads; h++) {
        for (let t = 0; t < tokens; t++) {
          const held = sets[l * kvHeads + h].includes(t);
          assertEquals(bias[(l * kvHeads + h) * tokens + t], held ? 0 : -Infinity);
          for (const [kind, dim] of [["key", keyDim], ["value", valueDim]] as const) {
            const row = cache[kind](l, h).subarray(t * dim * 2, (t + 1) * dim * 2);
            const wanted = full[kind](l, h).subarray(t * dim * 2, (t + 1) * dim * 2);
            assertEquals(row, held ? wanted : new Uint8Array(dim * 2));
          }
        }
      }
    }
  }));
});

Deno.test("a dense cache stays what it is, token ids included", () => {
  const cache = syntheticCache(6);
  const dense = densify(cache);
  assert(dense.cache.equals(cache));
  assert(dense.bias.every((x) => x === 0));
});

Deno.test("tokens that are not wanted are refused", () => {
  const cache = syntheticCache(4);
  assertThrows(
    () => densify(cache, Int32Array.of(0, 1, 2)),
    RangeError,
    "Cannot fill cache: layer 0, head 0 holds position 3, not wanted",
  );
});
