/**
 * Launching the products of cuda/gemm.cu, or cuBLASLt's where it is present and the product is large.
 *
 * @module
 */
import { type DeviceBuffer, paddedLength } from "../backend.ts";
import type { CublasLt } from "./cublaslt.ts";
import type { CudaDevice, KernelArgument } from "./device.ts";
import { chooseTile, type Tile, tileCount } from "./tile_choice.ts";

const HALVES: readonly Tile[] = [
  { rows: 128, columns: 256, threads: 256, shared: 98304, speed: 1 },
  { rows: 128, columns: 128, threads: 128, shared: 65536, speed: 0.9 },
  { rows: 64, columns: 64, threads: 128, shared: 65536, speed: 0.6 },
];
const FLOATS: readonly Tile[] = [
  { rows: 128, columns: 128, threads: 256, shared: 0, speed: 1 },
  { rows: 64, columns: 64, threads: 256, shared: 0, speed: 0.7 },
];

/** By rows: row j of b is column j of the product. By columns: row k of b is depth k. */
export type Order = "ByRows" | "ByColumns";

/** c[m][paddedLength(n)] of a product, as cuda/gemm.cu has it. */
export interface Product {
  readonly a: DeviceBuffer;
  readonly lda: number;
  readonly b: number;
  readonly ldb: number;
  readonly c: DeviceBuffer;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** How far b may be read: rows by rows, columns by columns. */
  readonly limit: number;
}

/** Products on one device. */
export class CudaGemm {
  readonly #device: CudaDevice;
  readonly #cublas: CublasLt | null;
  readonly #tile: number | null;

  /**
   * `cublas`: null where there is none, or own kernels are wanted. `tile`: columns of the tile that every product takes;
   * null for the one that fits it.
   */
  constructor(device: CudaDevice, cublas: CublasLt | null, tile: number | null = null) {
    this.#device = device;
    this.#cublas = cublas;
    this.#tile = tile;
  }

  /** c = a · b of binary32 rows, summed from the first term to the last. */
  floats(order: Order, product: Product): void {
    const { m, n } = product;
    const columns = paddedLength(n);
    if (m === 0 || n === 0) return;
    const tile = chooseTile(FLOATS, m, columns, this.#device.multiprocessors, this.#tile);
    this.#device.launch("gemm", `floats${tile.columns}${order}`, {
      grid: [tileCount(tile, m, columns), 1, 1],
      block: [tile.threads, 1, 1],
    }, argumentsOf(product));
  }

  /** c = factor · a · b of binary16 rows, sums binary32. */
  halves(order: Order, product: Product, factor: number): void {
    const { m, n, k } = product;
    const columns = paddedLength(n);
    if (m === 0 || n === 0) return;
    // cuBLASLt knows no padding: it would write NaN there where a row has one.
    if (this.#cublas !== null && m * n * k >= this.#cublas.least && n % 8 === 0) {
      if (this.#cublas.multiply(order === "ByRows", product, factor)) return;
    }
    const tile = chooseTile(HALVES, m, columns, this.#device.multiprocessors, this.#tile);
    this.#device.launch("gemm", `halves${tile.columns}${order}`, {
      grid: [tileCount(tile, m, columns), 1, 1],
      block: [tile.threads, 1, 1],
      shared: tile.shared,
    }, [...argumentsOf(product), { f32: factor }]);
  }

  /** Ends cuBLASLt; the device must still be open. */
  [Symbol.dispose](): void {
    this.#cublas?.[Symbol.dispose]();
  }
}

function argumentsOf({ a, lda, b, ldb, c, m, n, k, limit }: Product): KernelArgument[] {
  return [a, { i32: lda }, { u64: b }, { i32: ldb }, c, ...[m, n, paddedLength(n), k, limit].map((i32) => ({ i32 }))];
}
