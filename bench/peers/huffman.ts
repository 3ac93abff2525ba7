/**
 * Lengths of a Huffman code.
 *
 * @module
 */

/** Code lengths of symbols that occur so often; a lone symbol takes a bit. */
export function huffmanLengths(counts: readonly number[]): number[] {
  if (counts.length === 1) return [1];
  const lengths = counts.map(() => 0);
  let trees = counts.map((count, i) => ({ count, symbols: [i] }));
  while (trees.length > 1) {
    trees.sort((a, b) => a.count - b.count);
    const [a, b] = trees;
    const symbols = [...a.symbols, ...b.symbols];
    for (const symbol of symbols) lengths[symbol]++;
    trees = [{ count: a.count + b.count, symbols }, ...trees.slice(2)];
  }
  return lengths;
}
