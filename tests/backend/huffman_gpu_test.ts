import { assert, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import type { Backend } from "../../src/backend/backend.ts";
import type { DotShape, GpuHuffman } from "../../src/backend/gpu/huffman.ts";
import { createBackend } from "../../src/backend/select.ts";
import { KvzFormatError } from "../../src/errors.ts";
import {
  checkBlocks,
  type CodedShape,
  encodeBlocks,
  type HuffmanBlocks,
  KEY_BLOCKS,
  VALUE_BLOCKS,
} from "../../src/stages/entropy/huffman_blocks.ts";
import {
  type CodedTensor,
  type DotCall,
  partShape,
  ReferenceCodedTensor,
} from "../../src/stages/entropy/huffman_dots.ts";
import { GpuCodedTensor } from "../../src/stages/entropy/huffman_gpu.ts";
import { codedCase } from "../stages/huffman_cases.ts";
import { BACKENDS, generator, uniform } from "./backends.ts";
import { casesFor } from "../cases.ts";

/** Registers a test for every backend of a GPU. */
function testGpus(name: string, test: (backend: Backend, huffman: GpuHuffman) => Promise<void> | void): void {
  for (const [label, options] of BACKENDS.filter(([label]) => label === "cuda" || label === "webgpu")) {
    Deno.test(`${label}: ${name}`, async () => {
      using backend = await createBackend(options);
      const huffman = backend.gpu?.huffman ?? null;
      if (huffman === null) throw new Error("The backend has no Huffman kernels");
      await test(backend, huffman);
    });
  }
}

const anyCase = fc.record({
  layers: fc.integer({ min: 1, max: 2 }),
  heads: fc.integer({ min: 1, max: 2 }),
  blocks: fc.integer({ min: 1, max: 2 }),
  dim: fc.constantFrom(1, 7, 64, 128, 130),
  layout: fc.constantFrom(KEY_BLOCKS, VALUE_BLOCKS),
  alphabet: fc.constantFrom(2, 3, 22, 242),
  lanes: fc.constantFrom<1 | 4>(1, 4),
  shared: fc.boolean(),
  foreign: fc.boolean(),
  seed: fc.nat(),
});

testGpus("products are the reference's", async (backend, huffman) => {
  await fc.assert(
    fc.asyncProperty(anyCase, async ({ blocks, alphabet, lanes, shared, foreign, seed, ...rest }) => {
      const shape: CodedShape = { ...rest, tokens: blocks * rest.layout.tokens };
      const { symbols, lengths } = codedCase(shape, alphabet, seed, foreign);
      const coded = encodeBlocks(symbols, shape, lengths);
      const reference = new ReferenceCodedTensor(coded, shape, lengths);
      using tensor = new GpuCodedTensor(backend, huffman, coded, shape, lengths);
      for (let part = 0; part * shape.layout.channels < shape.dim; part++) {
        const { tokenBlocks, length } = partShape(shape, part);
        const sets = shared ? 1 : tokenBlocks;
        const count = shape.heads * sets * length * lanes;
        const next = generator(seed);
        // Whole weights, whose sums are exact.
        const whole = Float32Array.from({ length: count }, () => Math.floor(17 * next()) - 8);
        const call: DotCall = { layer: shape.layers - 1, part, weights: whole, sets, lanes };
        assertEquals(await tensor.dots(call), reference.dots(call));
        const weights = uniform(count, seed);
        const [found, wanted] = [await tensor.dots({ ...call, weights }), reference.dots({ ...call, weights })];
        // 128 roundings of sums of 128 products up to the alphabet.
        found.forEach((value, i) => assert(Math.abs(value - wanted[i]) <= 2 ** -24 * 128 * 128 * alphabet));
      }
    }),
    { numRuns: casesFor(25) },
  );
});

testGpus("damaged codes are refused as by the reference", async (backend, huffman) => {
  const shape: CodedShape = { layers: 1, heads: 1, tokens: 64, dim: 70, layout: KEY_BLOCKS };
  for (const foreign of [false, true]) {
    const { symbols, lengths } = codedCase(shape, 40, 11, foreign);
    const good = encodeBlocks(symbols, shape, lengths);
    const weights = new Float32Array(70).fill(1);
    const outcome = async (tensor: CodedTensor) => {
      try {
        return await tensor.dots({ layer: 0, part: 0, weights, sets: 1, lanes: 1 });
      } catch (error) {
        assert(error instanceof KvzFormatError, String(error));
        return null;
      } finally {
        tensor[Symbol.dispose]();
      }
    };
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom("vectors" as const, "codes" as const),
        fc.nat(),
        fc.nat(254),
        async (part, at, change) => {
          const bytes = good[part].slice();
          bytes[at % bytes.length] ^= change + 1;
          const blocks: HuffmanBlocks = { ...good, [part]: bytes };
          try {
            checkBlocks(blocks, shape);
          } catch {
            return;
          }
          assertEquals(
            await outcome(new GpuCodedTensor(backend, huffman, blocks, shape, lengths)),
            await outcome(new ReferenceCodedTensor(blocks, shape, lengths)),
          );
        },
      ),
      { numRuns: casesFor(30) },
    );
  }
});

testGpus("calls that do not fit are refused", async (backend, huffman) => {
  const buffer = () => backend.alloc(16);
  const codes = { codes: buffer(), blocks: buffer(), vectors: buffer(), tables: backend.alloc(2624) };
  const shape: DotShape = {
    layer: 0,
    heads: 1,
    tokenBlocks: 1,
    block: 0,
    vector: 0,
    headBlocks: 1,
    headVectors: 4,
    blockStride: 1,
    vectorStride: 4,
    vectors: 4,
    length: 4,
    alphabet: 4,
    sets: 1,
    lanes: 1,
  };
  const refused = (change: Partial<DotShape>, words: string) =>
    assertThrows(() => huffman.dots(codes, { ...shape, ...change }, buffer(), buffer(), buffer()), RangeError, words);
  refused({ layer: 1 }, '"tables" has 2624 bytes');
  refused({ heads: 3 }, '"blocks" has 16 bytes');
  refused({ vectors: 9 }, '"vectors" has 16 bytes');
  refused({ length: 5 }, '"weights" has 16 bytes');
  refused({ lanes: 4 }, '"weights" has 16 bytes');
  refused({ vectors: 65 }, "at most 64");
  const coded: CodedShape = { layers: 1, heads: 1, tokens: 64, dim: 8, layout: KEY_BLOCKS };
  const { symbols, lengths } = codedCase(coded, 9, 1);
  using tensor = new GpuCodedTensor(backend, huffman, encodeBlocks(symbols, coded, lengths), coded, lengths);
  await assertRejects(
    () => tensor.dots({ layer: 1, part: 0, weights: new Float32Array(8), sets: 1, lanes: 1 }),
    RangeError,
    "layer 1",
  );
});
