/**
 * Checks of the rANS kernels' arguments that every GPU makes alike.
 *
 * @module
 */
import { type RansContexts, requireContexts } from "../../stages/entropy/rans_contexts.ts";
import { RANS_MAX_SYMBOLS } from "../../stages/entropy/rans_stream.ts";
import type { DeviceBuffer } from "../backend.ts";
import { requireBytes, requireCounts } from "../check.ts";
import { mostBytes, type StreamBatch, type TransposedPart } from "./entropy.ts";

/** Most bytes of a batch's streams: `begins` is u32. */
const MAX_BYTES = 0xffffffff;

/** @throws {RangeError} when a batch has streams of more than 2^28 symbols. */
export function requireBatch(what: string, { streams, rows, tokens }: StreamBatch): void {
  requireCounts(what, { streams, rows, tokens });
  if (streams > 0xffffffff || rows * tokens > RANS_MAX_SYMBOLS) {
    throw new RangeError(
      `Cannot ${what}: a batch has ${streams} streams of ${rows} × ${tokens} symbols, expected at most 2^28 symbols each`,
    );
  }
}

/** @throws {RangeError} when a buffer of `decode` is too short. */
export function requireDecode(
  batch: StreamBatch,
  begins: DeviceBuffer,
  symbols: DeviceBuffer,
  status: DeviceBuffer,
  lengths: DeviceBuffer | null,
): void {
  requireBatch("decode streams", batch);
  const { streams, rows, tokens } = batch;
  requireBytes("decode streams", "begins", begins.byteLength, 4 * (streams + 1));
  requireBytes("decode streams", "symbols", symbols.byteLength, streams * rows * tokens);
  requireBytes("decode streams", "status", status.byteLength, 4 * streams);
  if (lengths !== null) requireBytes("decode streams", "lengths", lengths.byteLength, 4 * streams);
}

/** @throws {RangeError} when a buffer of `encode` is too short, or its streams could have more than 4 GiB. */
export function requireEncode(
  batch: StreamBatch,
  symbols: DeviceBuffer,
  bytes: DeviceBuffer,
  begins: DeviceBuffer,
  lengths: DeviceBuffer,
): void {
  requireBatch("encode streams", batch);
  const { streams, rows, tokens } = batch;
  const most = mostBytes(batch);
  if (most > MAX_BYTES) {
    throw new RangeError(`Cannot encode streams: they may have ${most} bytes, expected less than 4 GiB a call`);
  }
  requireBytes("encode streams", "symbols", symbols.byteLength, streams * rows * tokens);
  requireBytes("encode streams", "bytes", bytes.byteLength, most);
  requireBytes("encode streams", "begins", begins.byteLength, 4 * (streams + 1));
  requireBytes("encode streams", "lengths", lengths.byteLength, 4 * streams);
}

/** @throws {RangeError} when contexts do not fit a batch and its tables, or differ in variant or successors. */
export function requireBatchContexts(contexts: readonly RansContexts[], batch: StreamBatch, tables: number): void {
  requireBatch("use contexts", batch);
  if (contexts.length !== 1 && contexts.length !== batch.streams) {
    throw new RangeError(`Cannot use contexts: there are ${contexts.length}, expected 1 or ${batch.streams}`);
  }
  for (const one of contexts) {
    if (one.variant !== contexts[0].variant) {
      throw new RangeError(`Cannot use contexts: there are ${one.variant} ones among ${contexts[0].variant} ones`);
    }
    if (one.variant === "trellis" && contexts[0].variant === "trellis" && !equal(one.next, contexts[0].next)) {
      throw new RangeError("Cannot use contexts: their successors of states differ, expected the same for all streams");
    }
    requireContexts(one, batch.rows, batch.tokens, tables);
  }
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

/** @throws {RangeError} when an argument of `histogram` does not fit. */
export function requireHistogram(
  symbols: DeviceBuffer,
  rows: number,
  tokens: number,
  alphabet: number,
  counts: DeviceBuffer,
): void {
  requireCounts("count symbols", { rows, tokens, alphabet });
  if (alphabet < 1 || alphabet > 256) {
    throw new RangeError(`Cannot count symbols: "alphabet" is ${alphabet}, expected 1 to 256`);
  }
  requireBytes("count symbols", "symbols", symbols.byteLength, rows * tokens);
  requireBytes("count symbols", "counts", counts.byteLength, 4 * rows * alphabet);
}

/** @throws {RangeError} when an argument of `transpose` or `untranspose` does not fit. */
export function requireTranspose(
  matrix: DeviceBuffer,
  stride: number,
  tokens: number,
  rows: number,
  chunk: number,
  streams: DeviceBuffer,
  { column, byte }: TransposedPart = { column: 0, byte: 0 },
): void {
  requireCounts("transpose symbols", { stride, tokens, rows, chunk, column, byte });
  const width = column + rows;
  if (stride < width) {
    throw new RangeError(`Cannot transpose symbols: "stride" is ${stride}, expected ${width} or more`);
  }
  if (chunk === 0) throw new RangeError(`Cannot transpose symbols: "chunk" is 0, expected 1 or more`);
  requireBytes("transpose symbols", "symbols", matrix.byteLength, tokens === 0 ? 0 : (tokens - 1) * stride + width);
  requireBytes("transpose symbols", "streams", streams.byteLength, byte + tokens * rows);
}
