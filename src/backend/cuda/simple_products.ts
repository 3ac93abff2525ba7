/**
 * Matrix products on a CUDA device, one plain kernel for all shapes.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { type DeviceBasis, type DeviceBuffer, paddedLength } from "../backend.ts";
import { requireBasis, requireBytes, requireCounts, requireFeatureRange } from "../check.ts";
import type { CudaBuffer, CudaDevice, KernelArgument } from "./device.ts";

/** Rows and columns of a block's tile. */
const TILE = 16;

/** Binary16 rows on the device. */
class Rows implements DeviceBasis {
  readonly components: number;
  readonly features: number;
  readonly buffer: CudaBuffer;
  readonly device: CudaDevice;
  constructor(device: CudaDevice, rows: Uint16Array, components: number, features: number) {
    this.components = components;
    this.features = features;
    this.device = device;
    this.buffer = device.alloc(components * features * 2);
    device.write(this.buffer, rows.subarray(0, components * features));
  }
  get byteLength(): number {
    return this.buffer.byteLength;
  }
  free(): void {
    this.buffer.free();
  }
}

/** The products of one device. */
export class SimpleProducts {
  readonly #device: CudaDevice;

  constructor(device: CudaDevice) {
    this.#device = device;
  }

  uploadBasis(rows: Uint16Array, components: number, features: number): DeviceBasis {
    requireBasis(rows, components, features);
    return new Rows(this.#device, rows, components, features);
  }

  project(x: DeviceBuffer, tokens: number, basis: DeviceBasis, coefficients: DeviceBuffer): void {
    const { components, features, buffer } = this.#own(basis);
    requireCounts("project", { tokens });
    requireBytes("project", "x", x.byteLength, tokens * paddedLength(features) * 4);
    requireBytes("project", "coefficients", coefficients.byteLength, tokens * paddedLength(components) * 4);
    this.#multiply(x, paddedLength(features), tokens, features, buffer, 1, features, coefficients, components);
  }

  reconstruct(
    coefficients: DeviceBuffer,
    tokens: number,
    basis: DeviceBasis,
    featureBegin: number,
    featureEnd: number,
    x: DeviceBuffer,
  ): void {
    const { components, features, buffer } = this.#own(basis);
    const stride = paddedLength(components);
    requireCounts("reconstruct", { tokens });
    requireFeatureRange(featureBegin, featureEnd, features);
    requireBytes("reconstruct", "coefficients", coefficients.byteLength, tokens * stride * 4);
    requireBytes("reconstruct", "x", x.byteLength, tokens * paddedLength(featureEnd - featureBegin) * 4);
    const from = { u64: buffer.pointer + BigInt(featureBegin * 2) };
    this.#multiply(coefficients, stride, tokens, components, from, features, 1, x, featureEnd - featureBegin);
  }

  #multiply(
    from: DeviceBuffer,
    stride: number,
    tokens: number,
    length: number,
    basis: KernelArgument,
    step: number,
    jump: number,
    to: DeviceBuffer,
    columns: number,
  ): void {
    const width = paddedLength(columns);
    const sizes = [stride, tokens, length].map((u32) => ({ u32 }));
    this.#device.launch("products", "multiply", {
      grid: [Math.ceil(tokens / TILE), Math.ceil(width / TILE), 1],
      block: [TILE * TILE, 1, 1],
    }, [from, ...sizes, basis, { u32: step }, { u32: jump }, to, { u32: columns }, { u32: width }]);
  }

  #own(basis: DeviceBasis): Rows {
    if (!(basis instanceof Rows) || basis.device !== this.#device) {
      throw new KvzBackendError("Cannot use a basis: it belongs to another backend");
    }
    return basis;
  }
}
