/**
 * Buffers of the CUDA backend: memory of its own, parts of it, and memory of the caller.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import type { DeviceBuffer } from "../backend.ts";
import type { CudaDevice } from "./device.ts";

/** A range of device memory. */
export class CudaBuffer implements DeviceBuffer {
  readonly byteLength: number;
  readonly #device: CudaDevice;
  #address: number;
  /** The buffer that a view is a part of. */
  readonly #parent: CudaBuffer | null;
  readonly #release: ((address: number) => void) | null;

  /** Made by {@linkcode CudaDevice}: `release` gives the memory back, null for memory of others. */
  constructor(
    device: CudaDevice,
    address: number,
    byteLength: number,
    parent: CudaBuffer | null,
    release: ((address: number) => void) | null,
  ) {
    this.#device = device;
    this.#address = address;
    this.byteLength = byteLength;
    this.#parent = parent;
    this.#release = release;
  }

  /** `CUdeviceptr`. */
  get pointer(): bigint {
    return BigInt(this.addressFor(this.#device));
  }

  /**
   * Its address, for its device.
   *
   * @throws {KvzBackendError} when it was freed or is of another device.
   */
  addressFor(device: CudaDevice): number {
    if (device !== this.#device) throw new KvzBackendError("Cannot use a buffer: it belongs to another backend");
    if (this.#address < 0) throw new KvzBackendError("Cannot use a buffer: it was freed");
    if (this.#parent !== null) this.#parent.addressFor(device);
    return this.#address;
  }

  free(): void {
    if (this.#address < 0) return;
    const address = this.#address;
    this.#address = -1;
    this.#release?.(address);
  }
}
