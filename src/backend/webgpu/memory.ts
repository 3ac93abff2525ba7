/**
 * GPUBuffers of one device: freed ones are kept and given out again, since a new one is cleared by WebGPU.
 *
 * @module
 */
import { KvzLimitError } from "../../errors.ts";
import type { Faults } from "./faults.ts";
import { STORAGE_USAGE } from "./flags.ts";

/** Bytes of freed buffers that are kept. */
const KEPT_BYTES = 256 << 20;

/** The buffers of one device. */
export class Memory {
  readonly #device: GPUDevice;
  readonly #faults: Faults;
  readonly #mostBytes: number;
  readonly #live = new Set<GPUBuffer>();
  /** Freed buffers, oldest first. */
  readonly #idle = new Set<GPUBuffer>();
  #idleBytes = 0;
  #used = 0;

  constructor(device: GPUDevice, faults: Faults, mostBytes: number) {
    this.#device = device;
    this.#mostBytes = mostBytes;
    this.#faults = faults;
  }

  /** Bytes of the buffers in use. */
  get used(): number {
    return this.#used;
  }

  /**
   * A buffer of at least so many bytes, a multiple of 16. Lack of memory shows at the next read.
   *
   * @throws {KvzLimitError} when the device has no buffers so large.
   */
  take(byteLength: number): GPUBuffer {
    const size = Math.max(16, Math.ceil(byteLength / 16) * 16);
    if (size > this.#mostBytes) {
      throw new KvzLimitError(
        `Cannot allocate ${byteLength} bytes: buffers of this WebGPU device have at most ${this.#mostBytes}`,
      );
    }
    for (const buffer of this.#idle) {
      if (buffer.size !== size) continue;
      this.#idle.delete(buffer);
      this.#idleBytes -= size;
      return this.#use(buffer);
    }
    return this.#use(this.#faults.scoped(`allocate ${size} bytes`, () => {
      return this.#device.createBuffer({ label: "kvz", size, usage: STORAGE_USAGE });
    }));
  }

  /** Takes a buffer back. Commands that use it must have been submitted when `trim` runs next. */
  give(buffer: GPUBuffer): void {
    if (!this.#live.delete(buffer)) return;
    this.#used -= buffer.size;
    this.#idle.add(buffer);
    this.#idleBytes += buffer.size;
  }

  /** Destroys kept buffers beyond the limit. */
  trim(): void {
    for (const buffer of this.#idle) {
      if (this.#idleBytes <= KEPT_BYTES) return;
      this.#idle.delete(buffer);
      this.#idleBytes -= buffer.size;
      buffer.destroy();
    }
  }

  destroy(): void {
    for (const buffer of [...this.#live, ...this.#idle]) buffer.destroy();
    this.#live.clear();
    this.#idle.clear();
    this.#idleBytes = this.#used = 0;
  }

  #use(buffer: GPUBuffer): GPUBuffer {
    this.#live.add(buffer);
    this.#used += buffer.size;
    return buffer;
  }
}
