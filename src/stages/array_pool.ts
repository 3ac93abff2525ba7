/**
 * Arrays that are lent and come back. Memory in use again costs less than new memory, which a system hands out page by
 * page, cleared.
 *
 * @module
 */

/** A few arrays of similar sizes. */
export class ArrayPool {
  readonly #most: number;
  readonly #free: Uint8Array[] = [];
  /** Buffers of arrays that are lent. What never comes back is left to the engine. */
  readonly #lent = new WeakSet<ArrayBufferLike>();

  /** @param most bytes that wait to be lent again; what is more is let go. */
  constructor(most: number) {
    this.#most = most;
  }

  /** An array of `length` bytes, contents undefined. */
  take(length: number): Uint8Array {
    // The shortest that is long enough: a longer one may be wanted next.
    let index = -1;
    this.#free.forEach((array, i) => {
      if (array.length >= length && (index < 0 || array.length < this.#free[index].length)) index = i;
    });
    const array = index < 0 ? new Uint8Array(length) : this.#free.splice(index, 1)[0];
    this.#lent.add(array.buffer);
    return array.subarray(0, length);
  }

  /** Takes the array back of which `bytes` are a part; bytes of others are left alone. */
  give({ buffer }: Uint8Array): void {
    if (!this.#lent.delete(buffer)) return;
    const waiting = this.#free.reduce((sum, { length }) => sum + length, 0);
    if (waiting + buffer.byteLength <= this.#most) this.#free.push(new Uint8Array(buffer));
  }
}
