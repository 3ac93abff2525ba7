/**
 * Buffers of the WebGPU backend.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import type { DeviceBuffer } from "../backend.ts";

/** A block of a device's memory: a whole GPUBuffer or, as a view, a part of one. */
export class WebGpuBuffer implements DeviceBuffer {
  readonly byteLength: number;
  /** Where it begins in its GPUBuffer. */
  readonly byteOffset: number;
  /** The device (a WebGpuDevice) that it belongs to. */
  readonly owner: object;
  readonly #parent: WebGpuBuffer | null;
  #buffer: GPUBuffer | null;
  readonly #release: ((buffer: GPUBuffer) => void) | null;

  /** @param release takes the memory back; null where it is the caller's, or a view's. */
  constructor(
    owner: object,
    buffer: GPUBuffer,
    byteOffset: number,
    byteLength: number,
    release: ((buffer: GPUBuffer) => void) | null,
    parent: WebGpuBuffer | null = null,
  ) {
    this.owner = owner;
    this.#buffer = buffer;
    this.byteOffset = byteOffset;
    this.byteLength = byteLength;
    this.#release = release;
    this.#parent = parent;
  }

  /**
   * The GPUBuffer, for work of the caller's own on the same device: call `flush` of the backend before it.
   *
   * @throws {KvzBackendError} when it was freed.
   */
  get gpuBuffer(): GPUBuffer {
    if (this.#buffer === null) throw new KvzBackendError("Cannot use a buffer: it was freed");
    return this.#parent?.gpuBuffer ?? this.#buffer;
  }

  /** A part, from a multiple of 256 on. */
  view(byteOffset: number, byteLength: number): WebGpuBuffer {
    return new WebGpuBuffer(this.owner, this.gpuBuffer, this.byteOffset + byteOffset, byteLength, null, this);
  }

  free(): void {
    if (this.#buffer !== null && this.#parent === null) this.#release?.(this.#buffer);
    this.#buffer = null;
  }
}
