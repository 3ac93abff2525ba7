/**
 * Joining Huffman blocks of neighbouring ranges of tokens that were coded with the same codes.
 *
 * @module
 */
import { blocksOfHead, type CodedShape, type HuffmanBlocks, vectorsOfHead } from "./huffman_blocks.ts";

/** Blocks of `shape.tokens` tokens and of `more` tokens behind them as those of both. */
export function joinBlocks(a: HuffmanBlocks, shape: CodedShape, b: HuffmanBlocks, more: number): HuffmanBlocks {
  if (shape.tokens === 0) return b;
  if (more === 0) return a;
  const rows = shape.layers * shape.heads;
  const pieces = [{ blocks: a, shape }, { blocks: b, shape: { ...shape, tokens: more } }].map(({ blocks, shape }) => ({
    ...blocks,
    view: new DataView(blocks.table.buffer, blocks.table.byteOffset, blocks.table.length),
    perRow: { table: 8 * blocksOfHead(shape), vectors: 2 * vectorsOfHead(shape) },
  }));
  const out = {
    table: new Uint8Array(a.table.length + b.table.length),
    vectors: new Uint8Array(a.vectors.length + b.vectors.length),
    codes: new Uint8Array(a.codes.length + b.codes.length),
  };
  const table = new DataView(out.table.buffer);
  const at = { table: 0, vectors: 0, codes: 0 };
  for (let row = 0; row < rows; row++) {
    for (const { view, codes, vectors, perRow } of pieces) {
      const infos = vectors.subarray(row * perRow.vectors, (row + 1) * perRow.vectors);
      out.vectors.set(infos, at.vectors);
      at.vectors += infos.length;
      for (let entry = row * perRow.table; entry < (row + 1) * perRow.table; entry += 8) {
        const [begin, bytes] = [view.getUint32(entry, true), view.getUint16(entry + 4, true)];
        out.codes.set(codes.subarray(begin, begin + bytes), at.codes);
        table.setUint32(at.table, at.codes, true);
        table.setUint16(at.table + 4, bytes, true);
        table.setUint16(at.table + 6, view.getUint16(entry + 6, true), true);
        at.codes += bytes;
        at.table += 8;
      }
    }
  }
  return out;
}
