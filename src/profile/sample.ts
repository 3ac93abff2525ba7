/**
 * Which rows are kept for the bit allocation: a sample of whole rows that does not depend on the order or on the
 * division of the data.
 *
 * Priority sampling: every row gets a pseudo-random priority from the seed, its sequence and its token index, and the
 * rows with the smallest priorities stay. Any two parts of the data can be sampled apart and their samples merged by
 * the same rule, with the result that the whole would have given.
 *
 * @module
 */
import { mix32 } from "./random.ts";

/** Rows kept for the bit allocation (the KVTC paper takes the first 32 K calibration tokens). */
export const SAMPLE_ROWS = 4096;

/** Priority of a row: an integer below 2⁵³, uniform for random seeds. */
export function rowPriority(seed: number, sequence: bigint, token: number): number {
  const high = Number(sequence >> 32n);
  const low = Number(sequence & 0xffffffffn);
  const a = mix32(mix32(mix32(seed ^ 0x51ed270b) ^ high) + Math.imul(token, 0x9e3779b1));
  const b = mix32(mix32(mix32(seed ^ 0x2545f491) ^ low) + Math.imul(token, 0x85ebca77) ^ a);
  return (a >>> 11) * 2 ** 32 + b;
}

/** The slots of a sample: which row is in which, and which row has to go when a better one comes. */
export class SampleSlots {
  readonly capacity: number;
  /** Priorities by slot, the first {@linkcode size} in use. */
  readonly #priorities: Float64Array;
  /** Slots as a heap, the greatest priority on top. */
  readonly #heap: Int32Array;
  #size = 0;

  constructor(capacity: number = SAMPLE_ROWS) {
    this.capacity = capacity;
    this.#priorities = new Float64Array(capacity);
    this.#heap = new Int32Array(capacity);
  }

  /** Rows in the sample. */
  get size(): number {
    return this.#size;
  }

  /** Offers a row. Returns the slot it goes to, whose row it replaces, or −1 when it is not taken. */
  offer(priority: number): number {
    if (this.#size < this.capacity) {
      const slot = this.#size++;
      this.#priorities[slot] = priority;
      this.#heap[slot] = slot;
      this.#rise(slot);
      return slot;
    }
    if (this.capacity === 0) return -1;
    const slot = this.#heap[0];
    if (priority >= this.#priorities[slot]) return -1;
    this.#priorities[slot] = priority;
    this.#sink();
    return slot;
  }

  /** Slots in use, by ascending priority: the order in which a sample is stored. */
  order(): Int32Array {
    return Int32Array.from({ length: this.#size }, (_, slot) => slot)
      .sort((a, b) => this.#priorities[a] - this.#priorities[b]);
  }

  /** Priorities in ascending order. */
  priorities(): Float64Array {
    return this.#priorities.slice(0, this.#size).sort();
  }

  #rise(at: number): void {
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.#key(parent) >= this.#key(at)) return;
      this.#swap(at, parent);
      at = parent;
    }
  }

  #sink(): void {
    for (let at = 0;;) {
      const left = 2 * at + 1;
      if (left >= this.#size) return;
      const right = left + 1;
      const larger = right < this.#size && this.#key(right) > this.#key(left) ? right : left;
      if (this.#key(at) >= this.#key(larger)) return;
      this.#swap(at, larger);
      at = larger;
    }
  }

  #key(at: number): number {
    return this.#priorities[this.#heap[at]];
  }

  #swap(a: number, b: number): void {
    [this.#heap[a], this.#heap[b]] = [this.#heap[b], this.#heap[a]];
  }
}
