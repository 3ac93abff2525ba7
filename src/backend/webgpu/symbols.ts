/**
 * Counts of symbols and their layouts on WebGPU: wgsl/counts.wgsl, wgsl/symbols.wgsl.
 *
 * @module
 */
import type { DeviceBuffer } from "../backend.ts";
import type { TransposedPart } from "../gpu/entropy.ts";
import { requireHistogram, requireTranspose } from "../gpu/entropy_check.ts";
import type { WebGpuDevice } from "./device.ts";
import { counts as countsShader } from "./shaders/counts.ts";
import { symbols as symbolsShader } from "./shaders/symbols.ts";

/** Symbols that a workgroup counts. */
const COUNTED = 65536;
/** Side of the squares that are transposed. */
const SIDE = 64;
/** All columns, to the beginning. */
const WHOLE: TransposedPart = { column: 0, byte: 0 };

/** The kernels on one device. */
export class WebGpuSymbols {
  readonly #device: WebGpuDevice;

  constructor(device: WebGpuDevice) {
    this.#device = device;
  }

  /** `GpuEntropy.histogram` */
  histogram(symbols: DeviceBuffer, rows: number, tokens: number, alphabet: number, counts: DeviceBuffer): void {
    requireHistogram(symbols, rows, tokens, alphabet, counts);
    const count = rows * alphabet;
    if (rows === 0) return;
    this.#device.dispatch({
      shader: countsShader,
      entry: "clear",
      buffers: [counts],
      uniforms: Uint32Array.of(count, 0, 0, alphabet, 0, 0, 0, 0),
      workgroups: this.#device.grid(Math.ceil(count / 256)),
    });
    if (tokens === 0) return;
    // Several rows a call, or a part of one.
    const most = Math.max(1, this.#device.mostBytes);
    const [height, width] = [Math.max(1, Math.min(rows, Math.floor(most / tokens))), Math.min(tokens, most)];
    for (let row = 0; row < rows; row += height) {
      const high = Math.min(height, rows - row);
      for (let t = 0; t < tokens; t += width) {
        const wide = Math.min(width, tokens - t);
        const begin = row * tokens + t;
        const { range, skip } = this.#device.range(symbols, begin, begin + high * wide);
        const parts = Math.ceil(wide / COUNTED);
        this.#device.dispatch({
          shader: countsShader,
          entry: "histogram",
          buffers: [counts, range],
          uniforms: Uint32Array.of(high * parts, wide, parts, alphabet, row, skip, 0, 0),
          workgroups: this.#device.grid(high * parts),
        });
      }
    }
  }

  /** `GpuEntropy.transpose` */
  transpose(
    symbols: DeviceBuffer,
    stride: number,
    tokens: number,
    rows: number,
    chunk: number,
    to: DeviceBuffer,
    part: TransposedPart = WHOLE,
  ): void {
    requireTranspose(symbols, stride, tokens, rows, chunk, to, part);
    this.#transpose("transpose", symbols, to, stride, tokens, rows, chunk, part);
  }

  /** `GpuEntropy.untranspose` */
  untranspose(
    from: DeviceBuffer,
    stride: number,
    tokens: number,
    rows: number,
    chunk: number,
    symbols: DeviceBuffer,
  ): void {
    requireTranspose(symbols, stride, tokens, rows, chunk, from);
    this.#transpose("untranspose", symbols, from, stride, tokens, rows, chunk, WHOLE);
  }

  /** Rows of symbols, each padded to whole words, → rows without padding from byte `begin` of `symbols` on. */
  unpad(padded: DeviceBuffer, rows: number, tokens: number, symbols: DeviceBuffer, begin: number): void {
    const bytes = rows * tokens;
    if (bytes === 0) return;
    const { range, skip } = this.#device.range(symbols, begin, begin + bytes);
    const words = Math.ceil((skip + bytes) / 4);
    this.#device.dispatch({
      shader: symbolsShader,
      entry: "unpad",
      buffers: [padded, range],
      uniforms: Uint32Array.of(words, 0, tokens, rows, 0, 0, (tokens + 3) & ~3, 0, skip, 0, 0, 0),
      workgroups: this.#device.grid(Math.ceil(words / 256)),
    });
  }

  /** As many whole chunks a call as can be bound. */
  #transpose(
    entry: "transpose" | "untranspose",
    symbols: DeviceBuffer,
    streams: DeviceBuffer,
    stride: number,
    tokens: number,
    rows: number,
    chunk: number,
    { column, byte }: TransposedPart,
  ): void {
    if (tokens === 0 || rows === 0) return;
    const length = Math.min(chunk, tokens);
    const whole = (stride | length | tokens | column | byte) % 4 === 0;
    const [across, down] = [Math.ceil(rows / SIDE), Math.ceil(length / SIDE)];
    const each = length * Math.max(1, Math.floor(this.#device.mostBytes / (length * stride)));
    for (let first = 0; first < tokens; first += each) {
      const count = Math.min(each, tokens - first);
      const corner = first * stride + column;
      const matrix = this.#device.range(symbols, corner, corner + (count - 1) * stride + rows);
      const matrices = this.#device.range(streams, byte + first * rows, byte + (first + count) * rows);
      const [source, result] = entry === "transpose" ? [matrix, matrices] : [matrices, matrix];
      const words = Math.ceil(result.range.byteLength / 4);
      const items = whole ? across * down * Math.ceil(count / length) : words;
      this.#device.dispatch({
        shader: symbolsShader,
        entry: whole ? `${entry}Words` : entry,
        buffers: [source.range, result.range],
        uniforms: Uint32Array.from([
          ...[items, stride, count, rows, length, across, down, source.skip, result.skip, 0, 0, 0],
        ]),
        workgroups: this.#device.grid(whole ? items : Math.ceil(words / 256)),
      });
    }
  }
}
