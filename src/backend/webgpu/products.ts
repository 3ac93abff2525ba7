/**
 * Matrix products on WebGPU, in binary32 from the first term to the last: a row's bits depend on nothing else. What a
 * device cannot bind at once is multiplied in parts.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { DeviceLimitError } from "../fallback.ts";
import { type DeviceBasis, type DeviceBuffer, paddedLength } from "../backend.ts";
import { requireBlocks, requireBytes, requireCounts, requireFeatureRange, requireLeading } from "../check.ts";
import { WebGpuBasis } from "./basis.ts";
import type { WebGpuDevice } from "./device.ts";
import { type BlockOperands, runLayout } from "./layout.ts";
import { gemm } from "./shaders/gemm.ts";

/** Bytes of feature rows between the two halves of a fused call, at most. */
const ROW_BYTES = 1 << 27;
/** Workgroups with the large tile from which it is taken. */
const MANY = 96;

/** The operands of a fused call. */
export type FusedOperands = Omit<BlockOperands, "rows">;

/** A product over some tokens: sums[t][n] over the basis by rows or, of features [begin, begin + n), by columns. */
interface Product {
  readonly byRows: boolean;
  /** Rows with stride `depth`, a multiple of 8; tokens are counted from their first. */
  readonly rows: DeviceBuffer;
  readonly depth: number;
  readonly sums: DeviceBuffer;
  readonly n: number;
  readonly begin: number;
  readonly tokens: number;
}

/** The products of one device. */
export class WebGpuProducts {
  readonly #device: WebGpuDevice;

  constructor(device: WebGpuDevice) {
    this.#device = device;
  }

  /** The basis was checked. */
  uploadBasis(rows: Uint16Array, components: number, features: number): WebGpuBasis {
    return new WebGpuBasis(this.#device, rows, components, features);
  }

  /** {@linkcode Backend.project}. */
  project(
    x: DeviceBuffer,
    tokens: number,
    basis: DeviceBasis,
    coefficients: DeviceBuffer,
    components?: number,
  ): void {
    requireCounts("project", { tokens });
    const own = this.#own(basis);
    requireBytes("project", "x", x.byteLength, tokens * own.stride * 4);
    const n = requireLeading(basis, components);
    requireBytes("project", "coefficients", coefficients.byteLength, tokens * paddedLength(n) * 4);
    this.#project(x, tokens, own, n, coefficients, 0);
  }

  /** {@linkcode Backend.reconstruct}. */
  reconstruct(
    coefficients: DeviceBuffer,
    tokens: number,
    basis: DeviceBasis,
    featureBegin: number,
    featureEnd: number,
    x: DeviceBuffer,
  ): void {
    requireCounts("reconstruct", { tokens });
    const own = this.#own(basis);
    requireFeatureRange(featureBegin, featureEnd, own.features);
    const stride = paddedLength(own.components);
    requireBytes("reconstruct", "coefficients", coefficients.byteLength, tokens * stride * 4);
    requireBytes("reconstruct", "x", x.byteLength, tokens * paddedLength(featureEnd - featureBegin) * 4);
    this.#reconstruct(coefficients, 0, tokens, own, featureBegin, featureEnd - featureBegin, x);
  }

  /** {@linkcode Backend.gatherProject}, some tokens at a time. */
  gatherProject(
    operands: FusedOperands,
    basis: DeviceBasis,
    coefficients: DeviceBuffer,
    components?: number,
  ): void {
    const own = this.#own(basis);
    const { shape, elements, rotation, mean } = operands;
    const { tokens, blocks, dim } = shape;
    if (blocks * dim !== own.features) {
      throw new RangeError(`Cannot project ${blocks * dim} features: the basis has ${own.features}`);
    }
    requireBlocks("gather", shape, elements, { byteLength: tokens * own.stride * 4, free() {} }, rotation, mean);
    const n = requireLeading(basis, components);
    requireBytes("project", "coefficients", coefficients.byteLength, tokens * paddedLength(n) * 4);
    this.#byTokens(tokens, own.stride * 4, (rows, begin, end) => {
      runLayout(this.#device, "gather", { ...operands, rows }, { begin, end });
      this.#project(rows, end - begin, own, n, coefficients, begin);
    });
  }

  /** {@linkcode Backend.reconstructScatter}, some tokens at a time. */
  reconstructScatter(
    coefficients: DeviceBuffer,
    basis: DeviceBasis,
    featureBegin: number,
    operands: FusedOperands,
  ): void {
    const own = this.#own(basis);
    const { shape, elements, rotation, mean } = operands;
    const { tokens, blocks, dim } = shape;
    const n = blocks * dim;
    requireFeatureRange(featureBegin, featureBegin + n, own.features);
    const rowBytes = paddedLength(n) * 4;
    requireBlocks("scatter", shape, elements, { byteLength: tokens * rowBytes, free() {} }, rotation, mean);
    requireBytes("reconstruct", "coefficients", coefficients.byteLength, tokens * paddedLength(own.components) * 4);
    this.#byTokens(tokens, rowBytes, (rows, begin, end) => {
      this.#reconstruct(coefficients, begin, end - begin, own, featureBegin, n, rows);
      runLayout(this.#device, "scatter", { ...operands, rows }, { begin, end });
    });
  }

  #own(basis: DeviceBasis): WebGpuBasis {
    if (!(basis instanceof WebGpuBasis) || basis.device !== this.#device) {
      throw new KvzBackendError("Cannot use a basis: it belongs to another backend");
    }
    return basis;
  }

  /** Runs a step for ranges of tokens, with a buffer for their feature rows. */
  #byTokens(
    tokens: number,
    rowBytes: number,
    step: (rows: DeviceBuffer, begin: number, end: number) => void,
  ): void {
    if (tokens === 0) return;
    const most = Math.min(ROW_BYTES, this.#device.mostBytes);
    const count = Math.min(tokens, Math.max(1, Math.floor(most / Math.max(1, rowBytes))));
    const rows = this.#device.alloc(count * rowBytes);
    for (let begin = 0; begin < tokens; begin += count) step(rows, begin, Math.min(tokens, begin + count));
    rows.free();
  }

  /** The first `n` coefficients of rows, written from token `first` on. */
  #project(
    x: DeviceBuffer,
    tokens: number,
    basis: WebGpuBasis,
    n: number,
    coefficients: DeviceBuffer,
    first: number,
  ): void {
    const depth = basis.stride;
    this.#multiply({ byRows: true, rows: x, depth, sums: coefficients, n, begin: 0, tokens }, basis, 0, first);
  }

  /** Features of coefficients from token `first` on. */
  #reconstruct(
    coefficients: DeviceBuffer,
    first: number,
    tokens: number,
    basis: WebGpuBasis,
    begin: number,
    n: number,
    x: DeviceBuffer,
  ): void {
    const depth = paddedLength(basis.components);
    this.#multiply({ byRows: false, rows: coefficients, depth, sums: x, n, begin, tokens }, basis, first, 0);
  }

  /** Cuts tokens so that rows and sums can be bound; `rowsFirst` and `sumsFirst` are the tokens that they begin at. */
  #multiply(product: Product, basis: WebGpuBasis, rowsFirst: number, sumsFirst: number): void {
    const { rows, sums, depth, n, tokens } = product;
    const columns = paddedLength(n);
    if (columns === 0 || tokens === 0) return;
    const rowBytes = Math.max(depth, columns) * 4;
    const most = Math.floor(this.#device.mostBytes / rowBytes);
    if (most === 0) {
      throw new DeviceLimitError(
        `Cannot bind a row of ${rowBytes} bytes: this WebGPU device binds at most ${this.#device.mostBytes}`,
      );
    }
    for (let at = 0; at < tokens; at += most) {
      const end = Math.min(tokens, at + most);
      const from = this.#device.range(rows, (rowsFirst + at) * depth * 4, (rowsFirst + end) * depth * 4);
      const to = this.#device.range(sums, (sumsFirst + at) * columns * 4, (sumsFirst + end) * columns * 4);
      for (const part of basis.parts) {
        if (product.byRows && part.first >= columns) break;
        // By rows a part gives columns of its own, by columns it adds its depths to the same.
        const own = product.byRows ? Math.min(part.rows, columns - part.first) : columns;
        const m = end - at;
        const tile = Math.ceil(m / 128) * Math.ceil(own / 128) >= MANY ? 128 : 64;
        this.#device.dispatch({
          shader: gemm,
          entry: `product${tile}`,
          constants: { BY_ROWS: Number(product.byRows) },
          buffers: [from.range, part.buffer, to.range],
          uniforms: Uint32Array.of(
            m,
            own / 4,
            product.byRows ? n - part.first : n,
            product.byRows ? depth : part.rows,
            depth / 4,
            columns / 4,
            from.skip / 16 + (product.byRows ? 0 : part.first / 4),
            to.skip / 16 + (product.byRows ? part.first / 4 : 0),
            basis.stride,
            product.begin,
            part.rows,
            Number(!product.byRows && part.first > 0),
          ),
          workgroups: [Math.ceil(m / tile), Math.ceil(own / tile), 1],
        });
      }
    }
  }
}
