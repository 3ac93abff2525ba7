/**
 * Allocation in a WebAssembly memory: first fit over a list of free ranges, kept sorted and merged. A backend holds a
 * few dozen blocks, so the list stays short.
 *
 * @module
 */
import { KvzLimitError } from "../../errors.ts";

/** Bytes of a WebAssembly page. */
const PAGE = 65536;
/** End of a 32-bit memory. */
const LIMIT = 65536 * PAGE;
/** Blocks begin at multiples of this, a cache line. */
const ALIGNMENT = 64;

interface Range {
  begin: number;
  end: number;
}

/** Hands out blocks of one memory from `base` on. */
export class WasmAllocator {
  readonly #memory: WebAssembly.Memory;
  /** Free ranges by address; no two touch. */
  readonly #free: Range[] = [];
  /** Address → end of the blocks in use. */
  readonly #used = new Map<number, number>();
  /** End of what was handed out or lies in the free list; the memory beyond is fresh. */
  #top: number;

  constructor(memory: WebAssembly.Memory, base: number) {
    this.#memory = memory;
    this.#top = align(base);
  }

  /** Bytes in use. */
  get used(): number {
    let sum = 0;
    for (const [begin, end] of this.#used) sum += end - begin;
    return sum;
  }

  /**
   * Takes `byteLength` bytes, contents undefined, and gives their address. Views of the memory may end with this call,
   * because it may grow.
   *
   * @throws {RangeError} when the length is not a whole number ≥ 0.
   * @throws {KvzLimitError} when the memory cannot hold them.
   */
  alloc(byteLength: number): number {
    if (!(Number.isSafeInteger(byteLength) && byteLength >= 0)) {
      throw new RangeError(`Cannot allocate memory: the length is ${byteLength}, expected a whole number of bytes`);
    }
    const length = align(Math.max(byteLength, 1));
    const index = this.#free.findIndex(({ begin, end }) => end - begin >= length);
    if (index >= 0) {
      const range = this.#free[index];
      const address = range.begin;
      range.begin += length;
      if (range.begin === range.end) this.#free.splice(index, 1);
      this.#used.set(address, address + length);
      return address;
    }
    // Fresh memory, joined to a free range that reaches the top.
    const last = this.#free.at(-1);
    const address = last?.end === this.#top ? last.begin : this.#top;
    this.#grow(address + length, byteLength);
    if (address !== this.#top) this.#free.pop();
    this.#top = address + length;
    this.#used.set(address, this.#top);
    return address;
  }

  /**
   * Gives a block back.
   *
   * @throws {RangeError} when no block in use begins there.
   */
  free(address: number): void {
    const end = this.#used.get(address);
    if (end === undefined) throw new RangeError(`Cannot free memory: no block in use begins at ${address}`);
    this.#used.delete(address);
    let index = this.#free.findIndex(({ begin }) => begin > address);
    if (index < 0) index = this.#free.length;
    this.#free.splice(index, 0, { begin: address, end });
    this.#merge(index);
    if (index > 0) this.#merge(index - 1);
  }

  /** Joins free range `index` with the next one where they touch. */
  #merge(index: number): void {
    const [range, next] = [this.#free[index], this.#free[index + 1]];
    if (next === undefined || range.end !== next.begin) return;
    range.end = next.end;
    this.#free.splice(index + 1, 1);
  }

  #grow(end: number, byteLength: number): void {
    const size = this.#memory.buffer.byteLength;
    if (end <= size) return;
    if (end > LIMIT) {
      throw new KvzLimitError(
        `Cannot allocate ${byteLength} bytes: ${this.used} are in use, a WebAssembly memory has at most ${LIMIT}`,
      );
    }
    try {
      this.#memory.grow(Math.ceil((end - size) / PAGE));
    } catch (cause) {
      throw new KvzLimitError(
        `Cannot allocate ${byteLength} bytes: the engine does not grow a memory of ${size} bytes to ${end}`,
        { cause },
      );
    }
  }
}

function align(length: number): number {
  return Math.ceil(length / ALIGNMENT) * ALIGNMENT;
}
