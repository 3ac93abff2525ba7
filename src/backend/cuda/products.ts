/**
 * Matrix products on a CUDA device. `project` and `reconstruct` sum in binary32 from the first term to the last, so that a
 * row's bits depend on nothing else; the fused calls take binary16 rows to the tensor cores (docs/backends.md, "Bounds"),
 * through cuBLASLt where it is present and the product is large.
 *
 * @module
 */
import { type BlockShape, type DeviceBasis, type DeviceBuffer, paddedLength } from "../backend.ts";
import { requireBlocks, requireBytes, requireCounts, requireFeatureRange, requireLeading } from "../check.ts";
import { KvzBackendError } from "../../errors.ts";
import { CudaBasis } from "./basis.ts";
import type { CublasLt } from "./cublaslt.ts";
import type { CudaDevice } from "./device.ts";
import { CudaGemm, type Product } from "./gemm.ts";

/**
 * What coefficients are divided by before they become binary16, so that none that an int2 or int4 code stands for is
 * beyond it: 16 · 65,504 / 32 < 65,504.
 */
const COEFFICIENT_UNIT = 32;

/** The kernels between source layout and feature rows that the fused calls need. */
export interface RowKernels {
  /** {@linkcode Backend.gather} to binary16 rows with stride paddedLength(blocks · dim), nearest even. */
  gatherHalf(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void;
  /** {@linkcode Backend.scatter}. */
  scatter(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void;
}

/** The products of one device. */
export class CudaProducts {
  readonly #device: CudaDevice;
  readonly #rows: RowKernels;
  readonly #gemm: CudaGemm;

  /** `cublas` is null where there is none, or own kernels are wanted. */
  constructor(device: CudaDevice, rows: RowKernels, cublas: CublasLt | null) {
    this.#device = device;
    this.#rows = rows;
    this.#gemm = new CudaGemm(device, cublas);
  }

  /** @throws {RangeError} as {@linkcode Backend.uploadBasis}. */
  uploadBasis(rows: Uint16Array, components: number, features: number): CudaBasis {
    return new CudaBasis(this.#device, rows, components, features);
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
    const { stride } = own;
    const n = requireLeading(basis, components);
    requireBytes("project", "x", x.byteLength, tokens * stride * 4);
    requireBytes("project", "coefficients", coefficients.byteLength, tokens * paddedLength(n) * 4);
    const b = own.address(0, false);
    const sizes = { m: tokens, n, k: stride, limit: n };
    this.#gemm.floats("ByRows", { a: x, lda: stride, b, ldb: stride, c: coefficients, ...sizes });
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
    const k = paddedLength(own.components);
    const n = featureEnd - featureBegin;
    requireBytes("reconstruct", "coefficients", coefficients.byteLength, tokens * k * 4);
    requireBytes("reconstruct", "x", x.byteLength, tokens * paddedLength(n) * 4);
    this.#gemm.floats("ByColumns", {
      a: coefficients,
      lda: k,
      ...columnsFrom(own, featureBegin, false),
      c: x,
      m: tokens,
      n,
      k,
    });
  }

  /** {@linkcode Backend.gatherProject}: rows between are binary16. */
  gatherProject(
    src: DeviceBuffer,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    basis: DeviceBasis,
    coefficients: DeviceBuffer,
    components?: number,
  ): void {
    const own = this.#own(basis);
    const { stride } = own;
    const n = requireLeading(basis, components);
    const { tokens: m, blocks, dim } = shape;
    if (blocks * dim !== own.features) {
      throw new RangeError(`Cannot project ${blocks * dim} features: the basis has ${own.features}`);
    }
    requireBytes("project", "coefficients", coefficients.byteLength, m * paddedLength(n) * 4);
    requireBlocks("gather", shape, src, { byteLength: m * stride * 4, free: () => {} }, rotation, mean);
    const rows = this.#device.alloc(m * stride * 2);
    this.#rows.gatherHalf(src, shape, rotation, mean, rows);
    const b = own.address(0, false);
    const sizes = { m, n, k: stride, limit: n };
    this.#gemm.halves("ByRows", { a: rows, lda: stride, b, ldb: stride, c: coefficients, ...sizes }, 1);
    rows.free();
  }

  /** {@linkcode Backend.reconstructScatter}: coefficients are multiplied as binary16, the leading ones as two. */
  reconstructScatter(
    coefficients: DeviceBuffer,
    basis: DeviceBasis,
    featureBegin: number,
    shape: BlockShape,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    dst: DeviceBuffer,
  ): void {
    const own = this.#own(basis);
    const { tokens: m, blocks, dim } = shape;
    const n = blocks * dim;
    requireFeatureRange(featureBegin, featureBegin + n, own.features);
    const stride = paddedLength(own.components);
    requireBytes("reconstruct", "coefficients", coefficients.byteLength, m * stride * 4);
    const rowBytes = m * paddedLength(n) * 4;
    requireBlocks("scatter", shape, dst, { byteLength: rowBytes, free: () => {} }, rotation, mean);
    const rows = this.#device.alloc(rowBytes);
    const product = { c: rows, m, n };
    if (featureBegin % 8 === 0) {
      const k = own.lead + stride;
      const halves = this.#device.alloc(m * k * 2);
      this.#split(coefficients, stride, own.lead, m, halves);
      const range = columnsFrom(own, featureBegin, true);
      this.#gemm.halves("ByColumns", { a: halves, lda: k, k, ...range, ...product }, COEFFICIENT_UNIT);
      halves.free();
    } else {
      // The tensor cores' tiles are copied 16 bytes at a time.
      const range = columnsFrom(own, featureBegin, false);
      this.#gemm.floats("ByColumns", { a: coefficients, lda: stride, k: stride, ...range, ...product });
    }
    this.#rows.scatter(rows, shape, rotation, mean, dst);
    rows.free();
  }

  /** Ends cuBLASLt; the device must still be open. */
  [Symbol.dispose](): void {
    this.#gemm[Symbol.dispose]();
  }

  #own(basis: DeviceBasis): CudaBasis {
    if (!(basis instanceof CudaBasis) || basis.device !== this.#device) {
      throw new KvzBackendError("Cannot use a basis: it belongs to another backend");
    }
    return basis;
  }

  /** Coefficients as halves, the leading ones as two. */
  #split(coefficients: DeviceBuffer, stride: number, lead: number, tokens: number, halves: DeviceBuffer): void {
    const threads = tokens * (lead + stride) / 8;
    this.#device.launch("gemm", "splitCoefficients", { grid: [Math.ceil(threads / 256), 1, 1], block: [256, 1, 1] }, [
      coefficients,
      { i32: stride },
      { i32: lead },
      { i32: tokens },
      { f32: 1 / COEFFICIENT_UNIT },
      halves,
    ]);
  }
}

/** The columns of a basis from a feature on. */
function columnsFrom(basis: CudaBasis, feature: number, withLead: boolean): Pick<Product, "b" | "ldb" | "limit"> {
  return { b: basis.address(feature, withLead), ldb: basis.stride, limit: basis.stride - feature };
}
