/**
 * Device buffers for one step, freed together.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../backend/backend.ts";

/** Hands out buffers until `free`. */
export class Scratch {
  readonly #backend: Backend;
  readonly #buffers: DeviceBuffer[] = [];

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  /** A buffer of at least `byteLength` bytes, contents undefined. */
  alloc(byteLength: number): DeviceBuffer {
    const buffer = this.#backend.alloc(Math.max(byteLength, 16));
    this.#buffers.push(buffer);
    return buffer;
  }

  /** A buffer with these contents. */
  upload(data: ArrayBufferView): DeviceBuffer {
    const buffer = this.alloc(data.byteLength);
    this.#backend.write(buffer, data);
    return buffer;
  }

  /** Frees all of them. */
  free(): void {
    for (const buffer of this.#buffers) buffer.free();
    this.#buffers.length = 0;
  }
}

/** Runs `use` with scratch buffers that are freed whatever happens. */
export async function withScratch<T>(backend: Backend, use: (scratch: Scratch) => T | Promise<T>): Promise<T> {
  const scratch = new Scratch(backend);
  try {
    return await use(scratch);
  } finally {
    scratch.free();
  }
}
