import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { KvzFormatError } from "../../src/errors.ts";
import {
  canonicalCodes,
  codeLengths,
  MAX_CODE_BITS,
  packLengths,
  unpackLengths,
} from "../../src/stages/entropy/huffman.ts";
import {
  blockPlaces,
  checkBlocks,
  type CodedShape,
  decodeBlocks,
  decodeVector,
  encodeBlocks,
  type HuffmanBlocks,
  KEY_BLOCKS,
  VALUE_BLOCKS,
} from "../../src/stages/entropy/huffman_blocks.ts";
import { decodeTable } from "../../src/stages/entropy/huffman.ts";
import { huffmanLengths } from "../../bench/peers/huffman.ts";
import { codedCase } from "./huffman_cases.ts";

const anyCounts = fc.array(fc.oneof(fc.nat(3), fc.nat(1000), fc.nat(2 ** 30)), { minLength: 2, maxLength: 256 });

Deno.test("code lengths are complete, at most 15, and within a bit of the entropy", () => {
  fc.assert(fc.property(anyCounts, (counts) => {
    const lengths = codeLengths(counts);
    assert(lengths.every((length) => length >= 1 && length <= MAX_CODE_BITS));
    assertEquals(lengths.reduce((sum, length) => sum + 2 ** -length, 0), 1);
    const weights = counts.map((count) => Math.max(1, count));
    const all = weights.reduce((sum, weight) => sum + weight);
    const entropy = weights.reduce((sum, weight) => sum + weight / all * Math.log2(all / weight), 0);
    const mean = weights.reduce((sum, weight, symbol) => sum + weight / all * lengths[symbol], 0);
    // The limit of 15 costs less than φ^−(15 − 8 − 1) of a bit (Larmore and Hirschberg).
    assert(mean >= entropy - 1e-9 && mean < entropy + 1 + 0.056, `${mean} bits, entropy ${entropy}`);
  }));
});

Deno.test("where 15 bits do not limit, the lengths cost what Huffman's do; where they do, no exchange is better", () => {
  fc.assert(fc.property(fc.array(fc.nat(5000), { minLength: 2, maxLength: 40 }), (counts) => {
    const weights = counts.map((count) => Math.max(1, count));
    const plain = huffmanLengths(weights);
    if (Math.max(...plain) > MAX_CODE_BITS) return;
    const cost = (lengths: ArrayLike<number>) => weights.reduce((sum, weight, s) => sum + weight * lengths[s], 0);
    assertEquals(cost(codeLengths(counts)), cost(plain));
  }));
  // Fibonacci weights: Huffman's code would have 39 bits.
  const weights = [1, 1];
  while (weights.length < 40) weights.push(weights[weights.length - 1] + weights[weights.length - 2]);
  assertEquals(Math.max(...codeLengths(weights)), MAX_CODE_BITS);
});

Deno.test("codes are prefix-free and rise with the symbol within a length", () => {
  fc.assert(fc.property(anyCounts, (counts) => {
    const lengths = codeLengths(counts);
    const codes = canonicalCodes(lengths);
    const order = [...lengths.keys()].sort((a, b) => lengths[a] - lengths[b] || a - b);
    let next = 0;
    for (const symbol of order) {
      assertEquals(codes[symbol] * 2 ** (MAX_CODE_BITS - lengths[symbol]), next);
      next += 2 ** (MAX_CODE_BITS - lengths[symbol]);
    }
    assertEquals(unpackLengths(packLengths(lengths), lengths.length), lengths);
  }));
});

Deno.test("lengths that are no complete code are refused", () => {
  const of = (...lengths: number[]) => () => unpackLengths(packLengths(Uint8Array.from(lengths)), lengths.length);
  assertThrows(of(1, 0, 1), KvzFormatError, "symbol 1 has none");
  assertThrows(of(1, 1, 2), KvzFormatError, "overlap");
  assertThrows(of(1, 2, 3), KvzFormatError, "a gap");
  assertThrows(() => unpackLengths(Uint8Array.of(0x21, 0x12), 3), KvzFormatError, "padding");
  fc.assert(fc.property(fc.uint8Array({ minLength: 8, maxLength: 8 }), (bytes) => {
    try {
      assertEquals(packLengths(unpackLengths(bytes, 16)), bytes);
    } catch (error) {
      assert(error instanceof KvzFormatError);
    }
  }));
});

const anyShape = fc.record({
  layers: fc.integer({ min: 1, max: 2 }),
  heads: fc.integer({ min: 1, max: 2 }),
  blocks: fc.integer({ min: 0, max: 2 }),
  dim: fc.constantFrom(1, 7, 64, 80, 128, 130),
  layout: fc.constantFrom(KEY_BLOCKS, VALUE_BLOCKS),
}).map(({ blocks, ...shape }): CodedShape => ({ ...shape, tokens: blocks * shape.layout.tokens }));

Deno.test("blocks come back, layers and blocks alone too, also with a code made of other data", () => {
  fc.assert(
    fc.property(
      anyShape,
      fc.integer({ min: 2, max: 242 }),
      fc.nat(),
      fc.boolean(),
      (shape, alphabet, seed, foreign) => {
        const { symbols, lengths } = codedCase(shape, alphabet, seed, foreign);
        const blocks = encodeBlocks(symbols, shape, lengths);
        checkBlocks(blocks, shape);
        assertEquals(decodeBlocks(blocks, shape, lengths), symbols);
        const each = symbols.length / shape.layers;
        assertEquals(
          decodeBlocks(blocks, shape, lengths, shape.layers - 1),
          symbols.subarray((shape.layers - 1) * each),
        );
        // Every block decodes alone: all bytes of the others are lost.
        const out = new Uint8Array(128);
        for (const place of blockPlaces(shape)) {
          const view = new DataView(blocks.table.buffer);
          const [begin, bytes] = [view.getUint32(8 * place.index, true), view.getUint16(8 * place.index + 4, true)];
          const codes = new Uint8Array(blocks.codes.length).fill(0xff);
          codes.set(blocks.codes.subarray(begin, begin + bytes), begin);
          const v = seed % place.vectors;
          decodeVector({ ...blocks, codes }, place, v, decodeTable(lengths[place.layer]), alphabet, out);
          for (let n = 0; n < place.length; n++) {
            assertEquals(out[n], symbols[place.at + v * place.vectorStride + n * place.symbolStride]);
          }
        }
      },
    ),
    { numRuns: 60 },
  );
});

Deno.test("side information is what KVComp's table has: 2 bytes a vector, 8 a block", () => {
  for (const layout of [KEY_BLOCKS, VALUE_BLOCKS]) {
    const shape: CodedShape = { layers: 2, heads: 3, tokens: 256, dim: 128, layout };
    const { symbols, lengths } = codedCase(shape, 22, 3);
    const { table, vectors, codes } = encodeBlocks(symbols, shape, lengths);
    assertEquals(vectors.length, symbols.length / 128 * 2);
    assertEquals(table.length, symbols.length / (64 * 128) * 8);
    // Codes to whole bytes: half a byte a vector on average.
    const bits = symbols.reduce((sum, s, i) => sum + lengths[Math.floor(i / (symbols.length / 2))][s], 0);
    const padding = codes.length * 8 - bits;
    assert(padding >= 0 && padding < 7 * symbols.length / 128, `${padding} bits of padding`);
  }
});

Deno.test("damaged tables and codes are refused, or give symbols of the alphabet", () => {
  const shape: CodedShape = { layers: 1, heads: 1, tokens: 128, dim: 20, layout: VALUE_BLOCKS };
  const { symbols, lengths } = codedCase(shape, 12, 5);
  const good = encodeBlocks(symbols, shape, lengths);
  const parts = ["table", "vectors", "codes"] as const;
  fc.assert(
    fc.property(fc.constantFrom(...parts), fc.nat(), fc.integer({ min: 1, max: 255 }), (part, at, change) => {
      const bytes = good[part].slice();
      bytes[at % bytes.length] ^= change;
      const blocks: HuffmanBlocks = { ...good, [part]: bytes };
      try {
        checkBlocks(blocks, shape);
        const found = decodeBlocks(blocks, shape, lengths);
        assertEquals(found.length, symbols.length);
        assert(found.every((symbol) => symbol < 12));
      } catch (error) {
        assert(error instanceof KvzFormatError, String(error));
      }
    }),
    { numRuns: 500 },
  );
  for (const part of parts) {
    assertThrows(() => checkBlocks({ ...good, [part]: good[part].slice(0, -1) }, shape), KvzFormatError);
  }
});
