/**
 * Exact-length reads from a stream of pieces of any size.
 *
 * @module
 */
import { KvzFormatError } from "../errors.ts";

/** Collects the pieces of a stream until a wanted number of bytes is there. */
export class StreamBuffer {
  readonly #pull: () => Promise<IteratorResult<Uint8Array, undefined>>;
  readonly #cancel: () => Promise<unknown>;
  #pieces: Uint8Array[] = [];
  #held = 0;
  #ended = false;
  /** Bytes handed out so far: the file offset of the next one. */
  offset = 0;

  /** Takes the stream over: it is locked until {@linkcode close}. */
  constructor(stream: ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>) {
    if ("getReader" in stream) {
      // Not every browser iterates over web streams.
      const reader = stream.getReader();
      this.#pull = () => reader.read() as Promise<IteratorResult<Uint8Array, undefined>>;
      this.#cancel = async () => {
        await reader.cancel();
        reader.releaseLock();
      };
    } else {
      const iterator = stream[Symbol.asyncIterator]();
      this.#pull = () => iterator.next();
      this.#cancel = async () => await iterator.return?.();
    }
  }

  /**
   * Takes exactly `length` bytes. What is held grows only as data arrive, whatever `length` says.
   *
   * @throws {KvzFormatError} when the stream ends first, naming `what` was being read
   */
  async take(length: number, what: string): Promise<Uint8Array> {
    while (this.#held < length) {
      if (!await this.#fill()) {
        throw new KvzFormatError(
          `Cannot read ${what}: the stream ends at ${
            this.offset + this.#held
          }, expected ${length} bytes at ${this.offset}`,
        );
      }
    }
    this.offset += length;
    this.#held -= length;
    return this.#join(length);
  }

  /** Whether the stream has no further byte. */
  async atEnd(): Promise<boolean> {
    while (this.#held === 0) {
      if (!await this.#fill()) return true;
    }
    return false;
  }

  /** Releases the stream, cancelling what has not been read. */
  async close(): Promise<void> {
    this.#pieces = [];
    this.#held = 0;
    if (this.#ended) return;
    this.#ended = true;
    await this.#cancel();
  }

  /** Pulls one piece; false at the end. */
  async #fill(): Promise<boolean> {
    if (this.#ended) return false;
    // A stream that fails has ended as well: there is nothing left to cancel.
    this.#ended = true;
    const { done, value } = await this.#pull();
    if (done) return false;
    this.#ended = false;
    if (value.length > 0) {
      this.#pieces.push(value);
      this.#held += value.length;
    }
    return true;
  }

  /** Moves `length` bytes that are held into one array of their own. */
  #join(length: number): Uint8Array {
    const out = new Uint8Array(length);
    let at = 0;
    let used = 0;
    while (at < length) {
      const piece = this.#pieces[used];
      const n = Math.min(piece.length, length - at);
      out.set(n === piece.length ? piece : piece.subarray(0, n), at);
      at += n;
      if (n === piece.length) used++;
      else this.#pieces[used] = piece.subarray(n);
    }
    this.#pieces.splice(0, used);
    return out;
  }
}
