/**
 * The structure of llama.cpp's sequence state files ("ggsq" version 3), without knowledge of the model: what
 * `llama_state_seq_save_file` writes, and with it node-llama-cpp and llama-server's slot files.
 *
 * The files have no checksum and no lengths beyond those of the rows, so everything is checked against everything, and
 * the last byte read must be the last byte of the file.
 *
 * @module
 */
import { KvzFormatError, KvzUnsupportedError } from "../errors.ts";
import { type GgmlType, ggmlType, ggmlTypeId, isQuantized } from "./ggml_types.ts";
import { MAX_STREAMS } from "./llama_state_layout.ts";

const MAGIC = 0x67677371; // "ggsq"
const SESSION_MAGIC = 0x6767736e; // "ggsn"
const VERSION = 3;
/** llama.cpp's own limit on layers. */
const MAX_LAYERS = 512;

/** One tensor: all cells of one kind of one layer. */
export interface StateTensor {
  readonly type: GgmlType;
  /** Values of a cell: bytes of a row (rows) or number of channels (transposed). */
  readonly width: number;
  /** [cell][row bytes], or [channel][cell] when transposed. */
  readonly bytes: Uint8Array;
}

/** A parsed file. */
export interface LlamaStateFile {
  /** Token ids that the writer listed. */
  readonly tokens: Int32Array;
  /** Streams of the context, and the one that holds the sequence. */
  readonly streams: number;
  readonly stream: number;
  /** Sequence id written with every cell. */
  readonly sequence: number;
  /** Position of each cell, in the order of the file. */
  readonly positions: Int32Array;
  /** Values lie as [channel][cell]. */
  readonly transposedValues: boolean;
  readonly keys: readonly StateTensor[];
  readonly values: readonly StateTensor[];
}

/** Whether bytes begin like a sequence state file. */
export function isLlamaState(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true) === MAGIC;
}

class Cursor {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get left(): number {
    return this.#bytes.length - this.at;
  }

  /** The next bytes, a view. */
  take(length: number, what: string): Uint8Array {
    if (!(length <= this.left)) {
      throw new KvzFormatError(
        `Cannot read llama.cpp state: ${what} at ${this.at} needs ${length} bytes, ${this.left} are left`,
      );
    }
    this.at += length;
    return this.#bytes.subarray(this.at - length, this.at);
  }

  u32(what: string): number {
    this.take(4, what);
    return this.#view.getUint32(this.at - 4, true);
  }

  i32(what: string): number {
    return this.u32(what) | 0;
  }

  u64(what: string): number {
    this.take(8, what);
    return Number(this.#view.getBigUint64(this.at - 8, true)); // sizes beyond 2^53 fail the length check all the same
  }
}

/** Bytes that M-RoPE models put into every cell: x, y and token. */
const MROPE_BYTES = 12;

function readCells(cursor: Cursor, count: number, extra: number): { positions: Int32Array; sequence: number } {
  if (count * (12 + extra) > cursor.left) {
    throw new KvzFormatError(
      `Cannot read llama.cpp state: ${count} cells at ${cursor.at} need more than the ${cursor.left} bytes that are left`,
    );
  }
  const positions = new Int32Array(count);
  let sequence = 0;
  for (let cell = 0; cell < count; cell++) {
    positions[cell] = cursor.i32("position");
    const sequences = cursor.u32("number of sequences");
    if (sequences !== 1) {
      throw new KvzFormatError(
        `Cannot read llama.cpp state: cell ${cell} belongs to ${sequences} sequences, expected 1`,
      );
    }
    cursor.take(extra, "cell extension");
    const id = cursor.i32("sequence");
    if (cell > 0 && id !== sequence) {
      throw new KvzFormatError(`Cannot read llama.cpp state: cell ${cell} is of sequence ${id}, expected ${sequence}`);
    }
    sequence = id;
  }
  return { positions, sequence };
}

function readRows(cursor: Cursor, what: string, cells: number): StateTensor {
  const type = ggmlType(cursor.i32(`type of ${what}`));
  const width = cursor.u64(`row size of ${what}`);
  return { type, width, bytes: cursor.take(width * cells, what) };
}

function readChannels(cursor: Cursor, what: string, cells: number): StateTensor {
  const type = ggmlType(cursor.i32(`type of ${what}`));
  const size = cursor.u32(`element size of ${what}`);
  if (isQuantized(type) || size !== (type === "f32" ? 4 : 2)) {
    throw new KvzFormatError(`Cannot read llama.cpp state: ${what} is transposed ${type} of ${size} bytes an element`);
  }
  const width = cursor.u32(`channels of ${what}`);
  return { type, width, bytes: cursor.take(width * size * cells, what) };
}

type Section = Omit<LlamaStateFile, "tokens">;

function readSection(cursor: Cursor, extra: number): Section {
  const streams = cursor.u32("number of streams");
  if (streams < 1 || streams > MAX_STREAMS) {
    throw new KvzFormatError(`Cannot read llama.cpp state: it has ${streams} streams, expected 1 to ${MAX_STREAMS}`);
  }
  let section: Section | undefined;
  for (let stream = 0; stream < streams; stream++) {
    const cells = cursor.u32(`number of cells of stream ${stream}`);
    if (cells === 0) continue;
    if (section !== undefined) {
      throw new KvzUnsupportedError(
        `Cannot read llama.cpp state: streams ${section.stream} and ${stream} both hold cells, expected one sequence`,
      );
    }
    const { positions, sequence } = readCells(cursor, cells, extra);
    const flag = cursor.u32("value layout");
    const layers = cursor.u32("number of layers");
    if (flag > 1 || layers < 1 || layers > MAX_LAYERS) {
      throw new KvzFormatError(
        `Cannot read llama.cpp state: value layout is ${flag} and there are ${layers} layers, expected 0 or 1 and 1 to ${MAX_LAYERS}`,
      );
    }
    const transposedValues = flag === 1;
    const keys = Array.from({ length: layers }, (_, n) => readRows(cursor, `key of layer ${n}`, cells));
    if (cursor.left === 0) {
      throw new KvzUnsupportedError(
        "Cannot read llama.cpp state: it holds keys and no values, as latent attention (MLA) does, which is not supported",
      );
    }
    const readValues = transposedValues ? readChannels : readRows;
    const values = Array.from({ length: layers }, (_, n) => readValues(cursor, `value of layer ${n}`, cells));
    section = { streams, stream, sequence, positions, transposedValues, keys, values };
  }
  if (section === undefined) {
    throw new KvzUnsupportedError(
      "Cannot read llama.cpp state: it holds no tokens, and without any it does not say its element types",
    );
  }
  return section;
}

/** Whether a section can be read at the cursor, and leaves no rest. */
function fits(bytes: Uint8Array, at: number, extra: number): boolean {
  const cursor = new Cursor(bytes);
  cursor.at = at;
  try {
    readSection(cursor, extra);
  } catch (error) {
    if (error instanceof KvzFormatError || error instanceof KvzUnsupportedError) return false;
    throw error;
  }
  return cursor.left === 0;
}

/**
 * Parses a sequence state file. Tensors are views of `bytes`.
 *
 * @throws {KvzFormatError} It is no such file, of another version, truncated, or followed by something else.
 * @throws {KvzUnsupportedError} Sliding-window, hybrid, latent-attention or M-RoPE states, element types other than
 * f32, f16, bf16, q8_0 and q4_0, several sequences, or none; the message names it.
 */
export function parseLlamaState(bytes: Uint8Array): LlamaStateFile {
  const cursor = new Cursor(bytes);
  const magic = cursor.u32("magic");
  if (magic === SESSION_MAGIC) {
    throw new KvzUnsupportedError(
      'Cannot read llama.cpp state: it is a session of a whole context ("ggsn"), expected a sequence state ("ggsq")',
    );
  }
  if (magic !== MAGIC) {
    throw new KvzFormatError(
      `Cannot read llama.cpp state: magic is 0x${magic.toString(16)}, expected 0x${MAGIC.toString(16)} ("ggsq")`,
    );
  }
  const version = cursor.u32("version");
  if (version !== VERSION) {
    throw new KvzFormatError(`Cannot read llama.cpp state: version is ${version}, expected ${VERSION}`);
  }
  const count = cursor.u32("number of tokens");
  const tokens = new Int32Array(new Uint8Array(cursor.take(count * 4, "tokens")).buffer);
  const start = cursor.at;
  let section: Section;
  try {
    section = readSection(cursor, 0);
  } catch (error) {
    const typed = error instanceof KvzFormatError || error instanceof KvzUnsupportedError;
    if (typed && fits(bytes, start, MROPE_BYTES)) {
      throw new KvzUnsupportedError(
        "Cannot read llama.cpp state: its cells have several positions (M-RoPE), which is not supported",
        { cause: error },
      );
    }
    throw error;
  }
  if (cursor.left > 0) {
    if (fits(bytes, cursor.at, 0)) {
      throw new KvzUnsupportedError(
        "Cannot read llama.cpp state: it has a second section for sliding-window layers, which is not supported",
      );
    }
    throw new KvzFormatError(
      `Cannot read llama.cpp state: ${cursor.left} bytes follow the cache, expected none (hybrid models with recurrent layers are not supported)`,
    );
  }
  return { tokens, ...section };
}

/** Writes a sequence state file. */
export function formatLlamaState(file: LlamaStateFile): Uint8Array {
  const { tokens, streams, stream, sequence, positions, transposedValues, keys, values } = file;
  const cells = positions.length;
  const perTensor = [...keys, ...values].reduce((sum, { bytes }) => sum + 12 + bytes.length, 0);
  const out = new Uint8Array(12 + 4 * tokens.length + 4 + 4 * streams + (cells > 0 ? 12 * cells + 8 + perTensor : 0));
  const view = new DataView(out.buffer);
  let at = 0;
  const u32 = (value: number) => {
    view.setUint32(at, value, true);
    at += 4;
  };
  u32(MAGIC);
  u32(VERSION);
  u32(tokens.length);
  tokens.forEach(u32);
  u32(streams);
  for (let s = 0; s < streams; s++) {
    u32(s === stream ? cells : 0);
    if (s !== stream || cells === 0) continue;
    for (const position of positions) {
      u32(position);
      u32(1);
      u32(sequence);
    }
    u32(Number(transposedValues));
    u32(keys.length);
    for (const [tensors, transposed] of [[keys, false], [values, transposedValues]] as const) {
      for (const { type, width, bytes } of tensors) {
        u32(ggmlTypeId(type));
        if (transposed) {
          u32(type === "f32" ? 4 : 2);
          u32(width);
        } else {
          view.setBigUint64(at, BigInt(width), true);
          at += 8;
        }
        out.set(bytes, at);
        at += bytes.length;
      }
    }
  }
  return out;
}
