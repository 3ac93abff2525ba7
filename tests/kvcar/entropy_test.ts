import { assert, assertEquals, assertLess, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { inspect } from "../../src/codec/inspect.ts";
import { openCodec } from "../../src/codec/open.ts";
import { KvzFormatError } from "../../src/errors.ts";
import { LatentEntropyCoder } from "../../src/recipes/kvcar/latent_entropy.ts";
import type { TensorCoder } from "../../src/recipes/tensor/coder.ts";
import { ReferenceRans } from "../../src/stages/entropy/rans_reference.ts";
import type { RansTables } from "../../src/stages/entropy/rans_tables.ts";
import { checkRecipe, roundTrip } from "../recipes/recipe_checks.ts";
import { random, SMALL_MODEL, syntheticCache } from "../synthetic.ts";
import { makeProfile, RANDOM } from "./profiles.ts";

const ONE_THREAD = { threads: 1 };

checkRecipe({
  recipe: "kvcar",
  options: { entropy: "rans" },
  model: SMALL_MODEL,
  error: 2e-3,
  append: true,
  profile: await makeProfile({ preRope: true }),
});
checkRecipe({
  recipe: "kvcar",
  options: { latents: "int8", entropy: "rans" },
  model: SMALL_MODEL,
  error: 0.02,
  append: true,
  profile: await makeProfile(),
});

Deno.test("kvcar: rANS restores what plain latents restore, bit by bit, grown files and single layers too", async () => {
  const reuse = { key: { 2: 0, 4: 0 }, value: { 3: 1, 5: 1, 4: 2 } };
  for (
    const profile of [
      await makeProfile({ layers: [0, 1], reuse }),
      await makeProfile({ layers: [1], share: 0.5, ...RANDOM }),
    ]
  ) {
    await using codec = await openCodec(profile, ONE_THREAD);
    for (const latents of ["f16", "int8"] as const) {
      for (const tokens of [1, 40, 300]) {
        const cache = syntheticCache(tokens, { seed: tokens });
        const plain = (await roundTrip(codec, cache, { latents })).cache;
        const { bytes, cache: back } = await roundTrip(codec, cache, { latents, entropy: "rans" });
        assert(back.equals(plain));
        for (let layer = 0; layer < SMALL_MODEL.layers; layer++) {
          const { cache: one } = await codec.decompress(bytes, { layers: [layer, layer + 1] });
          assert(one.equals(plain.sliceLayers(layer, layer + 1)), `layer ${layer}`);
        }
        const first = Math.ceil(tokens / 3);
        const begun = await codec.compress(cache.slice(0, first), { latents, entropy: "rans" });
        const grown = await codec.append(begun.bytes, cache.slice(first, tokens));
        assert((await codec.decompress(grown.bytes)).cache.equals(plain));
      }
    }
  }
});

Deno.test("kvcar: rANS is told in the header; files without it say nothing of it", async () => {
  await using codec = await openCodec(await makeProfile(), ONE_THREAD);
  const optionsOf = async (entropy: "none" | "rans") =>
    (await inspect((await codec.compress(syntheticCache(9), { entropy })).bytes)).header.recipe.options;
  assertEquals((await optionsOf("rans")).entropy, "rans");
  assertEquals("entropy" in await optionsOf("none"), false);
  await assertRejects(() => codec.compress(syntheticCache(9), { entropy: "deflate" }), RangeError, "none, rans");
});

Deno.test("kvcar: latents cost within 6 % of their rows' entropies, and never more than plain ones and a length", async () => {
  const [latent, tokens] = [96, 256];
  const next = random(5);
  // Numbers of a latent spread over 8, 12, 16 … codes, triangular.
  const skewed = Uint8Array.from({ length: latent * tokens }, (_, i) => {
    const spread = 8 + i % latent % 8 * 4;
    return Math.floor(spread * (next() - next()));
  });
  const entropy = Array.from({ length: latent }, (_, i) => entropyOf(skewed.filter((_, at) => at % latent === i)))
    .reduce((sum, bits) => sum + bits * tokens / 8, 0);
  const [coded] = await coderOf(latent, [skewed]).encode([block(tokens)]);
  assertLess(coded.length, 1.06 * entropy);
  assertLess(entropy, 0.75 * skewed.length);

  const noise = Uint8Array.from({ length: latent * tokens }, () => Math.floor(256 * next()));
  const [plain] = await coderOf(latent, [noise]).encode([block(tokens)]);
  assertEquals(plain.length, noise.length + 4);
});

Deno.test("kvcar: any bytes for coded latents give latents or a typed error", async () => {
  const [latent, tokens] = [6, 20];
  const skewed = Uint8Array.from({ length: latent * tokens }, (_, i) => i % 3);
  const [stream] = await coderOf(latent, [skewed]).encode([block(tokens)]);
  assertLess(stream.length, skewed.length);
  const decode = (bytes: Uint8Array) =>
    coderOf(latent, [skewed]).decode([bytes], { tokens, layerBegin: 0, layerEnd: 1 });
  assertEquals(await decode(stream), [Float32Array.from(skewed)]);
  for (let length = 0; length < stream.length; length++) {
    await assertRejects(() => decode(stream.subarray(0, length)), KvzFormatError);
  }
  await assertRejects(() => decode(Uint8Array.of(...stream, 0)), KvzFormatError);
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 130 }), fc.nat(140), async (bytes, length) => {
      if (bytes.length > 4) new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, length, true);
      try {
        await decode(bytes);
      } catch (error) {
        assert(error instanceof KvzFormatError, `${error}`);
      }
    }),
  );
});

/** A coder of int8 latents of one layer that are given, whose restored elements are their bytes. */
function coderOf(latent: number, [numbers]: readonly Uint8Array[]): LatentEntropyCoder {
  const inner: TensorCoder = {
    encode: () => [numbers],
    decode: ([bytes]) => [Float32Array.from(bytes)],
    limits: (tokens) => [latent * tokens],
    join: () => [],
    [Symbol.dispose]() {},
  };
  const parameters = new Float32Array(0);
  const kind = {
    sources: Int32Array.of(0),
    autoencoders: [{ layer: 0, inputs: latent, hidden: latent, latent, parameters }],
  };
  const shape = { kind: "key", layers: 1, heads: 1, dim: latent } as const;
  const rans = (tables: RansTables) => new ReferenceRans(tables);
  return new LatentEntropyCoder(inner as Required<TensorCoder>, shape, kind, true, rans);
}

function block(tokens: number) {
  return { kind: "key", layers: 1, heads: 1, dim: 1, x: new Float32Array(0), tokens, begin: 0 } as const;
}

/** Bits a symbol, order 0. */
function entropyOf(symbols: Uint8Array): number {
  const counts = new Map<number, number>();
  for (const symbol of symbols) counts.set(symbol, (counts.get(symbol) ?? 0) + 1);
  return [...counts.values()].reduce((sum, n) => sum - n / symbols.length * Math.log2(n / symbols.length), 0);
}
