/**
 * A basis on a CUDA device: binary16 rows with stride paddedLength(features), zeros in the padding. The leading components
 * stand twice: before all of them once more, where the way back multiplies what their coefficients lose as binary16.
 *
 * @module
 */
import { type DeviceBasis, paddedLength } from "../backend.ts";
import { requireBasis } from "../check.ts";
import type { CudaBuffer, CudaDevice } from "./device.ts";

/** Components whose coefficients are multiplied as the sum of two halves. */
const LEADING = 64;

/** A basis as the kernels of cuda/gemm.cu read it. */
export class CudaBasis implements DeviceBasis {
  readonly components: number;
  readonly features: number;
  readonly byteLength: number;
  /** Elements from one component to the next. */
  readonly stride: number;
  /** Rows before the first component: copies of the leading ones. */
  readonly lead: number;
  /** Device that it lies on. */
  readonly device: CudaDevice;
  readonly #buffer: CudaBuffer;

  /** @throws {RangeError} as {@linkcode requireBasis}. */
  constructor(device: CudaDevice, rows: Uint16Array, components: number, features: number) {
    requireBasis(rows, components, features);
    this.device = device;
    this.components = components;
    this.features = features;
    this.stride = paddedLength(features);
    const padded = paddedLength(components);
    this.lead = Math.min(LEADING, padded);
    this.byteLength = (this.lead + padded) * this.stride * 2;
    this.#buffer = device.alloc(this.byteLength);
    // Some rows at a time, so that a large basis takes no second copy on the host.
    const step = Math.max(1, Math.floor(2 ** 23 / Math.max(1, this.stride)));
    this.#put(rows, 0, this.lead, 0, step);
    this.#put(rows, 0, padded, this.lead, step);
  }

  #put(rows: Uint16Array, begin: number, end: number, at: number, step: number): void {
    const { components, features, stride } = this;
    for (let first = begin; first < end; first += step) {
      const count = Math.min(step, end - first);
      const known = Math.max(0, Math.min(count, components - first));
      let part = rows.subarray(first * features, (first + known) * features);
      if (features !== stride || known < count) {
        part = new Uint16Array(count * stride);
        for (let r = 0; r < known; r++) {
          part.set(rows.subarray((first + r) * features, (first + r + 1) * features), r * stride);
        }
      }
      this.device.write(this.#buffer, part, (at + first - begin) * stride * 2);
    }
  }

  /** Address of element `feature` of the first component, or of the first of the copies before it. */
  address(feature: number, withLead: boolean): number {
    return this.device.address(this.#buffer) + ((withLead ? 0 : this.lead * this.stride) + feature) * 2;
  }

  free(): void {
    this.#buffer.free();
  }
}
