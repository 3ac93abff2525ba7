/**
 * A first-fit allocator over a module's linear memory. Buffers are few and large (a basis, a few chunk buffers), so a
 * sorted list of free ranges does.
 *
 * @module
 */
import { KvzLimitError } from "../../errors.ts";
import type { DeviceBuffer } from "../backend.ts";

const PAGE = 65536;
const ALIGN = 16;

/** A block of linear memory. */
export class WasmBuffer implements DeviceBuffer {
  readonly byteLength: number;
  readonly #memory: WasmHeap;
  #pointer: number;

  constructor(memory: WasmHeap, pointer: number, byteLength: number) {
    this.#memory = memory;
    this.#pointer = pointer;
    this.byteLength = byteLength;
  }

  /** Byte address. Throws RangeError after `free`. */
  get pointer(): number {
    if (this.#pointer < 0) throw new RangeError("Cannot use a buffer: it was freed");
    return this.#pointer;
  }

  free(): void {
    if (this.#pointer < 0) return;
    this.#memory.release(this.#pointer, this.byteLength);
    this.#pointer = -1;
  }
}

/** The allocator. */
export class WasmHeap {
  readonly #memory: WebAssembly.Memory;
  /** Free ranges [begin, end), sorted, never touching. */
  #free: { begin: number; end: number }[];

  constructor(memory: WebAssembly.Memory, base: number) {
    this.#memory = memory;
    const begin = align(base);
    // A module without static data starts with no page at all.
    const missing = Math.ceil((begin - memory.buffer.byteLength) / PAGE);
    if (missing > 0) memory.grow(missing);
    const end = memory.buffer.byteLength;
    this.#free = begin < end ? [{ begin, end }] : [];
  }

  /**
   * Allocates 16-byte aligned memory, contents undefined.
   *
   * @throws {KvzLimitError} when linear memory cannot grow that far
   */
  alloc(byteLength: number): WasmBuffer {
    if (!(Number.isSafeInteger(byteLength) && byteLength >= 0)) {
      throw new RangeError(`Cannot allocate ${byteLength} bytes`);
    }
    const size = align(Math.max(byteLength, 1));
    let at = this.#free.findIndex(({ begin, end }) => end - begin >= size);
    if (at < 0) {
      this.#grow(size);
      at = this.#free.length - 1;
    }
    const range = this.#free[at];
    const pointer = range.begin;
    range.begin += size;
    if (range.begin === range.end) this.#free.splice(at, 1);
    return new WasmBuffer(this, pointer, byteLength);
  }

  /** Gives a block back; {@linkcode WasmBuffer.free} calls it. */
  release(pointer: number, byteLength: number): void {
    const end = pointer + align(Math.max(byteLength, 1));
    let at = this.#free.findIndex((range) => range.begin > pointer);
    if (at < 0) at = this.#free.length;
    this.#free.splice(at, 0, { begin: pointer, end });
    if (at + 1 < this.#free.length && this.#free[at + 1].begin === end) {
      this.#free[at].end = this.#free[at + 1].end;
      this.#free.splice(at + 1, 1);
    }
    if (at > 0 && this.#free[at - 1].end === pointer) {
      this.#free[at - 1].end = this.#free[at].end;
      this.#free.splice(at, 1);
    }
  }

  /** Bytes handed out. */
  get used(): number {
    return this.#memory.buffer.byteLength - this.#free.reduce((sum, { begin, end }) => sum + end - begin, 0);
  }

  #grow(size: number): void {
    const end = this.#memory.buffer.byteLength;
    const last = this.#free[this.#free.length - 1];
    const tail = last !== undefined && last.end === end ? end - last.begin : 0;
    const pages = Math.ceil((size - tail) / PAGE);
    try {
      this.#memory.grow(pages);
    } catch (cause) {
      throw new KvzLimitError(`Cannot allocate ${size} bytes of WebAssembly memory: ${end} bytes are there`, { cause });
    }
    this.release(end, pages * PAGE);
  }
}

function align(bytes: number): number {
  return Math.ceil(bytes / ALIGN) * ALIGN;
}
