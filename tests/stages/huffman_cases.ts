/** Symbols and codes that tests of Huffman-coded blocks use. */
import { codeLengths } from "../../src/stages/entropy/huffman.ts";
import type { CodedShape } from "../../src/stages/entropy/huffman_blocks.ts";
import { random } from "../synthetic.ts";

/** Symbols of a skewed distribution and a code made of them, or of others. */
export function codedCase(shape: CodedShape, alphabet: number, seed: number, foreign = false) {
  const next = random(seed);
  const size = shape.layers * shape.heads * shape.tokens * shape.dim;
  const symbols = Uint8Array.from({ length: size }, () => Math.floor(alphabet * next() * next() * next()));
  const each = size / shape.layers;
  const lengths = Array.from({ length: shape.layers }, (_, layer) => {
    const counts = new Array(alphabet).fill(0);
    for (const s of symbols.subarray(layer * each, (layer + 1) * each)) counts[foreign ? alphabet - 1 - s : s]++;
    return codeLengths(counts);
  });
  return { symbols, lengths };
}
