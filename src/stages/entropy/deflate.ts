/**
 * DEFLATE (RFC 1951, raw) through the platform's Compression Streams, with a raw fallback where it does not pay.
 * KVTC's entropy coder (paper §3.3). The level is the platform's; bytes may differ between runtimes, what they decode
 * to does not.
 *
 * @module
 */
import { KvzBackendError, KvzFormatError } from "../../errors.ts";

/** How the bytes of a stream are coded: as they are, or as raw DEFLATE. */
export type StreamCodec = "raw" | "deflate-raw";

/** A byte stream as it is stored. */
export interface CodedStream {
  readonly codec: StreamCodec;
  /** Length before coding. */
  readonly rawLength: number;
  readonly bytes: Uint8Array;
}

/** A stream outside its file: stored as is. */
export function rawStream(bytes: Uint8Array): CodedStream {
  return { codec: "raw", rawLength: bytes.length, bytes };
}

/** Deflates `bytes`, or keeps them raw when that is not larger. */
export async function encodeStream(bytes: Uint8Array): Promise<CodedStream> {
  if (bytes.length === 0) return rawStream(bytes);
  requireStreams();
  const out = await collect(bytes, new CompressionStream("deflate-raw"), bytes.length);
  return out === null ? rawStream(bytes) : { codec: "deflate-raw", rawLength: bytes.length, bytes: out };
}

/**
 * Inverse of {@linkcode encodeStream}. Never produces more than `expected` bytes, whatever the input says.
 *
 * @throws {KvzFormatError} damaged DEFLATE data, or another length than `expected`.
 */
export async function decodeStream(stream: CodedStream, expected: number, what: string): Promise<Uint8Array> {
  const { codec, rawLength, bytes } = stream;
  if (rawLength !== expected) {
    throw new KvzFormatError(`Cannot decode ${what}: it declares ${rawLength} bytes, its geometry wants ${expected}`);
  }
  if (codec === "raw") {
    if (bytes.length !== expected) {
      throw new KvzFormatError(`Cannot decode ${what}: it has ${bytes.length} bytes, expected ${expected}`);
    }
    return bytes;
  }
  requireStreams();
  let out: Uint8Array | null;
  try {
    out = await collect(bytes, new DecompressionStream("deflate-raw"), expected + 1);
  } catch (cause) {
    throw new KvzFormatError(`Cannot decode ${what}: its DEFLATE data is damaged`, { cause });
  }
  if (out === null || out.length !== expected) {
    const found = out === null ? `more than ${expected}` : `${out.length}`;
    throw new KvzFormatError(`Cannot decode ${what}: it inflates to ${found} bytes, expected ${expected}`);
  }
  return out;
}

function requireStreams(): void {
  if (typeof CompressionStream === "undefined" || typeof DecompressionStream === "undefined") {
    throw new KvzBackendError("Cannot use DEFLATE: this runtime has no CompressionStream");
  }
}

/** Runs `input` through a transform; null as soon as the output would reach `limit` bytes. */
async function collect(
  input: Uint8Array,
  transform: CompressionStream | DecompressionStream,
  limit: number,
): Promise<Uint8Array | null> {
  const writer = transform.writable.getWriter();
  const reader = transform.readable.getReader() as ReadableStreamDefaultReader<Uint8Array>;
  const pump = (async () => {
    await writer.write(input as Uint8Array<ArrayBuffer>);
    await writer.close();
  })();
  // Its failure also fails the reader below, which reports it; unobserved it would end the process.
  const written = pump.then(() => null, (error: unknown) => ({ error }));
  const parts: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    length += value.length;
    if (length >= limit) {
      await reader.cancel();
      await written;
      return null;
    }
    parts.push(value);
  }
  const failed = await written;
  if (failed) throw failed.error;
  if (parts.length === 1) return parts[0];
  const out = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
