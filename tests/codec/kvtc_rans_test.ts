import { assert, assertEquals, assertGreater, assertRejects, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { readSafetensors } from "../../src/adapters/safetensors.ts";
import { openCodec } from "../../src/codec/open.ts";
import { inspect } from "../../src/codec/inspect.ts";
import { KvzFormatError } from "../../src/errors.ts";
import { parseProfile } from "../../src/profile/profile_format.ts";
import { rawStream } from "../../src/stages/entropy/deflate.ts";
import { ReferenceRans } from "../../src/stages/entropy/rans_reference.ts";
import type { RansTables } from "../../src/stages/entropy/rans_tables.ts";
import { decodeForm, encodeForm } from "../../src/stages/quantize/coded_streams.ts";
import { decodePlan, encodePlan } from "../../src/stages/quantize/plan_format.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";
import { BACKENDS } from "../backend/backends.ts";

const profile = syntheticProfile();
const rans = (tables: RansTables) => new ReferenceRans(tables);

for (const [name, options] of BACKENDS) {
  Deno.test(`${name}: rANS restores what DEFLATE restores, bit by bit`, async () => {
    await using codec = await openCodec(profile, options);
    for (const tokens of [0, 1, 140, 700]) {
      const cache = syntheticCache(tokens, { inputIds: tokens > 0 });
      const deflated = await codec.compress(cache, { ratio: 6 });
      const coded = await codec.compress(cache, { ratio: 6, entropy: "rans" });
      assertEquals(coded.bytes, (await codec.compress(cache, { ratio: 6, entropy: "rans" })).bytes);
      const whole = (await codec.decompress(deflated.bytes)).cache;
      assert((await codec.decompress(coded.bytes)).cache.equals(whole));
      const layers = await Promise.all([deflated, coded].map(({ bytes }) => Array.fromAsync(codec.layers(bytes))));
      assertEquals(layers[1], layers[0]);
      assertEquals(layers[1].length, 3);
      // CUDA multiplies binary32 where a layer's features begin at no multiple of 8.
      for (const { layer, key, value } of name === "cuda" ? [] : layers[1]) {
        const one = whole.sliceLayers(layer, layer + 1);
        assertEquals([key, value], [one.read("key", 0, tokens), one.read("value", 0, tokens)]);
      }
    }
  });
}

Deno.test("the header says which coder, and DEFLATE is not mentioned", async () => {
  await using codec = await openCodec(profile);
  const cache = syntheticCache(300);
  const coded = await inspect((await codec.compress(cache, { entropy: "rans" })).bytes);
  assertEquals(coded.header.recipe.options.entropy, "rans");
  const plain = (await codec.compress(cache)).bytes;
  assertEquals((await codec.compress(cache, { entropy: "deflate" })).bytes, plain);
  assertEquals("entropy" in (await inspect(plain)).header.recipe.options, false);
  await assertRejects(() => codec.compress(cache, { entropy: "zip" as "rans" }), RangeError, "zip");
});

Deno.test("a grown file with rANS restores what one made at once restores", async () => {
  await using codec = await openCodec(profile);
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 600 }), fc.integer({ min: 1, max: 300 }), async (first, more) => {
      const cache = syntheticCache(first + more, { seed: first });
      const { bytes } = await codec.compress(cache.slice(0, first), { ratio: 6, entropy: "rans", window: 40 });
      const grown = (await codec.append(bytes, cache.slice(first, first + more))).bytes;
      const once = (await codec.compress(cache, { ratio: 6, entropy: "rans", window: 40 })).bytes;
      assert((await codec.decompress(grown)).cache.equals((await codec.decompress(once)).cache));
    }),
    { numRuns: 10 },
  );
});

Deno.test("on the sample rANS makes smaller streams than DEFLATE", async () => {
  const cache = await readSafetensors(await Deno.readFile("samples/smollm2-256.safetensors"));
  await using codec = await openCodec(await parseProfile(await Deno.readFile("samples/smollm2-demo.kvzp")));
  const ratio = async (entropy: "deflate" | "rans") =>
    (await codec.compress(cache, { ratio: 32, window: 0, entropy })).report.paperRatio!;
  assertGreater(await ratio("rans"), await ratio("deflate"));
});

Deno.test("plans tell the coder in a last byte", () => {
  const plan = { key: [{ first: 0, size: 16, type: 2 }], value: [] } as const;
  const deflated = encodePlan(plan);
  const coded = encodePlan({ ...plan, entropy: "rans" });
  assertEquals(coded, Uint8Array.of(...deflated, 1));
  assertEquals(decodePlan(coded).entropy, "rans");
  assertEquals("entropy" in decodePlan(deflated), false);
  for (const rest of [[0], [2], [1, 1]]) {
    assertThrows(() => decodePlan(Uint8Array.of(...deflated, ...rest)), KvzFormatError);
  }
});

Deno.test("any stream of any form comes back; damaged ones are refused or have the form's length", async () => {
  const cases = fc.record({
    rows: fc.integer({ min: 0, max: 20 }),
    bits: fc.constantFrom(2, 4, 8),
    tokens: fc.integer({ min: 1, max: 50 }),
    bytes: fc.uint8Array({ minLength: 1000, maxLength: 1000, size: "max" }),
    constant: fc.boolean(),
    at: fc.nat(),
    bit: fc.integer({ min: 0, max: 7 }),
  });
  await fc.assert(fc.asyncProperty(cases, async ({ rows, bits, tokens, bytes, constant, at, bit }) => {
    const stride = Math.ceil(tokens * bits / 8);
    const stream = bytes.slice(0, rows * stride);
    // The last byte of a row is padded with zeros.
    const unused = stride * 8 - tokens * bits;
    for (let row = 0; row < rows; row++) {
      if (constant) stream.fill(0x55, row * stride, (row + 1) * stride);
      stream[(row + 1) * stride - 1] &= 0xff >> unused;
    }
    const form = { rows, bits };
    const coded = await encodeForm(rans, form, tokens, stream);
    assertEquals(await decodeForm(rans, form, tokens, coded, "it"), stream);
    const damaged = coded.bytes.slice();
    if (damaged.length > 0) damaged[at % damaged.length] ^= 1 << bit;
    for (const payload of [damaged, coded.bytes.subarray(0, at % (coded.bytes.length + 1)), bytes]) {
      const changed = coded.codec === "raw" ? rawStream(payload) : { ...coded, bytes: payload };
      try {
        assertEquals((await decodeForm(rans, form, tokens, changed, "it")).length, stream.length);
      } catch (error) {
        assert(error instanceof KvzFormatError, `${error}`);
      }
    }
  }));
});
