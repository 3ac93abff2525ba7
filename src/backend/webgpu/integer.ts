/**
 * The integer transform on WebGPU: products of four signed bytes at a time. Sums are exact.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { DeviceLimitError } from "../fallback.ts";
import { type BlockShape, type DeviceBuffer, paddedLength } from "../backend.ts";
import type { DeviceIntegerBasis, GpuInteger } from "../gpu/integer.ts";
import { requireIntegerBasis, requireLevels, requireSums } from "../gpu/integer_check.ts";
import { hasLanguageFeature } from "./adapter.ts";
import type { WebGpuBuffer } from "./buffer.ts";
import type { WebGpuDevice } from "./device.ts";
import { runLayout, scatterScaled } from "./layout.ts";
import type { Shader } from "./pipelines.ts";
import { integer } from "./shaders/integer.ts";
import { levels as levelsShader } from "./shaders/levels.ts";
import { sums as sumsShader } from "./shaders/sums.ts";

/** The extension that has `dot4I8Packed`. */
const PACKED_DOT = "packed_4x8_integer_dot_product";
/** Depth of a tile, components. */
const DEPTH = 64;
/** Tokens that share a flag; more are cut at multiples of it. */
const FLAG_ROWS = 128;
/** Bytes of feature rows between the two kernels of `scatterSums` for heads that are not read by vectors, at most. */
const ROW_BYTES = 1 << 27;
/** Workgroups with the large tile from which it is taken. */
const MANY = 96;

/** A basis packed by feature: [features][depth], depth = components rounded up to 64. */
class WebGpuIntegerBasis implements DeviceIntegerBasis {
  readonly components: number;
  readonly features: number;
  readonly depth: number;
  readonly device: WebGpuDevice;
  readonly packed: WebGpuBuffer;

  constructor(device: WebGpuDevice, basis: Int8Array, components: number, features: number) {
    this.device = device;
    this.components = components;
    this.features = features;
    this.depth = Math.ceil(components / DEPTH) * DEPTH;
    this.packed = device.alloc(features * this.depth);
    // Some features at a time, so that a large basis takes no second copy on the host.
    const step = Math.max(1, Math.floor((1 << 23) / Math.max(1, this.depth)));
    for (let first = 0; first < features; first += step) {
      const count = Math.min(step, features - first);
      const part = new Int8Array(count * this.depth);
      for (let c = 0; c < components; c++) {
        const row = c * features + first;
        for (let f = 0; f < count; f++) part[f * this.depth + c] = basis[row + f];
      }
      device.write(this.packed, part, first * this.depth);
    }
  }

  free(): void {
    this.packed.free();
  }
}

/** The kernels of one device. */
export class WebGpuInteger implements GpuInteger {
  readonly #device: WebGpuDevice;
  readonly #shader: Shader;

  /** @param packedDot whether to use `dot4I8Packed`; where WGSL has it by default. */
  constructor(device: WebGpuDevice, packedDot: boolean = hasLanguageFeature(PACKED_DOT)) {
    this.#device = device;
    this.#shader = packedDot
      ? integer
      : { name: "integer_bytes", text: integer.text.replaceAll("dot4I8Packed(", "dot_bytes(") };
  }

  uploadBasis(basis: Int8Array, components: number, features: number): DeviceIntegerBasis {
    requireIntegerBasis(basis, components, features);
    return new WebGpuIntegerBasis(this.#device, basis, components, features);
  }

  multiply(
    basis: DeviceIntegerBasis,
    levels: DeviceBuffer,
    stride: number,
    tokens: number,
    featureBegin: number,
    featureEnd: number,
    sums: DeviceBuffer,
  ): void {
    if (!(basis instanceof WebGpuIntegerBasis) || basis.device !== this.#device) {
      throw new KvzBackendError("Cannot use a basis: it belongs to another backend");
    }
    requireLevels(basis, levels, stride, tokens, featureBegin, featureEnd, sums);
    const depth = Math.min(basis.depth, Math.ceil(stride / DEPTH) * DEPTH);
    const columns = paddedLength(featureEnd - featureBegin);
    if (tokens === 0 || columns === 0) return;
    const rowBytes = Math.max(columns * 4, stride * 2, depth);
    const most = Math.floor(this.#device.mostBytes / rowBytes / FLAG_ROWS) * FLAG_ROWS;
    if (most === 0) {
      throw new DeviceLimitError(
        `Cannot bind ${FLAG_ROWS} rows of ${rowBytes} bytes: this WebGPU device binds at most ${this.#device.mostBytes}`,
      );
    }
    for (let at = 0; at < tokens; at += most) {
      const m = Math.min(most, tokens - at);
      const planes = this.#split(levels, at, m, stride, depth);
      this.#multiply(basis, depth, planes, m, featureBegin, featureEnd - featureBegin, sums, at);
      for (const plane of planes) plane.free();
    }
  }

  scatterSums(
    sums: DeviceBuffer,
    shape: BlockShape,
    scales: DeviceBuffer,
    tokenScales: DeviceBuffer,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer,
    dst: DeviceBuffer,
  ): void {
    const stride = requireSums(sums, shape, scales, tokenScales, rotation, mean, dst);
    const { blocks, tokens, dim } = shape;
    if (blocks * tokens * dim === 0) return;
    const whole = { shape, elements: dst, rows: sums, rotation, mean };
    if (scatterScaled(this.#device, whole, { features: scales, tokens: tokenScales })) return;
    const most = Math.min(ROW_BYTES, this.#device.mostBytes);
    const count = Math.min(tokens, Math.max(1, Math.floor(most / (stride * 4))));
    const rows = this.#device.alloc(count * stride * 4);
    for (let begin = 0; begin < tokens; begin += count) {
      const end = Math.min(tokens, begin + count);
      const from = this.#device.range(sums, begin * stride * 4, end * stride * 4);
      const factors = this.#device.range(tokenScales, begin * 4, end * 4);
      this.#device.dispatch({
        shader: sumsShader,
        entry: "restore",
        buffers: [from.range, scales, factors.range, rows],
        uniforms: Uint32Array.of(end - begin, stride / 4, from.skip / 16, factors.skip / 4, blocks * dim, 0, 0, 0),
        workgroups: this.#device.grid(Math.ceil((end - begin) * stride / 4 / 256)),
      });
      runLayout(this.#device, "scatter", { shape, elements: dst, rows, rotation, mean }, { begin, end });
    }
    rows.free();
  }

  /** Planes of low and high bytes of some tokens, and which tiles have high ones. */
  #split(levels: DeviceBuffer, first: number, tokens: number, stride: number, depth: number): WebGpuBuffer[] {
    const tiles = depth / DEPTH;
    const rowTiles = Math.ceil(tokens / FLAG_ROWS);
    const sizes = [tokens * depth, tokens * depth, rowTiles * tiles * 4];
    const planes = sizes.map((bytes) => this.#device.alloc(bytes));
    const from = this.#device.range(levels, first * stride * 2, (first + tokens) * stride * 2);
    this.#device.dispatch({
      shader: levelsShader,
      entry: "split",
      buffers: [from.range, ...planes],
      uniforms: Uint32Array.of(tokens, stride / 8, from.skip / 16, tiles),
      workgroups: [tiles, rowTiles, 1],
    });
    return planes;
  }

  #multiply(
    { packed, depth: basisDepth }: WebGpuIntegerBasis,
    depth: number,
    planes: readonly WebGpuBuffer[],
    m: number,
    featureBegin: number,
    n: number,
    sums: DeviceBuffer,
    first: number,
  ): void {
    const columns = paddedLength(n);
    const to = this.#device.range(sums, first * columns * 4, (first + m) * columns * 4);
    const step = basisDepth === 0 ? columns : Math.floor(this.#device.mostBytes / basisDepth / 8) * 8;
    for (let at = 0; at < columns; at += step) {
      const own = Math.min(step, columns - at);
      const [begin, end] = [featureBegin + at, featureBegin + Math.min(n, at + own)];
      const part = this.#device.range(packed, begin * basisDepth, end * basisDepth);
      const tile = Math.ceil(m / 128) * Math.ceil(own / 128) >= MANY ? 128 : 64;
      this.#device.dispatch({
        shader: this.#shader,
        entry: `product${tile}`,
        buffers: [...planes, part.range, to.range],
        uniforms: Uint32Array.of(
          m,
          own / 4,
          end - begin,
          depth / DEPTH,
          columns / 4,
          to.skip / 16 + at / 4,
          part.skip / 16,
          basisDepth / 16,
        ),
        workgroups: [Math.ceil(m / tile), Math.ceil(own / tile), 1],
      });
    }
  }
}
