/**
 * KVTC's streams with rANS in place of DEFLATE. The codes are the same; each stream becomes rows of symbols: a row for
 * each component (int2, int4, fp8), and one for the shifts and one for the scales of each group (low bytes, high bytes).
 * A stream that rANS does not make smaller stays as it was. One byte says which: 0 as it was, 1 coded.
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import { type CodedStream, decodeStream, encodeStream, rawStream } from "../entropy/deflate.ts";
import type { RansFactory } from "../entropy/rans_factory.ts";
import { allInOrder } from "../in_order.ts";
import type { RowForm } from "./row_forms.ts";
import { codedRowsLimit, decodeRows, encodeRows } from "../entropy/row_classes.ts";

/** Codes a stream of `tokens` tokens. */
export async function encodeForm(
  rans: RansFactory,
  { rows, bits }: RowForm,
  tokens: number,
  bytes: Uint8Array,
): Promise<CodedStream> {
  const plain = new Uint8Array(1 + bytes.length);
  plain.set(bytes, 1);
  if (bytes.length === 0) return await encodeStream(plain);
  // Both begin at once: streams that wait for nothing else go to a GPU together.
  const [rowsCoded, deflated] = await allInOrder([
    encodeRows(rans, unpackRows(bytes, rows, tokens, bits), rows, tokens),
    encodeStream(plain),
  ]);
  if (1 + rowsCoded.length >= deflated.bytes.length) return deflated;
  const coded = new Uint8Array(1 + rowsCoded.length);
  coded[0] = 1;
  coded.set(rowsCoded, 1);
  return rawStream(coded);
}

/**
 * Inverse of {@linkcode encodeForm}.
 *
 * @throws {KvzFormatError} when the stream is not what it makes for form and tokens
 */
export async function decodeForm(
  rans: RansFactory,
  { rows, bits }: RowForm,
  tokens: number,
  stream: CodedStream,
  what: string,
): Promise<Uint8Array> {
  const length = rows * rowBytes(tokens, bits);
  const limit = 1 + Math.max(length, codedRowsLimit(rows, tokens));
  if (stream.rawLength > limit) {
    throw new KvzFormatError(`Cannot decode ${what}: it declares ${stream.rawLength} bytes, at most ${limit} expected`);
  }
  const payload = await decodeStream(stream, stream.rawLength, what);
  const [mode] = payload;
  const body = payload.subarray(1);
  if (mode === 1 && length > 0) {
    const symbols = await decodeRows(rans, body, rows, tokens);
    if (bits < 8 && symbols.some((symbol) => symbol >> bits !== 0)) {
      throw new KvzFormatError(`Cannot decode ${what}: a symbol has more than ${bits} bits`);
    }
    return packRows(symbols, rows, tokens, bits);
  }
  if (mode !== 0 || body.length !== length) {
    throw new KvzFormatError(
      `Cannot decode ${what}: mode ${mode} with ${body.length} bytes, expected 0 with ${length}, or 1`,
    );
  }
  return body;
}

function rowBytes(tokens: number, bits: number): number {
  return Math.ceil(tokens * bits / 8);
}

/** Packed rows → a byte a symbol. */
function unpackRows(bytes: Uint8Array, rows: number, tokens: number, bits: number): Uint8Array {
  if (bits === 8) return bytes;
  const stride = rowBytes(tokens, bits);
  const mask = (1 << bits) - 1;
  const symbols = new Uint8Array(rows * tokens);
  for (let row = 0, i = 0; row < rows; row++) {
    for (let t = 0; t < tokens; t++, i++) {
      const at = t * bits;
      symbols[i] = (bytes[row * stride + (at >> 3)] >> (at & 7)) & mask;
    }
  }
  return symbols;
}

/** Inverse of unpackRows. */
function packRows(symbols: Uint8Array, rows: number, tokens: number, bits: number): Uint8Array {
  if (bits === 8) return symbols;
  const stride = rowBytes(tokens, bits);
  const bytes = new Uint8Array(rows * stride);
  for (let row = 0, i = 0; row < rows; row++) {
    for (let t = 0; t < tokens; t++, i++) {
      const at = t * bits;
      bytes[row * stride + (at >> 3)] |= symbols[i] << (at & 7);
    }
  }
  return bytes;
}
