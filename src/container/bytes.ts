/**
 * Where bytes come from and go to: the few interfaces behind which memory, files, blobs and network ranges look alike.
 *
 * @module
 */

/** Random access to immutable bytes. */
export interface ByteSource {
  /** Total length in bytes. */
  readonly size: number;
  /** Reads exactly `length` bytes at `offset`; rejects with RangeError when they are not all there. */
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** Bytes written one after another. */
export interface ByteSink {
  /** Takes the next bytes; they are not kept after the call has ended. */
  write(bytes: Uint8Array): void | Promise<void>;
}

/** Bytes written anywhere (a file that is filled chunk by chunk). */
export interface RandomSink {
  /** Takes the bytes at an offset; they are not kept after the call has ended. */
  writeAt(offset: number, bytes: Uint8Array): void | Promise<void>;
}

/** A byte source over memory (not copied). */
export function memorySource(memory: Uint8Array): ByteSource {
  // A Buffer of Node is a Uint8Array whose slice() copies nothing: its plain view behaves like all others.
  const bytes = new Uint8Array(memory.buffer, memory.byteOffset, memory.byteLength);
  return {
    size: bytes.length,
    read(offset, length) {
      if (!(offset >= 0 && length >= 0 && offset + length <= bytes.length)) {
        return Promise.reject(
          new RangeError(`Cannot read ${length} bytes at ${offset}: the source has ${bytes.length}`),
        );
      }
      return Promise.resolve(bytes.subarray(offset, offset + length));
    },
  };
}

/** A byte source over a Blob or File. */
export function blobSource(blob: Blob): ByteSource {
  return {
    size: blob.size,
    async read(offset, length) {
      if (!(offset >= 0 && length >= 0 && offset + length <= blob.size)) {
        throw new RangeError(`Cannot read ${length} bytes at ${offset}: the blob has ${blob.size}`);
      }
      return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
    },
  };
}

/** A sink that collects what is written; `bytes()` joins it. */
export class MemorySink implements ByteSink {
  readonly #keeps: boolean;
  #parts: Uint8Array[] = [];
  #length = 0;
  /**
   * An empty sink.
   *
   * @param keeps arrays that are written stay as they are until {@linkcode bytes}: they need not be copied twice
   */
  constructor(keeps = false) {
    this.#keeps = keeps;
  }
  /** Copies the bytes, unless they stay as they are. */
  write(bytes: Uint8Array): void {
    this.#parts.push(this.#keeps ? bytes : new Uint8Array(bytes));
    this.#length += bytes.length;
  }
  /** Everything written so far, in one new array. */
  bytes(): Uint8Array {
    const out = new Uint8Array(this.#length);
    let at = 0;
    for (const part of this.#parts) {
      out.set(part, at);
      at += part.length;
    }
    return out;
  }
}
