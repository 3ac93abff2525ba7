/**
 * The record KEPT: which tokens of a chunk each head keeps, and in which class of the recipe (docs/format.md).
 *
 * @module
 */
import type { ModelSpec } from "../cache/types.ts";
import { KvzFormatError } from "../errors.ts";
import { type CodedStream, decodeStream, encodeStream } from "../stages/entropy/deflate.ts";

/** Bits that a mark may take. All divide a byte, so that no mark lies in two. */
const WIDTHS = [1, 2, 4, 8];

/** Tokens [begin, end) of marks [rows][tokens]. */
export function sliceMarks(marks: Uint8Array, tokens: number, begin: number, end: number): Uint8Array {
  const rows = marks.length / tokens;
  const out = new Uint8Array(rows * (end - begin));
  for (let row = 0; row < rows; row++) {
    out.set(marks.subarray(row * tokens + begin, row * tokens + end), row * (end - begin));
  }
  return out;
}

/**
 * Packs marks [rows][tokens]: one byte with the bits of a mark, then the rows, each padded to a whole byte, the first
 * token in the lowest bits.
 */
export async function encodeMarks(marks: Uint8Array, tokens: number): Promise<CodedStream> {
  const top = marks.reduce((most, mark) => Math.max(most, mark), 1);
  const width = WIDTHS.find((bits) => top < 1 << bits)!;
  const rows = marks.length / tokens;
  const rowBytes = Math.ceil(tokens * width / 8);
  const out = new Uint8Array(1 + rows * rowBytes);
  out[0] = width;
  for (let row = 0, i = 0; row < rows; row++) {
    for (let t = 0, bit = 8 * (1 + row * rowBytes); t < tokens; t++, i++, bit += width) {
      out[bit >> 3] |= marks[i] << (bit & 7);
    }
  }
  return await encodeStream(out);
}

/**
 * Inverse of {@linkcode encodeMarks}.
 *
 * @throws {KvzFormatError} when the record is not of that many heads and tokens, or its padding is not zero
 */
export async function decodeMarks(
  record: CodedStream,
  { layers, kvHeads }: ModelSpec,
  tokens: number,
): Promise<Uint8Array> {
  const rows = layers * kvHeads;
  const width = WIDTHS.find((bits) => record.rawLength === 1 + rows * Math.ceil(tokens * bits / 8));
  const fail = (why: string) => new KvzFormatError(`Cannot read file: its kept tokens ${why}`);
  if (width === undefined) {
    throw fail(`take ${record.rawLength} bytes, which ${rows} heads of ${tokens} tokens do not`);
  }
  const bytes = await decodeStream(record, record.rawLength, "kept tokens");
  // Of a few tokens several widths take as many bytes.
  const bits = bytes[0];
  const rowBytes = Math.ceil(tokens * bits / 8);
  if (!WIDTHS.includes(bits) || bytes.length !== 1 + rows * rowBytes) throw fail(`have ${bits} bits a mark`);
  const marks = new Uint8Array(rows * tokens);
  const mask = (1 << bits) - 1;
  for (let row = 0, i = 0; row < rows; row++) {
    let bit = 8 * (1 + row * rowBytes);
    for (let t = 0; t < tokens; t++, i++, bit += bits) marks[i] = bytes[bit >> 3] >> (bit & 7) & mask;
    if ((bit & 7) !== 0 && bytes[bit >> 3] >> (bit & 7) !== 0) throw fail("have padding that is not zero");
  }
  return marks;
}
