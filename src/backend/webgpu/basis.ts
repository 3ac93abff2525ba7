/**
 * A basis on a WebGPU device: binary16 rows with stride paddedLength(features), zeros in the padding, in as many buffers as
 * the device's limits ask for.
 *
 * @module
 */
import { DeviceLimitError } from "../fallback.ts";
import { type DeviceBasis, paddedLength } from "../backend.ts";
import type { WebGpuBuffer } from "./buffer.ts";
import type { WebGpuDevice } from "./device.ts";

/** Components that lie in one buffer: a multiple of 8, but that the last part may have zeros after its own. */
export interface BasisPart {
  readonly buffer: WebGpuBuffer;
  /** First component. */
  readonly first: number;
  /** Rows, padding included. */
  readonly rows: number;
}

/** Bytes that are written at once where rows have to be padded. */
const WRITE_BYTES = 1 << 23;

/** A basis as wgsl/gemm.wgsl reads it. */
export class WebGpuBasis implements DeviceBasis {
  readonly components: number;
  readonly features: number;
  readonly byteLength: number;
  readonly device: WebGpuDevice;
  /** Elements from one component to the next. */
  readonly stride: number;
  /** At least one, which may be empty. */
  readonly parts: readonly BasisPart[];

  /** @throws {KvzLimitError} when not even eight components can be bound. */
  constructor(device: WebGpuDevice, rows: Uint16Array, components: number, features: number) {
    this.device = device;
    this.components = components;
    this.features = features;
    this.stride = paddedLength(features);
    const rowBytes = this.stride * 2;
    const most = rowBytes === 0 ? Infinity : Math.floor(device.mostBytes / rowBytes / 8) * 8;
    if (most === 0) {
      throw new DeviceLimitError(
        `Cannot bind 8 components of ${features} features: this WebGPU device binds at most ${device.mostBytes} bytes`,
      );
    }
    const padded = paddedLength(components);
    const parts: BasisPart[] = [];
    for (let first = 0; first === 0 || first < padded; first += most) {
      const count = Math.min(most, padded - first);
      const buffer = device.alloc(count * rowBytes);
      parts.push({ buffer, first, rows: count });
      this.#write(buffer, rows, first, count);
      if (most === Infinity) break;
    }
    this.parts = parts;
    this.byteLength = padded * rowBytes;
  }

  #write(buffer: WebGpuBuffer, rows: Uint16Array, first: number, count: number): void {
    const { components, features, stride } = this;
    const step = Math.max(1, Math.floor(WRITE_BYTES / Math.max(1, stride * 2)));
    for (let at = 0; at < count; at += step) {
      const end = Math.min(count, at + step);
      const known = Math.max(0, Math.min(end, components - first) - at);
      const from = (first + at) * features;
      let part = rows.subarray(from, from + known * features);
      if (features !== stride || known < end - at) {
        part = new Uint16Array((end - at) * stride);
        for (let r = 0; r < known; r++) {
          part.set(rows.subarray(from + r * features, from + (r + 1) * features), r * stride);
        }
      }
      this.device.write(buffer, part, at * stride * 2);
    }
  }

  free(): void {
    for (const { buffer } of this.parts) buffer.free();
  }
}
