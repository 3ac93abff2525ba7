/**
 * Products with Huffman-coded blocks on a GPU's backend against the reference, without the test runner: part of
 * kernel_suite.ts.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import { KvzFormatError } from "../../src/errors.ts";
import { type CodedShape, encodeBlocks, KEY_BLOCKS, VALUE_BLOCKS } from "../../src/stages/entropy/huffman_blocks.ts";
import { type DotCall, partShape, ReferenceCodedTensor } from "../../src/stages/entropy/huffman_dots.ts";
import { GpuCodedTensor } from "../../src/stages/entropy/huffman_gpu.ts";
import { codedCase } from "../stages/huffman_cases.ts";

const CASES = [
  { layout: KEY_BLOCKS, dim: 64, alphabet: 22, lanes: 1, foreign: false },
  { layout: KEY_BLOCKS, dim: 130, alphabet: 242, lanes: 4, foreign: true },
  { layout: VALUE_BLOCKS, dim: 130, alphabet: 40, lanes: 4, foreign: false },
  { layout: VALUE_BLOCKS, dim: 7, alphabet: 2, lanes: 1, foreign: true },
] as const;

/** Checks by kernel, each giving what differs, or "". */
export function huffmanChecks(backend: Backend): (readonly [kernel: string, run: () => Promise<string>])[] {
  const kernels = backend.gpu?.huffman ?? null;
  if (kernels === null) return [];
  return CASES.flatMap(({ layout, dim, alphabet, lanes, foreign }, i) => {
    const shape: CodedShape = { layers: 2, heads: 2, tokens: 2 * layout.tokens, dim, layout };
    const { symbols, lengths } = codedCase(shape, alphabet, i, foreign);
    const coded = encodeBlocks(symbols, shape, lengths);
    const reference = new ReferenceCodedTensor(coded, shape, lengths);
    const part = Math.ceil(dim / layout.channels) - 1;
    const { tokenBlocks, length } = partShape(shape, part);
    const weights = new Float32Array(shape.heads * tokenBlocks * length * lanes);
    // Whole ones, whose sums are exact.
    const call: DotCall = { layer: 1, part, weights: weights.map((_, k) => k * 7 % 17 - 8), sets: tokenBlocks, lanes };
    const what = `of ${alphabet} Huffman-coded symbols, ${shape.tokens} × ${dim}, ${lanes} at a time`;
    return [
      [`products ${what}`, async () => {
        const tensor = new GpuCodedTensor(backend, kernels, coded, shape, lengths);
        const [found, wanted] = [await tensor.dots(call), reference.dots(call)];
        tensor[Symbol.dispose]();
        const at = wanted.findIndex((value, k) => found[k] !== value);
        return at < 0 ? "" : `product ${at} is ${found[at]}, expected ${wanted[at]}`;
      }],
      [`damage ${what}`, async () => {
        const lost = { ...coded, codes: coded.codes.map((byte, k) => k % 3 === 0 ? ~byte : byte) };
        const outcome = async (run: () => Promise<Float32Array> | Float32Array) => {
          try {
            return (await run()).join();
          } catch (error) {
            if (error instanceof KvzFormatError) return "refused";
            throw error;
          }
        };
        const tensor = new GpuCodedTensor(backend, kernels, lost, shape, lengths);
        const found = await outcome(() => tensor.dots(call));
        const wanted = await outcome(() => new ReferenceCodedTensor(lost, shape, lengths).dots(call));
        tensor[Symbol.dispose]();
        return found === wanted ? "" : `${found.slice(0, 100)}, expected ${wanted.slice(0, 100)}`;
      }],
    ] as const;
  });
}
