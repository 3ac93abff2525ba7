/**
 * The calibration kernels (asm/calibrate.ts): loading, and the memory they work on. They are apart from the codec's
 * module, so that what compresses and restores does not carry them.
 *
 * @module
 */
import { KvzBackendError, KvzLimitError } from "../../errors.ts";
import { detectBuild, supportsBuild } from "./detect.ts";
import type { WasmBuild } from "./exports.ts";
import { inflateBuild } from "./inflate.ts";

/** Flags of `gemm`. */
export const GEMM = { accumulate: 1, subtract: 2, upper: 4 } as const;

/** Exports of the module. Pointers are byte addresses; strides and counts are in elements. See asm/calibrate/. */
export interface CalibrateExports {
  readonly memory: WebAssembly.Memory;
  heapBase(): number;
  gemmScratchBytes(): number;
  gemm(
    m: number,
    n: number,
    k: number,
    a: number,
    ars: number,
    acs: number,
    b: number,
    brs: number,
    bcs: number,
    c: number,
    ldc: number,
    flags: number,
    scratch: number,
  ): void;
  gramStride(features: number): number;
  gramDepth(rows: number): number;
  packRows(
    x: number,
    rows: number,
    stride: number,
    features: number,
    shift: number,
    sums: number,
    panels: number,
  ): void;
  gramUpdate(panels: number, rows: number, features: number, g: number): void;
  rankOneUpdate(g: number, features: number, d: number, factor: number, begin: number, end: number): void;
  mirror(a: number, n: number, ld: number): void;
  choleskyScratchBytes(): number;
  cholesky(a: number, n: number, ld: number, tolerance: number, scratch: number): number;
  solveLower(
    l: number,
    ld: number,
    y: number,
    columns: number,
    ldy: number,
    begin: number,
    end: number,
    scratch: number,
  ): void;
  orthogonalizeRows(y: number, columns: number, ldy: number, begin: number, end: number, work: number): number;
  tridiagonalize(
    n: number,
    a: number,
    d: number,
    e: number,
    tau: number,
    work: number,
    from: number,
    to: number,
  ): void;
  formRows(n: number, a: number, tau: number, z: number, begin: number, end: number): void;
  applyRotations(
    n: number,
    z: number,
    begin: number,
    width: number,
    rotations: number,
    sweeps: number,
    count: number,
    strip: number,
  ): void;
  errorTableScratchBytes(rank: number): number;
  errorTableRows(
    coefficients: number,
    stride: number,
    rank: number,
    errors: number,
    energy: number,
    work: number,
  ): void;
}

const PAGE = 65536;
/** Pages of a 32-bit memory. */
const MAX_PAGES = 65536;

/** One instance of the calibration kernels with its own memory, handed out from the bottom like a stack. */
export class CalibrateKernels {
  readonly build: WasmBuild;
  readonly exports: CalibrateExports;
  #top: number;

  private constructor(build: WasmBuild, exports: CalibrateExports) {
    this.build = build;
    this.exports = exports;
    this.#top = exports.heapBase();
  }

  /**
   * Instantiates a build, by default the best one that this engine runs.
   *
   * @throws {KvzBackendError} when the engine cannot run it, or may not compile WebAssembly from bytes (edge runtimes).
   */
  static async open(build: WasmBuild | "auto" = "auto"): Promise<CalibrateKernels> {
    const chosen = build === "auto" ? detectBuild() : supportsBuild(build) ? build : null;
    if (chosen === null) {
      const what = build === "auto" ? "WebAssembly" : `the ${build} build of the kernels`;
      throw new KvzBackendError(`Cannot calibrate: this engine does not run ${what}`);
    }
    // Imported when needed, so that what only compresses and restores does not carry it.
    const bytes = await inflateBuild((await import("./bytes/calibrate.ts")).calibrate, chosen);
    try {
      const { instance } = await WebAssembly.instantiate(bytes);
      return new CalibrateKernels(chosen, instance.exports as unknown as CalibrateExports);
    } catch (cause) {
      throw new KvzBackendError("Cannot calibrate: this runtime does not compile the calibration kernels", { cause });
    }
  }

  /**
   * Takes memory, aligned to 64 bytes, contents undefined. It stays until {@linkcode release}.
   *
   * @throws {KvzLimitError} when the module's 4 GiB do not hold it.
   */
  alloc(byteLength: number): number {
    const address = Math.ceil(this.#top / 64) * 64;
    const end = address + byteLength;
    const { memory } = this.exports;
    const missing = Math.ceil(end / PAGE) - memory.buffer.byteLength / PAGE;
    if (missing > 0) {
      if (memory.buffer.byteLength / PAGE + missing > MAX_PAGES) {
        throw new KvzLimitError(
          `Cannot calibrate: ${end} bytes of memory are needed, a WebAssembly memory has at most ${MAX_PAGES * PAGE}`,
        );
      }
      try {
        memory.grow(missing);
      } catch (cause) {
        throw new KvzLimitError(`Cannot calibrate: the engine does not give ${end} bytes of memory`, { cause });
      }
    }
    this.#top = end;
    return address;
  }

  /** The top of the memory in use, for {@linkcode release}. */
  mark(): number {
    return this.#top;
  }

  /** Gives back everything taken since a mark. */
  release(mark: number): void {
    this.#top = mark;
  }

  /** Memory in use and reserved so far, in bytes. */
  get byteLength(): number {
    return this.exports.memory.buffer.byteLength;
  }

  /** A view of float64 values. It ends with the next {@linkcode alloc}. */
  f64(address: number, length: number): Float64Array<ArrayBuffer> {
    return new Float64Array(this.exports.memory.buffer as ArrayBuffer, address, length);
  }

  /** A view of float32 values. It ends with the next {@linkcode alloc}. */
  f32(address: number, length: number): Float32Array<ArrayBuffer> {
    return new Float32Array(this.exports.memory.buffer as ArrayBuffer, address, length);
  }

  /** A view of signed 32-bit integers. It ends with the next {@linkcode alloc}. */
  i32(address: number, length: number): Int32Array<ArrayBuffer> {
    return new Int32Array(this.exports.memory.buffer as ArrayBuffer, address, length);
  }

  /** A view of bytes. It ends with the next {@linkcode alloc}. */
  u8(address: number, length: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.exports.memory.buffer as ArrayBuffer, address, length);
  }
}
