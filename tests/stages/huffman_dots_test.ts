import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { WASM_BUILDS } from "../../src/backend/wasm/exports.ts";
import { HuffmanKernels, WasmCodedTensor } from "../../src/backend/wasm/huffman_kernels.ts";
import { fromFloat32, toFloat32 } from "../../src/cache/elements.ts";
import type { Kind } from "../../src/cache/types.ts";
import { KvzFormatError } from "../../src/errors.ts";
import {
  checkBlocks,
  type CodedShape,
  decodeBlocks,
  encodeBlocks,
  type HuffmanBlocks,
  KEY_BLOCKS,
  VALUE_BLOCKS,
} from "../../src/stages/entropy/huffman_blocks.ts";
import { type DotCall, partShape, ReferenceCodedTensor } from "../../src/stages/entropy/huffman_dots.ts";
import { decodeChunk, encodeChunk } from "../../src/stages/kvcomp/coder.ts";
import { ChunkProducts } from "../../src/stages/kvcomp/products.ts";
import type { KvCompShape } from "../../src/stages/kvcomp/shape.ts";
import { alphabetOf, type Grouping } from "../../src/stages/quantize/relative.ts";
import { random } from "../synthetic.ts";
import { codedCase } from "./huffman_cases.ts";
import { casesFor } from "../cases.ts";

const anyCase = fc.record({
  layers: fc.integer({ min: 1, max: 2 }),
  heads: fc.integer({ min: 1, max: 2 }),
  blocks: fc.integer({ min: 1, max: 3 }),
  dim: fc.constantFrom(1, 7, 64, 128, 130),
  layout: fc.constantFrom(KEY_BLOCKS, VALUE_BLOCKS),
  alphabet: fc.integer({ min: 2, max: 242 }),
  lanes: fc.constantFrom<1 | 4>(1, 4),
  shared: fc.boolean(),
  foreign: fc.boolean(),
  seed: fc.nat(),
});

/** Whole weights, whose sums are exact. */
function wholeWeights(count: number, seed: number): Float32Array {
  const next = random(seed);
  return Float32Array.from({ length: count }, () => Math.floor(17 * next()) - 8);
}

Deno.test("products are sums over decoded symbols", () => {
  fc.assert(
    fc.property(anyCase, ({ blocks, alphabet, lanes, shared, foreign, seed, ...rest }) => {
      const shape: CodedShape = { ...rest, tokens: blocks * rest.layout.tokens };
      const { symbols, lengths } = codedCase(shape, alphabet, seed, foreign);
      const tensor = new ReferenceCodedTensor(encodeBlocks(symbols, shape, lengths), shape, lengths);
      const part = Math.ceil(shape.dim / shape.layout.channels) - 1;
      const { tokenBlocks, vectors, length } = partShape(shape, part);
      const sets = shared ? 1 : tokenBlocks;
      const layer = shape.layers - 1;
      const weights = wholeWeights(shape.heads * sets * length * lanes, seed);
      const dots = tensor.dots({ layer, part, weights, sets, lanes });
      // Element by element, from where each lies in the tensor.
      const wanted = new Float32Array(dots.length);
      const along = shape.layout.along === "channels";
      for (let head = 0; head < shape.heads; head++) {
        for (let t = 0; t < shape.tokens; t++) {
          for (let i = part * shape.layout.channels; i < Math.min(shape.dim, (part + 1) * shape.layout.channels); i++) {
            const block = Math.floor(t / shape.layout.tokens);
            const [token, channel] = [t % shape.layout.tokens, i % shape.layout.channels];
            const [v, n] = along ? [token, channel] : [channel, token];
            const symbol = symbols[((layer * shape.heads + head) * shape.tokens + t) * shape.dim + i];
            for (let lane = 0; lane < lanes; lane++) {
              const weight = weights[((head * sets + (shared ? 0 : block)) * length + n) * lanes + lane];
              wanted[((head * tokenBlocks + block) * vectors + v) * lanes + lane] += symbol * weight;
            }
          }
        }
      }
      assertEquals(dots, wanted);
    }),
    { numRuns: casesFor(40) },
  );
});

for (const build of WASM_BUILDS) {
  Deno.test(`wasm ${build}: products and symbols are the reference's`, async () => {
    const kernels = await HuffmanKernels.open(build);
    fc.assert(
      fc.property(anyCase, ({ blocks, alphabet, lanes, shared, foreign, seed, ...rest }) => {
        const shape: CodedShape = { ...rest, tokens: blocks * rest.layout.tokens };
        const { symbols, lengths } = codedCase(shape, alphabet, seed, foreign);
        const coded = encodeBlocks(symbols, shape, lengths);
        using reference = new ReferenceCodedTensor(coded, shape, lengths);
        using tensor = new WasmCodedTensor(kernels, coded, shape, lengths);
        assertEquals(tensor.symbols(), symbols);
        assertEquals(tensor.symbols(shape.layers - 1), decodeBlocks(coded, shape, lengths, shape.layers - 1));
        for (let part = 0; part * shape.layout.channels < shape.dim; part++) {
          const { tokenBlocks, length } = partShape(shape, part);
          const sets = shared ? 1 : tokenBlocks;
          const weights = wholeWeights(shape.heads * sets * length * lanes, seed);
          const call: DotCall = { layer: shape.layers - 1, part, weights, sets, lanes };
          assertEquals(tensor.dots(call), reference.dots(call));
        }
      }),
      { numRuns: casesFor(60) },
    );
    assertEquals(kernels.bytesInUse, 0);
  });

  Deno.test(`wasm ${build}: damaged codes are refused as by the reference`, async () => {
    const kernels = await HuffmanKernels.open(build);
    const shape: CodedShape = { layers: 1, heads: 2, tokens: 128, dim: 70, layout: KEY_BLOCKS };
    for (const foreign of [false, true]) {
      const { symbols, lengths } = codedCase(shape, 40, 11, foreign);
      const good = encodeBlocks(symbols, shape, lengths);
      const weights = wholeWeights(2 * 70, 5);
      fc.assert(
        fc.property(
          fc.constantFrom("vectors" as const, "codes" as const),
          fc.nat(),
          fc.nat(254),
          (part, at, change) => {
            const bytes = good[part].slice();
            bytes[at % bytes.length] ^= change + 1;
            const blocks: HuffmanBlocks = { ...good, [part]: bytes };
            try {
              checkBlocks(blocks, shape);
            } catch {
              return;
            }
            const outcome = (tensor: ReferenceCodedTensor | WasmCodedTensor) => {
              try {
                return tensor.dots({ layer: 0, part: 0, weights, sets: 1, lanes: 1 });
              } catch (error) {
                assert(error instanceof KvzFormatError);
                return null;
              } finally {
                tensor[Symbol.dispose]();
              }
            };
            assertEquals(
              outcome(new WasmCodedTensor(kernels, blocks, shape, lengths)),
              outcome(new ReferenceCodedTensor(blocks, shape, lengths)),
            );
          },
        ),
        { numRuns: casesFor(200) },
      );
    }
  });
}

Deno.test("calls that do not fit are refused", () => {
  const shape: CodedShape = { layers: 2, heads: 1, tokens: 128, dim: 130, layout: KEY_BLOCKS };
  const { symbols, lengths } = codedCase(shape, 9, 1);
  const tensor = new ReferenceCodedTensor(encodeBlocks(symbols, shape, lengths), shape, lengths);
  const call: DotCall = { layer: 0, part: 1, weights: new Float32Array(2), sets: 1, lanes: 1 };
  assertEquals(tensor.dots(call).length, 128);
  assertThrows(() => tensor.dots({ ...call, layer: 2 }), RangeError, "layer 2");
  assertThrows(() => tensor.dots({ ...call, part: 2 }), RangeError, "part 2");
  assertThrows(() => tensor.dots({ ...call, sets: 3 }), RangeError, "3 sets");
  assertThrows(() => tensor.dots({ ...call, lanes: 4 }), RangeError, "2 weights, expected 8");
});

/** A chunk of random elements, its shape, and what it decodes to. */
function chunkOf(kind: Kind, grouping: Grouping, dim: number, tokens: number, rel: number) {
  const shape: KvCompShape = { kind, layers: 2, heads: 2, dim, dtype: "f32", grouping, alphabet: alphabetOf(rel) };
  const next = random(dim + tokens);
  const x = Float32Array.from({ length: 2 * 2 * tokens * dim }, () => 3 * (next() - next()) + 0.5);
  const chunk = encodeChunk(fromFloat32(x, "f32"), shape, rel, tokens, 0);
  return { shape, chunk, decoded: toFloat32(decodeChunk(chunk, shape), "f32") };
}

Deno.test("scores and sums of values are those of the decoded cache, for any number of queries a head", async () => {
  const kernels = await HuffmanKernels.open();
  for (const [dim, each] of [[64, 3], [130, 1], [7, 4], [96, 6]]) {
    const tokens = 256;
    for (const grouping of ["block", "channel"] as const) {
      const { shape, chunk, decoded } = chunkOf("key", grouping, dim, tokens, 0.07);
      using products = new ChunkProducts(chunk, shape, (...args) => new WasmCodedTensor(kernels, ...args));
      const next = random(each);
      const queries = Float32Array.from({ length: 2 * each * dim }, () => next() - next());
      const scores = await products.scores(1, queries);
      assertEquals(scores.length, 2 * each * tokens);
      for (let row = 0; row < 2 * each; row++) {
        for (let t = 0; t < tokens; t++) {
          let [wanted, size] = [0, 0];
          for (let i = 0; i < dim; i++) {
            const product = queries[row * dim + i] * decoded[((2 + Math.floor(row / each)) * tokens + t) * dim + i];
            wanted += product;
            size += Math.abs(product);
          }
          assert(
            Math.abs(scores[row * tokens + t] - wanted) <= 2e-5 * (size + 1),
            `${scores[row * tokens + t]} ${wanted}`,
          );
        }
      }
    }
    const { shape, chunk, decoded } = chunkOf("value", "token", dim, tokens, 0.11);
    using products = new ChunkProducts(chunk, shape, (...args) => new WasmCodedTensor(kernels, ...args));
    const next = random(each + 9);
    const weights = Float32Array.from({ length: 2 * each * tokens }, () => next() / tokens);
    const sums = await products.mix(1, weights);
    assertEquals(sums.length, 2 * each * dim);
    for (let row = 0; row < 2 * each; row++) {
      for (let i = 0; i < dim; i++) {
        let wanted = 0;
        for (let t = 0; t < tokens; t++) {
          wanted += weights[row * tokens + t] * decoded[((2 + Math.floor(row / each)) * tokens + t) * dim + i];
        }
        assert(Math.abs(sums[row * dim + i] - wanted) <= 2e-5, `${sums[row * dim + i]} ${wanted}`);
      }
    }
  }
});
