import { assert, assertEquals, assertNotEquals } from "deno-std/assert";
import fc from "fast-check";
import { uniformGenerator } from "../../src/profile/random.ts";
import { overlaps, sequenceHash, SHINGLE_TOKENS, shingleHashes, ShingleSet } from "../../src/profile/shingles.ts";

function ids(length: number, seed: number, vocabulary = 50000): Int32Array {
  const uniform = uniformGenerator(seed);
  return Int32Array.from({ length }, () => Math.floor(uniform() * vocabulary));
}

function joined(...parts: Int32Array[]): Int32Array {
  return Int32Array.from(parts.flatMap((part) => [...part]));
}

Deno.test("shingleHashes hashes whole blocks of 32 tokens", () => {
  const x = ids(100, 1);
  assertEquals(shingleHashes(x).length, 3);
  assertEquals(shingleHashes(x.subarray(0, 31)).length, 0);
  assertEquals(shingleHashes([]).length, 0);
  // A block's hash depends on its tokens alone, not on what stands before.
  assertEquals(shingleHashes(x)[1], shingleHashes(x.subarray(32))[0]);
  assertEquals(new Set(shingleHashes(x)).size, 3);
});

Deno.test("overlaps finds a common run at any offset and names its first token", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 0, max: 100 }), fc.nat(), (before, after, seed) => {
      const text = ids(96, seed);
      const hashes = shingleHashes(text);
      const found = overlaps(joined(ids(before, seed + 1), text, ids(after, seed + 2)), hashes);
      assertEquals(found, before);
      // Any run of 63 tokens holds a whole block.
      const run = text.subarray(seed % 33, seed % 33 + 63);
      assert(overlaps(joined(ids(before, seed + 3), run), hashes) >= before);
    }),
  );
});

Deno.test("overlaps finds nothing in other texts, in runs that are too short, or in no set", () => {
  const text = ids(320, 5);
  const hashes = shingleHashes(text);
  for (let seed = 10; seed < 60; seed++) assertEquals(overlaps(ids(500, seed, 40), hashes), -1);
  assertEquals(overlaps(text.subarray(0, SHINGLE_TOKENS - 1), hashes), -1);
  assertEquals(overlaps(text, []), -1);
  assertEquals(overlaps(text.with(40, 7).subarray(32, 64), new ShingleSet(hashes)), -1);
});

Deno.test("hashes tell apart order, repetition and small ids", () => {
  const blocks = [
    new Int32Array(32),
    new Int32Array(32).fill(1),
    Int32Array.from({ length: 32 }, (_, i) => i),
    Int32Array.from({ length: 32 }, (_, i) => 31 - i),
    Int32Array.from({ length: 32 }, (_, i) => i % 2),
    Int32Array.from({ length: 32 }, (_, i) => (i + 1) % 2),
  ];
  assertEquals(new Set(blocks.map((block) => shingleHashes(block)[0])).size, blocks.length);
  assertEquals(new Set(blocks.map(sequenceHash)).size, blocks.length);
  assertNotEquals(sequenceHash([1, 2]), sequenceHash([1, 2, 0]));
  assertEquals(sequenceHash([5, 6, 7]), sequenceHash(Int32Array.of(5, 6, 7)));
});

Deno.test("hashes are spread over all 64 bits", () => {
  const hashes = shingleHashes(ids(32 * 2000, 3, 10));
  for (let bit = 0n; bit < 64n; bit++) {
    const ones = hashes.reduce((sum, hash) => sum + Number(hash >> bit & 1n), 0);
    assert(ones > 850 && ones < 1150, `bit ${bit}: ${ones} of 2000`);
  }
});
