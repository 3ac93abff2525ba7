/**
 * The rANS coder on WebGPU: wgsl/rans_decode.wgsl, wgsl/rans_encode.wgsl, wgsl/rans_compact.wgsl. Batches whose buffers
 * exceed what the device binds at once are coded in several calls of their kernels.
 *
 * @module
 */
import type { RansContexts } from "../../stages/entropy/rans_contexts.ts";
import { type RansTables, requireTables } from "../../stages/entropy/rans_tables.ts";
import { usedLanes } from "../../stages/entropy/rans_stream.ts";
import { DeviceLimitError } from "../fallback.ts";
import type { DeviceBuffer } from "../backend.ts";
import type { DeviceContexts, DeviceTables, GpuEntropy, StreamBatch, TransposedPart } from "../gpu/entropy.ts";
import { requireBatchContexts, requireDecode, requireEncode } from "../gpu/entropy_check.ts";
import type { WebGpuDevice } from "./device.ts";
import { WebGpuContexts, WebGpuTables } from "./entropy_uploads.ts";
import { ransCompact } from "./shaders/rans_compact.ts";
import { ransDecode } from "./shaders/rans_decode.ts";
import { ransEncode } from "./shaders/rans_encode.ts";
import { WebGpuSymbols } from "./symbols.ts";

/** Words that a workgroup moves when streams are put together. */
const PART_WORDS = 1024;
/** Workgroups that decode with one table in workgroup memory, stream after stream: more than any device has at once. */
const SINGLE_WORKGROUPS = 8192;
/** Streams of which the places fit 32-bit words in the kernels' arithmetic. */
const MOST_BYTES = 0xffff0000;
/** Mesa's llvmpipe leaves all loops of an invocation after 65,535 rounds, without a word. */
const LLVMPIPE_ROUNDS = 65_000;

/** The kernels on one device. */
export class WebGpuEntropy implements GpuEntropy {
  readonly #device: WebGpuDevice;
  readonly #symbols: WebGpuSymbols;

  constructor(device: WebGpuDevice) {
    this.#device = device;
    this.#symbols = new WebGpuSymbols(device);
  }

  get mostBytes(): number {
    return Math.min(this.#device.mostBytes, MOST_BYTES);
  }

  uploadTables(tables: RansTables): DeviceTables {
    requireTables(tables);
    return new WebGpuTables(this.#device, tables);
  }

  uploadContexts(contexts: readonly RansContexts[], batch: StreamBatch, tables: number): DeviceContexts {
    requireBatchContexts(contexts, batch, tables);
    return WebGpuContexts.upload(this.#device, contexts);
  }

  wrapContexts(classes: DeviceBuffer, kinds: DeviceBuffer, next: Uint8Array): DeviceContexts {
    return WebGpuContexts.wrap(classes, kinds, next);
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
    const [own, context] = [WebGpuTables.of(tables), WebGpuContexts.of(contexts)];
    // Eight buffers are all that can be bound: lengths come to where the status is going to be.
    if (lengths !== null) this.#device.copy(lengths, 0, status, 0, 4 * streams);
    const chosen = context.buffers;
    const single = context.variant === "plain" && own.count === 1 && own.bits === 11;
    this.#requireRounds(batch, single ? Math.ceil(streams / SINGLE_WORKGROUPS) : 1);
    const measured = lengths === null ? 0 : 1;
    // Kernels write whole words; rows of other lengths are put together afterwards.
    const stride = (tokens + 3) & ~3;
    const stateBytes = Math.ceil(tokens / 256) * 128;
    for (const [first, count] of this.#pieces(streams, Math.max(rows * stride, stateBytes))) {
      const padded = stride === tokens ? null : this.#device.alloc(Math.max(16, count * rows * stride));
      const begin = padded === null ? first * rows * stride : 0;
      const { range, skip } = this.#device.range(padded ?? symbols, begin, begin + count * rows * stride);
      const states = context.variant === "plain" ? null : this.#device.alloc(Math.max(16, count * stateBytes));
      this.#device.dispatch({
        shader: ransDecode,
        entry: single ? "plainSingle" : context.variant,
        buffers: [
          ...[bytes, begins, own.decoding(), range, status],
          ...(single ? [] : chosen),
          ...(states === null ? [] : [states]),
        ],
        uniforms: Uint32Array.of(
          count,
          first,
          rows,
          tokens,
          own.bits,
          stride,
          skip / 4,
          ...context.uniforms,
          measured,
          0,
        ),
        workgroups: single ? [Math.min(count, SINGLE_WORKGROUPS), 1, 1] : this.#device.grid(count),
      });
      states?.free();
      if (padded === null) continue;
      this.#symbols.unpad(padded, count * rows, tokens, symbols, first * rows * tokens);
      padded.free();
    }
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
    // Under trellis contexts the groups are walked twice.
    this.#requireRounds(batch, WebGpuContexts.of(contexts).variant === "plain" ? 1 : 2);
    const { streams, rows, tokens } = batch;
    const [own, context] = [WebGpuTables.of(tables), WebGpuContexts.of(contexts)];
    const device = this.#device;
    const slotWords = usedLanes(rows, tokens) + Math.ceil(rows * tokens / 2);
    const groups = Math.ceil(tokens / 32);
    const scratchBytes = (Math.ceil(groups / 8) + Math.ceil(rows * groups / 32)) * 128;
    const pieces = this.#pieces(streams, Math.max(4 * slotWords, scratchBytes)).map(([first, count]) => {
      const slots = device.alloc(Math.max(16, 4 * count * slotWords));
      const begin = first * rows * tokens;
      const { range, skip } = device.range(symbols, begin, begin + count * rows * tokens);
      const scratch = context.variant === "plain" ? null : device.alloc(Math.max(16, count * scratchBytes));
      device.dispatch({
        shader: ransEncode,
        entry: context.variant,
        buffers: [
          ...[range, own.encoding(), slots, lengths, ...context.buffers],
          ...(scratch === null ? [] : [scratch]),
        ],
        uniforms: Uint32Array.of(count, first, rows, tokens, own.bits, slotWords, skip, ...context.uniforms, 0, 0),
        workgroups: device.grid(count),
      });
      scratch?.free();
      return { first, count, slots };
    });
    device.dispatch({
      shader: ransCompact,
      entry: "sum",
      buffers: [lengths, begins],
      uniforms: Uint32Array.of(streams, 0, 0, 0),
      workgroups: [1, 1, 1],
    });
    const parts = Math.ceil(slotWords / PART_WORDS);
    for (const { first, count, slots } of pieces) {
      if (parts > 0) {
        device.dispatch({
          shader: ransCompact,
          entry: "compact",
          buffers: [lengths, begins, slots, bytes],
          uniforms: Uint32Array.of(count, first, slotWords, parts),
          workgroups: device.grid(count * parts),
        });
      }
      slots.free();
    }
  }

  histogram(symbols: DeviceBuffer, rows: number, tokens: number, alphabet: number, counts: DeviceBuffer): void {
    this.#symbols.histogram(symbols, rows, tokens, alphabet, counts);
  }

  transpose(
    symbols: DeviceBuffer,
    stride: number,
    tokens: number,
    rows: number,
    chunk: number,
    to: DeviceBuffer,
    part?: TransposedPart,
  ): void {
    this.#symbols.transpose(symbols, stride, tokens, rows, chunk, to, part);
  }

  untranspose(
    from: DeviceBuffer,
    stride: number,
    tokens: number,
    rows: number,
    chunk: number,
    symbols: DeviceBuffer,
  ): void {
    this.#symbols.untranspose(from, stride, tokens, rows, chunk, symbols);
  }

  /** Refuses streams that this adapter would code wrongly: a row takes a round, its groups one each, their end another. */
  #requireRounds({ rows, tokens }: StreamBatch, walks: number): void {
    const { adapter } = this.#device;
    if (walks * rows * (Math.ceil(tokens / 32) + 2) <= LLVMPIPE_ROUNDS || !/llvmpipe/i.test(adapter)) return;
    throw new DeviceLimitError(
      `Cannot code a stream of ${rows} rows of ${tokens} symbols on ${adapter}: this adapter ends the loops of a ` +
        `kernel after 65,535 rounds; backend wasm codes it`,
    );
  }

  /** Streams [first, count] whose buffers, of so many bytes a stream, can be bound. */
  #pieces(streams: number, bytesEach: number): [first: number, count: number][] {
    const each = Math.max(1, Math.floor(this.mostBytes / Math.max(1, bytesEach)));
    const pieces: [number, number][] = [];
    for (let first = 0; first < streams; first += each) pieces.push([first, Math.min(each, streams - first)]);
    return pieces;
  }
}
