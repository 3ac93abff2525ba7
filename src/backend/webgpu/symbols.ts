/**
 * Counts of symbols and their layouts on WebGPU: wgsl/counts.wgsl, wgsl/symbols.wgsl.
 *
 * @module
 */
import type { DeviceBuffer } from "../backend.ts";
import { requireHistogram, requireTranspose } from "../gpu/entropy_check.ts";
import type { WebGpuDevice } from "./device.ts";
import { counts as countsShader } from "./shaders/counts.ts";
import { symbols as symbolsShader } from "./shaders/symbols.ts";

/** Symbols that a workgroup counts. */
const COUNTED = 65536;
/** Side of the squares that are transposed. */
const SIDE = 64;

/** The kernels on one device. */
export class WebGpuSymbols {
  readonly #device: WebGpuDevice;

  constructor(device: WebGpuDevice) {
    this.#device = device;
  }

  /** `GpuEntropy.histogram` */
  histogram(symbols: DeviceBuffer, rows: number, tokens: number, alphabet: number, counts: DeviceBuffer): void {
    requireHistogram(symbols, rows, tokens, alphabet, counts);
    const [parts, count] = [Math.ceil(tokens / COUNTED), rows * alphabet];
    if (rows === 0) return;
    this.#device.dispatch({
      shader: countsShader,
      entry: "clear",
      buffers: [counts],
      uniforms: Uint32Array.of(count, tokens, parts, alphabet),
      workgroups: this.#device.grid(Math.ceil(count / 256)),
    });
    if (tokens === 0) return;
    this.#device.dispatch({
      shader: countsShader,
      entry: "histogram",
      buffers: [counts, symbols],
      uniforms: Uint32Array.of(rows * parts, tokens, parts, alphabet),
      workgroups: this.#device.grid(rows * parts),
    });
  }

  /** `GpuEntropy.transpose` */
  transpose(
    symbols: DeviceBuffer,
    stride: number,
    tokens: number,
    rows: number,
    chunk: number,
    to: DeviceBuffer,
  ): void {
    requireTranspose(symbols, stride, tokens, rows, chunk, to);
    const words = Math.ceil(tokens * rows / 4);
    this.#transpose("transpose", words, symbols, stride, tokens, rows, chunk, to);
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
    const words = Math.ceil(((tokens - 1) * stride + rows) / 4);
    this.#transpose("untranspose", words, from, stride, tokens, rows, chunk, symbols);
  }

  /** Rows of symbols, each padded to whole words, → rows without padding. */
  unpad(padded: DeviceBuffer, rows: number, tokens: number, symbols: DeviceBuffer): void {
    const words = Math.ceil(rows * tokens / 4);
    if (words === 0) return;
    this.#device.dispatch({
      shader: symbolsShader,
      entry: "unpad",
      buffers: [padded, symbols],
      uniforms: Uint32Array.of(words, 0, tokens, rows, 0, 0, (tokens + 3) & ~3, 0),
      workgroups: this.#device.grid(Math.ceil(words / 256)),
    });
  }

  #transpose(
    entry: "transpose" | "untranspose",
    words: number,
    from: DeviceBuffer,
    stride: number,
    tokens: number,
    rows: number,
    chunk: number,
    to: DeviceBuffer,
  ): void {
    if (tokens === 0 || rows === 0) return;
    const length = Math.min(chunk, tokens);
    const whole = (stride | length | tokens) % 4 === 0;
    const [across, down] = [Math.ceil(rows / SIDE), Math.ceil(length / SIDE)];
    const count = whole ? across * down * Math.ceil(tokens / length) : words;
    this.#device.dispatch({
      shader: symbolsShader,
      entry: whole ? `${entry}Words` : entry,
      buffers: [from, to],
      uniforms: Uint32Array.of(count, stride, tokens, rows, length, across, down, 0),
      workgroups: this.#device.grid(whole ? count : Math.ceil(words / 256)),
    });
  }
}
