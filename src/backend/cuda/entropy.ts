/**
 * The rANS coder on CUDA: cuda/rans_decode.cu, cuda/rans_encode.cu and cuda/symbols.cu.
 *
 * @module
 */
import type { RansContexts } from "../../stages/entropy/rans_contexts.ts";
import { type RansTables, requireTables } from "../../stages/entropy/rans_tables.ts";
import { usedLanes } from "../../stages/entropy/rans_stream.ts";
import type { DeviceBuffer } from "../backend.ts";
import type { DeviceContexts, DeviceTables, GpuEntropy, StreamBatch, TransposedPart } from "../gpu/entropy.ts";
import {
  requireBatchContexts,
  requireDecode,
  requireEncode,
  requireHistogram,
  requireTranspose,
} from "../gpu/entropy_check.ts";
import type { CudaDevice, KernelArgument } from "./device.ts";
import { CudaContexts, CudaTables, type Lookup, RING_BYTES } from "./entropy_uploads.ts";

/** Bytes of tables that a block copies to shared memory for 16 warps; more are worth it for 32. */
const FEW_TABLE_BYTES = 16384;
/** Most bytes of tables by symbol in shared memory: beyond, the symbols that occur often are in the cache. */
const ENCODE_SHARED_BYTES = 65536;
/** Tokens up to which a lane's trellis states and kinds fit a register: 8 groups of 32, 4 bits each. */
const REGISTER_TOKENS = 256;
/** Warps that a multiprocessor has at once, by the kernels' registers; the second where they need up to 64. */
const RESIDENT_WARPS = 64;
const FEW_RESIDENT_WARPS = 32;
/** Bytes that a warp moves a turn when streams are put together. */
const PART_BYTES = 4096;
/** Tokens up to which a warp counts a row. */
const WARP_TOKENS = 4096;
/** Tokens that a block counts a turn. */
const COUNTED_TOKENS = 65536;
/** Side of the squares that are transposed. */
const SIDE = 64;

/** The kernels on one device. */
export class CudaEntropy implements GpuEntropy {
  /** `begins` is u32. */
  readonly mostBytes = 0xffffffff;
  readonly #device: CudaDevice;
  /** Scratch that is kept between calls, by use. */
  readonly #scratch = new Map<string, DeviceBuffer>();

  constructor(device: CudaDevice) {
    this.#device = device;
  }

  uploadTables(tables: RansTables): DeviceTables {
    requireTables(tables);
    return new CudaTables(this.#device, tables);
  }

  uploadContexts(contexts: readonly RansContexts[], batch: StreamBatch, tables: number): DeviceContexts {
    requireBatchContexts(contexts, batch, tables);
    return CudaContexts.upload(this.#device, contexts);
  }

  wrapContexts(classes: DeviceBuffer, kinds: DeviceBuffer, next: Uint8Array): DeviceContexts {
    return CudaContexts.wrap(classes, kinds, next);
  }

  decode(
    bytes: DeviceBuffer,
    begins: DeviceBuffer,
    batch: StreamBatch,
    tables: DeviceTables,
    contexts: DeviceContexts,
    symbols: DeviceBuffer,
    status: DeviceBuffer,
    lengths: DeviceBuffer | null = null,
  ): void {
    requireDecode(batch, begins, symbols, status, lengths);
    const { streams, rows, tokens } = batch;
    if (streams === 0) return;
    const own = CudaTables.of(tables);
    const { buffer, lookup, sharedBytes } = own.decoding();
    const { kind, grid, warps, states, list } = this.#launch(batch, contexts, sharedBytes, RESIDENT_WARPS);
    const name: Record<Lookup, string> = { shared: "Shared", sought: "Sought", cached: "Cached" };
    this.#device.launch(
      "rans_decode",
      `ransDecode${kind}${name[lookup]}`,
      { grid: [grid, 1, 1], block: [32 * warps, 1, 1], shared: sharedBytes + warps * RING_BYTES },
      [
        ...[bytes, { u32: Math.min(bytes.byteLength, 0xffffffff) }, begins, lengths, { u32: streams }],
        ...[{ u32: rows }, { u32: tokens }, { u32: own.bits }, buffer, { u32: sharedBytes / 4 }],
        ...[...list, states, symbols, status],
      ],
    );
  }

  encode(
    symbols: DeviceBuffer,
    batch: StreamBatch,
    tables: DeviceTables,
    contexts: DeviceContexts,
    bytes: DeviceBuffer,
    begins: DeviceBuffer,
    lengths: DeviceBuffer,
  ): void {
    requireEncode(batch, symbols, bytes, begins, lengths);
    const { streams, rows, tokens } = batch;
    const own = CudaTables.of(tables);
    const slotBytes = (4 * usedLanes(rows, tokens) + 2 * rows * tokens + 15) & ~15;
    const slots = this.#keep("slots", streams * slotBytes);
    if (streams > 0) {
      const buffer = own.encoding();
      const tableBytes = own.count * 2048;
      const sharedBytes = tableBytes <= ENCODE_SHARED_BYTES ? tableBytes : 0;
      const { kind, grid, warps, states, list } = this.#launch(batch, contexts, sharedBytes, FEW_RESIDENT_WARPS);
      const second = kind === "Plain" ? null : this.#keep("second", streams * rows * Math.ceil(tokens / 32) * 4);
      this.#device.launch(
        "rans_encode",
        `ransEncode${kind}${sharedBytes > 0 ? "Shared" : "Cached"}`,
        { grid: [grid, 1, 1], block: [32 * warps, 1, 1], shared: sharedBytes },
        [
          ...[symbols, { u32: streams }, { u32: rows }, { u32: tokens }, { u32: own.bits }],
          ...[buffer, { u32: sharedBytes / 8 }],
          ...[...list, states, second, slots, { u32: slotBytes }, lengths],
        ],
      );
    }
    const one = { grid: [1, 1, 1], block: [1024, 1, 1] } as const;
    this.#device.launch("rans_encode", "ransBegins", one, [lengths, { u32: streams }, begins]);
    const parts = Math.ceil(slotBytes / PART_BYTES);
    if (streams * parts === 0) return;
    this.#device.launch(
      "rans_encode",
      "ransCompact",
      { grid: [this.#blocks(Math.ceil(streams * parts / 8), 16), 1, 1], block: [256, 1, 1] },
      [slots, { u32: slotBytes }, lengths, begins, { u32: streams }, { u32: parts }, bytes],
    );
  }

  histogram(symbols: DeviceBuffer, rows: number, tokens: number, alphabet: number, counts: DeviceBuffer): void {
    requireHistogram(symbols, rows, tokens, alphabet, counts);
    if (rows === 0) return;
    const block = [256, 1, 1] as const;
    if (tokens <= WARP_TOKENS) {
      this.#device.launch(
        "symbols",
        "histogramRows",
        { grid: [this.#blocks(Math.ceil(rows / 8), 16), 1, 1], block },
        [symbols, { u32: rows }, { u32: tokens }, { u32: alphabet }, counts],
      );
      return;
    }
    const parts = Math.ceil(tokens / COUNTED_TOKENS);
    this.#device.fill(counts, 0, 0, 4 * rows * alphabet);
    this.#device.launch(
      "symbols",
      "histogramLong",
      { grid: [this.#blocks(rows * parts, 8), 1, 1], block },
      [symbols, { u32: rows }, { u32: tokens }, { u32: parts }, { u32: alphabet }, counts],
    );
  }

  transpose(
    symbols: DeviceBuffer,
    stride: number,
    tokens: number,
    rows: number,
    chunk: number,
    to: DeviceBuffer,
    part: TransposedPart = { column: 0, byte: 0 },
  ): void {
    requireTranspose(symbols, stride, tokens, rows, chunk, to, part);
    const begins = [{ u32: part.column }, { u64: part.byte }];
    this.#transpose("transposeSymbols", symbols, stride, tokens, rows, chunk, to, begins);
  }

  untranspose(
    from: DeviceBuffer,
    stride: number,
    tokens: number,
    rows: number,
    chunk: number,
    symbols: DeviceBuffer,
  ): void {
    requireTranspose(symbols, stride, tokens, rows, chunk, from);
    this.#transpose("untransposeSymbols", from, stride, tokens, rows, chunk, symbols, []);
  }

  #transpose(
    kernel: string,
    from: DeviceBuffer,
    stride: number,
    tokens: number,
    rows: number,
    chunk: number,
    to: DeviceBuffer,
    begins: readonly KernelArgument[],
  ): void {
    if (tokens === 0 || rows === 0) return;
    const length = Math.min(chunk, tokens);
    const [chunks, down, across] = [Math.ceil(tokens / length), Math.ceil(length / SIDE), Math.ceil(rows / SIDE)];
    this.#device.launch(
      "symbols",
      kernel,
      { grid: [this.#blocks(chunks * down * across, 32), 1, 1], block: [256, 1, 1] },
      [
        ...[from, { u32: stride }, { u32: tokens }, { u32: rows }, { u32: length }],
        ...[{ u32: down }, { u32: across }, { u32: chunks }, to, ...begins],
      ],
    );
  }

  /** How the warps of a batch lie in blocks, and the arguments that contexts have in common. */
  #launch(batch: StreamBatch, contexts: DeviceContexts, tableBytes: number, residentWarps: number): Launch {
    const { streams, tokens } = batch;
    const own = CudaContexts.of(contexts);
    const { multiprocessors } = this.#device;
    // Few streams are spread over all multiprocessors.
    const most = tableBytes <= FEW_TABLE_BYTES ? 16 : 32;
    const warps = Math.max(1, Math.min(most, Math.ceil(streams / multiprocessors)));
    const long = own.variant === "trellis" && tokens > REGISTER_TOKENS;
    const resident = Math.max(1, Math.floor((long ? FEW_RESIDENT_WARPS : residentWarps) / warps));
    const grid = Math.min(Math.ceil(streams / warps), multiprocessors * resident);
    return {
      kind: own.variant === "plain" ? "Plain" : long ? "Long" : "Trellis",
      grid,
      warps,
      states: long ? this.#keep("states", grid * warps * tokens) : null,
      list: own.arguments,
    };
  }

  #blocks(wanted: number, eachMultiprocessor: number): number {
    return Math.max(1, Math.min(wanted, eachMultiprocessor * this.#device.multiprocessors));
  }

  /** Scratch of at least so many bytes. Work that is enqueued may still use what is given back: the device waits. */
  #keep(use: string, byteLength: number): DeviceBuffer {
    const kept = this.#scratch.get(use);
    if (kept !== undefined && kept.byteLength >= byteLength) return kept;
    kept?.free();
    const buffer = this.#device.alloc(Math.max(16, byteLength));
    this.#scratch.set(use, buffer);
    return buffer;
  }
}

interface Launch {
  readonly kind: "Plain" | "Trellis" | "Long";
  /** Blocks. */
  readonly grid: number;
  /** Warps of a block. */
  readonly warps: number;
  readonly states: DeviceBuffer | null;
  readonly list: readonly KernelArgument[];
}
