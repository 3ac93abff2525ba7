/** Lanes share out a file's last chunks by layers: the same cache, sooner. */
import { assert, assertEquals } from "deno-std/assert";
import fc from "fast-check";
import type { CacheSink, Kind } from "../../src/cache/types.ts";
import { openCodec } from "../../src/codec/open.ts";
import { layerRanges, sharesOf } from "../../src/codec/shares.ts";
import { syntheticCache } from "../synthetic.ts";
import { smallKvzProfile } from "./kvz_profile.ts";

Deno.test("a chunk has as many shares as lanes could take of it, one where others are left for them", () => {
  // tokens, left, lanes, layers → shares
  const cases = [
    [512, 512, 1, 30, 1],
    [512, 512, 2, 30, 2],
    [512, 2048, 2, 30, 1],
    [447, 511, 2, 30, 2],
    [512, 1023, 2, 30, 1],
    [512, 512, 16, 6, 6],
    [512, 1024, 8, 30, 4],
    [1, 2048, 4, 30, 1],
    [512, Infinity, 4, 30, 1],
  ];
  for (const [tokens, left, lanes, layers, wanted] of cases) {
    assertEquals(sharesOf(tokens, left, lanes, layers), wanted, `${[tokens, left, lanes, layers]}`);
  }
});

Deno.test("shares are all layers, each once, and none is empty", () => {
  fc.assert(
    fc.property(
      fc.nat(50),
      fc.integer({ min: 1, max: 80 }),
      fc.integer({ min: 1, max: 80 }),
      (begin, layers, wanted) => {
        const shares = Math.min(wanted, layers);
        const ranges = layerRanges(begin, begin + layers, shares);
        assertEquals(ranges.length, shares);
        assertEquals(ranges[0][0], begin);
        assertEquals(ranges[shares - 1][1], begin + layers);
        ranges.forEach(([from, to], i) => {
          assert(from < to);
          if (i > 0) assertEquals(from, ranges[i - 1][1]);
        });
      },
    ),
  );
});

Deno.test("any number of threads restores the same cache, whole, in part and into a sink", async () => {
  const profile = await smallKvzProfile();
  const cache = syntheticCache(700, { seed: 9 });
  await using alone = await openCodec(profile);
  const { bytes } = await alone.compress(cache);
  for (const threads of [2, 3]) {
    await using codec = await openCodec(profile, { threads });
    for (const options of [{}, { tokens: 650 }, { tokens: 515 }, { layers: [1, 2] as const }, { firstPosition: 40 }]) {
      const { cache: wanted } = await alone.decompress(bytes, options);
      const seen: number[] = [];
      const { cache: back } = await codec.decompress(bytes, { ...options, onProgress: ({ done }) => seen.push(done) });
      assert(back.equals(wanted), JSON.stringify({ threads, options }));
      assertEquals(seen, [...new Set(seen)].sort((a, b) => a - b));
      assertEquals(seen[seen.length - 1], wanted.tokens);
    }
    const writes: [Kind, number, number, number][] = [];
    const sink: CacheSink = {
      write: (kind, layerBegin, begin, tokens) => void writes.push([kind, layerBegin, begin, tokens]),
    };
    await codec.decompressTo(bytes, () => sink);
    // The last chunk comes in shares.
    const last = Math.max(...writes.map(([, , begin]) => begin));
    const shares = writes.filter(([kind, , begin]) => kind === "key" && begin === last).map(([, layer]) => layer);
    assertEquals(shares.length, Math.min(threads, cache.model.layers));
    assertEquals(shares[0], 0);
  }
});
