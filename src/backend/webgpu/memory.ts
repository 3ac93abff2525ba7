/**
 * GPUBuffers of one device: freed ones are kept and given out again, since a new one is cleared by WebGPU.
 *
 * @module
 */
import { DeviceLimitError } from "../fallback.ts";
import type { Faults } from "./faults.ts";
import { STORAGE_USAGE } from "./flags.ts";

/** Bytes of freed buffers that are kept. */
const KEPT_BYTES = 256 << 20;

/** The buffers of one device. */
export class Memory {
  readonly #device: GPUDevice;
  readonly #faults: Faults;
  readonly #mostBytes: number;
  readonly #pending: ReadonlySet<GPUBuffer>;
  readonly #live = new Set<GPUBuffer>();
  /** Freed buffers, oldest first. */
  readonly #idle = new Set<GPUBuffer>();
  #idleBytes = 0;
  #used = 0;

  /** @param pending buffers of commands that are not yet submitted */
  constructor(device: GPUDevice, faults: Faults, mostBytes: number, pending: ReadonlySet<GPUBuffer>) {
    this.#device = device;
    this.#pending = pending;
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
      throw new DeviceLimitError(
        `Cannot allocate ${byteLength} bytes: buffers of this WebGPU device have at most ${this.#mostBytes}`,
      );
    }
    for (const buffer of this.#idle) {
      if (buffer.size !== size) continue;
      this.#idle.delete(buffer);
      this.#idleBytes -= size;
      return this.#use(buffer);
    }
    const buffer: GPUBuffer = this.#faults.scoped(
      `allocate ${size} bytes`,
      () => this.#device.createBuffer({ label: "kvz", size, usage: STORAGE_USAGE }),
      () => this.#evict(buffer),
    );
    return this.#use(buffer);
  }

  /** Takes a buffer back, and destroys kept ones beyond the limit. */
  give(buffer: GPUBuffer): void {
    if (!this.#live.delete(buffer)) return;
    this.#used -= buffer.size;
    this.#idle.add(buffer);
    this.#idleBytes += buffer.size;
    this.trim();
  }

  /** Destroys kept buffers beyond a limit; those of commands that are not submitted stay for the next time. */
  trim(keptBytes: number = KEPT_BYTES): void {
    for (const buffer of this.#idle) {
      if (this.#idleBytes <= keptBytes) return;
      if (this.#pending.has(buffer)) continue;
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

  /** A buffer that could not be had is not given out again, and what is kept makes room for the next try. */
  #evict(buffer: GPUBuffer): void {
    if (this.#live.delete(buffer)) this.#used -= buffer.size;
    if (this.#idle.delete(buffer)) this.#idleBytes -= buffer.size;
    buffer.destroy();
    this.trim(0);
  }

  #use(buffer: GPUBuffer): GPUBuffer {
    this.#live.add(buffer);
    this.#used += buffer.size;
    return buffer;
  }
}
