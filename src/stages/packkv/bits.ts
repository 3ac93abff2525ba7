/**
 * Numbers of any width from 0 to 16 bits one after another, the first in the lowest bits of the first byte.
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";

/** Bits that numbers from 0 to `most` need. */
export function bitLength(most: number): number {
  return 32 - Math.clz32(most);
}

/** Collects numbers. */
export class BitWriter {
  #bytes = new Uint8Array(1024);
  #length = 0;
  #buffer = 0;
  #have = 0;

  /** Appends the lowest `width` bits of a number that has no others. */
  write(value: number, width: number): void {
    this.#buffer |= value << this.#have;
    for (this.#have += width; this.#have >= 8; this.#have -= 8, this.#buffer >>>= 8) this.#push(this.#buffer & 255);
  }

  /** Pads with zeros to a whole byte. */
  align(): void {
    if (this.#have > 0) this.#push(this.#buffer);
    this.#buffer = this.#have = 0;
  }

  /** All bytes; the writer is aligned. */
  done(): Uint8Array {
    this.align();
    return this.#bytes.slice(0, this.#length);
  }

  #push(byte: number): void {
    if (this.#length === this.#bytes.length) {
      const larger = new Uint8Array(2 * this.#length);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes[this.#length++] = byte;
  }
}

/** Reads them. */
export class BitReader {
  readonly #bytes: Uint8Array;
  readonly #what: string;
  #at: number;
  #buffer = 0;
  #have = 0;

  /** @param what names the stream in messages */
  constructor(bytes: Uint8Array, what: string, begin = 0) {
    this.#bytes = bytes;
    this.#what = what;
    this.#at = begin;
  }

  /** @throws {KvzFormatError} The stream ends before. */
  read(width: number): number {
    for (; this.#have < width; this.#have += 8) {
      if (this.#at >= this.#bytes.length) {
        throw new KvzFormatError(`Cannot decode ${this.#what}: the stream ends too soon`);
      }
      this.#buffer |= this.#bytes[this.#at++] << this.#have;
    }
    const value = this.#buffer & (1 << width) - 1;
    this.#buffer >>>= width;
    this.#have -= width;
    return value;
  }

  /** Goes on at the next whole byte. */
  align(): void {
    this.#buffer = this.#have = 0;
  }

  /** @throws {KvzFormatError} The stream goes on. */
  requireEnd(): void {
    if (this.#at !== this.#bytes.length) {
      throw new KvzFormatError(
        `Cannot decode ${this.#what}: the stream has ${this.#bytes.length} bytes, ${this.#at} are used`,
      );
    }
  }
}
