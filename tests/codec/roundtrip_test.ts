import { assert, assertEquals, assertLess } from "deno-std/assert";
import fc from "fast-check";
import { openCodec } from "../../src/codec/open.ts";
import { splitTokens } from "../../src/stages/tokens/split.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";
import { BACKENDS } from "./backends.ts";
import { relativeError } from "./helpers.ts";

const profile = syntheticProfile();

for (const [name, options] of BACKENDS) {
  Deno.test(`compress and decompress, ${name}`, async (t) => {
    await using codec = await openCodec(profile, options);

    for (const tokens of [0, 1, 4, 131, 132]) {
      await t.step(`${tokens} tokens fit sinks and window: bit-exact`, async () => {
        // A file without tokens cannot say that they had ids.
        const cache = syntheticCache(tokens, { inputIds: tokens > 0 });
        const { bytes, report } = await codec.compress(cache, { ratio: 8 });
        const { cache: back } = await codec.decompress(bytes);
        assert(back.equals(cache));
        assertEquals(report.paperRatio, null);
      });
    }

    for (const tokens of [133, 388, 389, 700]) {
      await t.step(`${tokens} tokens: window bit-exact, the rest within the bound`, async () => {
        const cache = syntheticCache(tokens, { seed: tokens });
        const { bytes } = await codec.compress(cache, { ratio: 4 });
        const { cache: back } = await codec.decompress(bytes);
        assert(back.slice(tokens - 128, tokens).equals(cache.slice(tokens - 128, tokens)));
        assertEquals(back.positions, cache.positions);
        assertEquals(back.inputIds, cache.inputIds);
        // E4M3 has 3 fraction bits: half a step is at most 1/16 of a value.
        for (const kind of ["key", "value"] as const) assertLess(relativeError(cache, back, kind, 0, 4), 1 / 16);
        assertLess(relativeError(cache, back, "key", 4, tokens - 128), 0.2);
        assertLess(relativeError(cache, back, "value", 4, tokens - 128), 0.2);
      });
    }

    await t.step("a higher ratio costs more error and fewer bytes", async () => {
      const cache = syntheticCache(400);
      const low = await codec.compress(cache, { ratio: 3 });
      const high = await codec.compress(cache, { ratio: 12 });
      assertLess(high.report.bytesOut, low.report.bytesOut);
      const a = await codec.decompress(low.bytes);
      const b = await codec.decompress(high.bytes);
      for (const kind of ["key", "value"] as const) {
        assertLess(relativeError(cache, a.cache, kind, 4, 272), relativeError(cache, b.cache, kind, 4, 272));
      }
    });

    for (const dtype of ["f32", "bf16"] as const) {
      await t.step(`${dtype} caches`, async () => {
        const cache = syntheticCache(300, { dtype });
        const { bytes } = await codec.compress(cache, { ratio: 4, window: 32 });
        const { cache: back } = await codec.decompress(bytes);
        assertEquals(back.dtype, dtype);
        assert(back.slice(268, 300).equals(cache.slice(268, 300)));
        assertLess(relativeError(cache, back, "key", 0, 268), 0.2);
      });
    }

    await t.step("explicit positions with gaps", async () => {
      const positions = Int32Array.from({ length: 300 }, (_, i) => i * 3 + (i > 100 ? 50 : 0));
      const cache = syntheticCache(300, { positions });
      const { bytes } = await codec.compress(cache, { ratio: 4, window: 16 });
      const { cache: back } = await codec.decompress(bytes);
      assertEquals(back.positions, positions);
      assertLess(relativeError(cache, back, "key", 0, 284), 0.2);
    });

    await t.step("encoding is deterministic", async () => {
      const cache = syntheticCache(500);
      const first = await codec.compress(cache, { ratio: 6 });
      const second = await codec.compress(cache, { ratio: 6 });
      assertEquals(first.bytes, second.bytes);
    });
  });
}

Deno.test("any number of threads gives the same bytes", async () => {
  const cache = syntheticCache(900);
  const files: Uint8Array[] = [];
  for (const threads of [1, 2, 3]) {
    await using codec = await openCodec(profile, { threads });
    assertEquals(codec.info.threads, threads);
    const { bytes } = await codec.compress(cache, { ratio: 6 });
    const { cache: back } = await codec.decompress(bytes);
    assertEquals(back.tokens, 900);
    files.push(bytes);
  }
  assertEquals(files[1], files[0]);
  assertEquals(files[2], files[0]);
});

Deno.test("splitTokens covers every token once", () => {
  fc.assert(fc.property(fc.nat(2000), fc.nat(300), fc.nat(300), (tokens, sinks, window) => {
    const { codedBegin, codedEnd } = splitTokens(tokens, sinks, window);
    assert(0 <= codedBegin && codedBegin <= codedEnd && codedEnd <= tokens);
    if (tokens > sinks + window) assertEquals([codedBegin, tokens - codedEnd], [sinks, window]);
    else assertEquals([codedBegin, codedEnd], [0, 0]);
  }));
});

Deno.test("property: any geometry of tokens, sinks, window and ratio round-trips", async () => {
  await using codec = await openCodec(profile);
  const geometry = fc.record({
    tokens: fc.nat(600),
    sinks: fc.nat(9),
    window: fc.nat(200),
    ratio: fc.double({ min: 1, max: 100, noNaN: true }),
    firstPosition: fc.nat(5000),
  });
  await fc.assert(
    fc.asyncProperty(geometry, async ({ tokens, sinks, window, ratio, firstPosition }) => {
      const cache = syntheticCache(tokens, { firstPosition, seed: tokens, inputIds: tokens > 0 });
      const { bytes } = await codec.compress(cache, { ratio, sinks, window });
      const { cache: back } = await codec.decompress(bytes);
      assertEquals(back.positions, cache.positions);
      const raw = tokens <= sinks + window ? 0 : tokens - window;
      assert(back.slice(raw, tokens).equals(cache.slice(raw, tokens)));
      // Dropping every component leaves the mean: never worse than the energy of the data around it.
      if (raw > 0) assertLess(relativeError(cache, back, "key", 0, raw), 1.2);
    }),
    { numRuns: 40 },
  );
});
