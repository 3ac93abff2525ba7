/**
 * Writing and reading streams of fields one after another, little-endian.
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";

/** Collects bytes. */
export class ByteWriter {
  readonly #parts: Uint8Array[] = [];
  #length = 0;

  bytes(part: Uint8Array): void {
    this.#parts.push(part);
    this.#length += part.length;
  }

  u16(value: number): void {
    this.bytes(Uint8Array.of(value & 0xff, value >> 8));
  }

  u32(value: number): void {
    this.bytes(Uint8Array.of(value & 0xff, value >> 8 & 0xff, value >> 16 & 0xff, value >>> 24));
  }

  done(): Uint8Array {
    const out = new Uint8Array(this.#length);
    let at = 0;
    for (const part of this.#parts) {
      out.set(part, at);
      at += part.length;
    }
    return out;
  }
}

/** Reads fields; what is missing or left over is refused by a KvzFormatError. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #what: string;
  #at = 0;

  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes;
    this.#what = what;
  }

  bytes(length: number): Uint8Array {
    const left = this.#bytes.length - this.#at;
    if (length > left) {
      throw new KvzFormatError(`Cannot decode chunk: its ${this.#what} want ${length} more bytes, ${left} are left`);
    }
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  u16(): number {
    const [a, b] = this.bytes(2);
    return a | b << 8;
  }

  u32(): number {
    const [a, b, c, d] = this.bytes(4);
    return (a | b << 8 | c << 16 | d << 24) >>> 0;
  }

  requireEnd(): void {
    const left = this.#bytes.length - this.#at;
    if (left > 0) throw new KvzFormatError(`Cannot decode chunk: its ${this.#what} have ${left} bytes too many`);
  }
}
