/**
 * The rANS coder's kernels on a GPU: the streams of docs/format.md ("Entropy streams"), one group of 32 threads a stream,
 * many streams of one geometry a call. ReferenceRans defines every byte.
 *
 * @module
 */
import type { RansContexts } from "../../stages/entropy/rans_contexts.ts";
import type { RansTables } from "../../stages/entropy/rans_tables.ts";
import type { DeviceBuffer } from "../backend.ts";

/** Frequency tables on the device, for both directions. */
export interface DeviceTables {
  readonly bits: number;
  /** Tables. */
  readonly count: number;
  free(): void;
}

/** What chooses the tables of a batch of streams, on the device. */
export interface DeviceContexts {
  readonly variant: RansContexts["variant"];
  free(): void;
}

/** Streams that are coded side by side. */
export interface StreamBatch {
  readonly streams: number;
  /** Rows and tokens of the symbols of each. */
  readonly rows: number;
  readonly tokens: number;
}

/** Which columns are transposed, and where their rows go. */
export interface TransposedPart {
  readonly column: number;
  readonly byte: number;
}

/** What became of a stream: the status words that `decode` writes. */
export const RANS_STATUS = { ok: 0, badState: 1, truncated: 2, notAtEnd: 3 } as const;

/** The kernels. Calls enqueue. */
export interface GpuEntropy {
  /** Most bytes that a call's buffers of coded bytes may have. */
  readonly mostBytes: number;

  /** @throws {RangeError} when a table does not sum to 2^bits. */
  uploadTables(tables: RansTables): DeviceTables;

  /**
   * One entry a stream, or one for all. They index the tables given with the call.
   *
   * @throws {RangeError} when one does not fit rows and tokens, or they differ in variant or `next`.
   */
  uploadContexts(contexts: readonly RansContexts[], batch: StreamBatch, tables: number): DeviceContexts;

  /**
   * Trellis contexts that are on the device, those of each stream: classes u8 [streams][rows][16] and kinds u8
   * [streams][tokens]. They are not checked, and stay the caller's; freeing the result frees nothing.
   *
   * @param next see TrellisContexts
   */
  wrapContexts(classes: DeviceBuffer, kinds: DeviceBuffer, next: Uint8Array): DeviceContexts;

  /**
   * bytes[begins[i] … begins[i + 1]) → symbols u8 [streams][rows][tokens]. `begins` is u32 [streams + 1], even numbers.
   * With `lengths`, u32 [streams], ranges are begins[i] … begins[i] + lengths[i]: what `encode` writes can be decoded as it
   * is. `status` is u32 [streams], {@linkcode RANS_STATUS}. Whatever the bytes are, symbols do not depend on any outside the
   * ranges, and nothing outside the buffers is read or written.
   */
  decode(
    bytes: DeviceBuffer,
    begins: DeviceBuffer,
    batch: StreamBatch,
    tables: DeviceTables,
    contexts: DeviceContexts,
    symbols: DeviceBuffer,
    status: DeviceBuffer,
    lengths?: DeviceBuffer | null,
  ): void;

  /**
   * symbols u8 [streams][rows][tokens] → bytes, stream after stream, each begun at a multiple of 4 (a stream of
   * 4 n + 2 bytes is followed by two zero bytes). `begins` is u32 [streams + 1]: where they begin, and the end of the
   * last; `lengths` is u32 [streams], 0xffffffff for a stream with a symbol of frequency 0 (its bytes are undefined).
   * `bytes` has room for {@linkcode mostBytes}.
   */
  encode(
    symbols: DeviceBuffer,
    batch: StreamBatch,
    tables: DeviceTables,
    contexts: DeviceContexts,
    bytes: DeviceBuffer,
    begins: DeviceBuffer,
    lengths: DeviceBuffer,
  ): void;

  /**
   * counts u32 [rows][alphabet] of symbols u8 [rows][tokens]; symbols at or above `alphabet` (1 to 256) are not counted.
   */
  histogram(symbols: DeviceBuffer, rows: number, tokens: number, alphabet: number, counts: DeviceBuffer): void;

  /**
   * symbols u8 [tokens][stride] → rows u8 [⌈tokens / chunk⌉ chunks][rows][chunk tokens]; the last chunk may be shorter. Rows
   * are columns of the symbols from the first on, or from `part.column`, and go to the beginning of `to`, or to `part.byte`.
   */
  transpose(
    symbols: DeviceBuffer,
    stride: number,
    tokens: number,
    rows: number,
    chunk: number,
    to: DeviceBuffer,
    part?: TransposedPart,
  ): void;

  /** Inverse of {@linkcode transpose}. */
  untranspose(
    from: DeviceBuffer,
    stride: number,
    tokens: number,
    rows: number,
    chunk: number,
    symbols: DeviceBuffer,
  ): void;
}

/** Most bytes that `encode` writes for a batch. */
export function mostBytes({ streams, rows, tokens }: StreamBatch): number {
  return streams * (4 * Math.min(32, tokens) + 2 * rows * tokens + 2);
}
