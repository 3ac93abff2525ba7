/**
 * Host-visible buffers through which reads go, kept for the next read.
 *
 * @module
 */
import { MAP_READ, USAGE } from "./flags.ts";

/** Most bytes that one staging buffer has; longer reads take several. */
export const STAGING_BYTES: number = 64 << 20;
/** Bytes of idle staging buffers that are kept. */
const KEPT_BYTES = 2 * STAGING_BYTES;

/** The staging buffers of one device. */
export class Staging {
  readonly #device: GPUDevice;
  #idle: GPUBuffer[] = [];
  #closed = false;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** A buffer of at least so many bytes, sizes being powers of two so that they fit again. */
  take(byteLength: number): GPUBuffer {
    let size = 4096;
    while (size < byteLength) size *= 2;
    const at = this.#idle.findIndex((buffer) => buffer.size === size);
    if (at >= 0) return this.#idle.splice(at, 1)[0];
    return this.#device.createBuffer({ label: "kvz read", size, usage: USAGE.mapRead | USAGE.copyDst });
  }

  /** Waits for what was copied into a taken buffer, hands it to `use`, and keeps the buffer. */
  async map(
    buffer: GPUBuffer,
    byteLength: number,
    lost: Promise<never>,
    use: (bytes: Uint8Array) => void,
  ): Promise<void> {
    try {
      // A lost device may leave the mapping pending for ever.
      await Promise.race([buffer.mapAsync(MAP_READ, 0, byteLength), lost]);
      use(new Uint8Array(buffer.getMappedRange(0, byteLength)));
      buffer.unmap();
    } catch (error) {
      buffer.destroy();
      throw error;
    }
    if (this.#closed) return buffer.destroy();
    this.#idle.push(buffer);
    let kept = this.#idle.reduce((sum, { size }) => sum + size, 0);
    while (kept > KEPT_BYTES) {
      const oldest = this.#idle.shift()!;
      kept -= oldest.size;
      oldest.destroy();
    }
  }

  /** Destroys the kept ones; those in use go when they come back. */
  destroy(): void {
    this.#closed = true;
    for (const buffer of this.#idle) buffer.destroy();
    this.#idle = [];
  }
}
