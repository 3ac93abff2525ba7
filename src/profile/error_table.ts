/**
 * The error table of the bit allocation: what the runtime quantizer loses on sample rows, for every group that the
 * dynamic program may choose (KVTC, B.17: `simulate_quantization`).
 *
 * @module
 */
import type { CalibrateKernels } from "../backend/wasm/calibrate_kernels.ts";
import { type ErrorTable, GROUP_SIZES, GROUP_TYPES } from "./types.ts";

/** Rows that the kernel takes at a time, one a lane. */
const LANES = 4;

/**
 * Builds an {@linkcode ErrorTable}. Every group is quantized as `Backend.quantize` says, with binary16 shift and scale,
 * float32 steps and E4M3, and restored as `Backend.dequantize` says. Squared errors are added in float32 over a group
 * and in float64 over rows.
 */
export class ErrorTableBuilder {
  readonly rank: number;
  readonly #kernels: CalibrateKernels;
  readonly #errors: number;
  readonly #energy: number;
  readonly #input: number;
  readonly #work: number;
  #rows = 0;

  /** Takes the builder's memory from the kernels. */
  constructor(kernels: CalibrateKernels, rank: number) {
    this.rank = rank;
    this.#kernels = kernels;
    const entries = rank * GROUP_SIZES.length * GROUP_TYPES.length;
    this.#errors = kernels.alloc(entries * 16);
    this.#energy = kernels.alloc(rank * 16);
    this.#input = kernels.alloc(LANES * rank * 4);
    this.#work = kernels.alloc(kernels.exports.errorTableScratchBytes(rank));
    kernels.u8(this.#errors, entries * 16).fill(0);
    kernels.u8(this.#energy, rank * 16).fill(0);
  }

  /** Adds the coefficients of some rows, float32 [rows][stride], of which the first `rank` of each row count. */
  add(coefficients: Float32Array, rows: number, stride: number): void {
    const { rank } = this;
    for (let begin = 0; begin < rows; begin += LANES) {
      const input = this.#kernels.f32(this.#input, LANES * rank);
      // Rows of zeros are quantized without error.
      input.fill(0);
      for (let r = 0; r < Math.min(LANES, rows - begin); r++) {
        const at = (begin + r) * stride;
        input.set(coefficients.subarray(at, at + rank), r * rank);
      }
      this.#kernels.exports.errorTableRows(this.#input, rank, rank, this.#errors, this.#energy, this.#work);
    }
    this.#rows += rows;
  }

  /** The table of all rows added. Errors that are not finite (a shift or scale beyond binary16) become Infinity. */
  finish(): ErrorTable {
    const { rank } = this;
    const perRow = GROUP_SIZES.length * GROUP_TYPES.length;
    const sums = this.#kernels.f64(this.#errors, rank * perRow * 2);
    const errors = new Float32Array(rank * perRow).fill(Infinity);
    for (let i = 0; i < rank; i++) {
      for (let s = 0; s < GROUP_SIZES.length && GROUP_SIZES[s] <= i + 1; s++) {
        for (let t = 0; t < GROUP_TYPES.length; t++) {
          const at = i * perRow + s * GROUP_TYPES.length + t;
          const sum = sums[2 * at] + sums[2 * at + 1];
          if (Number.isFinite(sum)) errors[at] = sum;
        }
      }
    }
    const halves = this.#kernels.f64(this.#energy, rank * 2);
    const energy = Float64Array.from({ length: rank }, (_, i) => halves[2 * i] + halves[2 * i + 1]);
    return { rank, rows: this.#rows, energy, errors };
  }
}
