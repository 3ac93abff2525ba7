/**
 * Products of matrices that the host holds, by the backend's kernels, some rows at a time.
 *
 * @module
 */
import { type Backend, type DeviceBuffer, paddedLength } from "../../backend/backend.ts";
import { asUint16 } from "../../cache/elements.ts";
import { deviceGain } from "../../stages/transform/integer_basis.ts";

/** Rows worked on at a time. */
const ROWS = 256;

/** A matrix as the backend takes it: gain · binary16 bits, [any number][length]. */
export interface HalfRows {
  readonly bits: Uint16Array;
  readonly length: number;
  readonly gain: number;
}

/** Two buffers of a backend and what is done with them. */
export class RowProducts implements Disposable {
  readonly #backend: Backend;
  readonly #left: DeviceBuffer;
  readonly #right: DeviceBuffer;
  /** Rows on their way to the device. */
  readonly #host: Float32Array;

  /** @param longest most values of a row on either side of a product */
  constructor(backend: Backend, longest: number) {
    const length = ROWS * paddedLength(longest);
    this.#backend = backend;
    this.#host = new Float32Array(length);
    this.#left = backend.alloc(length * 4);
    this.#right = backend.alloc(length * 4);
  }

  /** Rounds rows [any number][length] to binary16, by a power of two within the device's range. */
  async halves(rows: Float32Array, length: number): Promise<HalfRows> {
    let largest = 0;
    for (let i = 0; i < rows.length; i++) largest = Math.max(largest, Math.abs(rows[i]));
    const gain = deviceGain(largest);
    const bits = new Uint16Array(rows.length);
    for (const { begin, count } of batches(rows.length / length)) {
      this.#fill(rows.subarray(begin * length, (begin + count) * length), length, 1 / gain);
      await this.#round(count, length, bits.subarray(begin * length));
    }
    return { bits, length, gain };
  }

  /** out[r][s] = Σ_i left[r][i] · right[s][i], float32; left [any number][length]. */
  async product(left: Float32Array, { bits, length, gain }: HalfRows): Promise<Float32Array> {
    const [rows, width] = [left.length / length, bits.length / length];
    const stride = paddedLength(width);
    const out = new Float32Array(rows * width);
    const right = this.#backend.uploadBasis(bits, width, length);
    try {
      for (const { begin, count } of batches(rows)) {
        this.#fill(left.subarray(begin * length, (begin + count) * length), length, gain);
        this.#backend.write(this.#left, this.#host.subarray(0, count * paddedLength(length)));
        this.#backend.project(this.#left, count, right, this.#right);
        const sums = await this.#read(this.#right, count * stride);
        for (let r = 0; r < count; r++) {
          out.set(sums.subarray(r * stride, r * stride + width), (begin + r) * width);
        }
      }
      return out;
    } finally {
      right.free();
    }
  }

  /** minuend[r] − Σ_s shares[r][s] · rows[s], rounded to binary16: bits [any number][length]. */
  async difference(minuend: Float32Array, shares: Float32Array, rows: HalfRows): Promise<Uint16Array> {
    const { length, gain } = rows;
    const width = rows.bits.length / length;
    const stride = paddedLength(length);
    const out = new Uint16Array(minuend.length);
    const basis = this.#backend.uploadBasis(rows.bits, width, length);
    try {
      for (const { begin, count } of batches(minuend.length / length)) {
        this.#fill(shares.subarray(begin * width, (begin + count) * width), width, -gain);
        this.#backend.write(this.#left, this.#host.subarray(0, count * paddedLength(width)));
        this.#backend.reconstruct(this.#left, count, basis, 0, length, this.#right);
        const sums = await this.#read(this.#right, count * stride);
        for (let r = 0, from = begin * length; r < count; r++) {
          for (let i = 0, at = r * stride; i < length; i++) this.#host[at + i] = sums[at + i] + minuend[from++];
        }
        await this.#round(count, length, out.subarray(begin * length));
      }
      return out;
    } finally {
      basis.free();
    }
  }

  [Symbol.dispose](): void {
    this.#left.free();
    this.#right.free();
  }

  /** Rows times a factor at the stride that the backend wants, what is between them 0. */
  #fill(rows: Float32Array, length: number, factor: number): void {
    const gap = paddedLength(length) - length;
    for (let from = 0, to = 0; from < rows.length; to += gap) {
      for (const end = from + length; from < end;) this.#host[to++] = rows[from++] * factor;
      this.#host.fill(0, to, to + gap);
    }
  }

  /** The host's rows in binary16. */
  async #round(count: number, length: number, out: Uint16Array): Promise<void> {
    this.#backend.write(this.#right, this.#host.subarray(0, count * paddedLength(length)));
    const shape = { dtype: "f16", blocks: 1, tokens: count, dim: length, rotaryDim: 0 } as const;
    this.#backend.scatter(this.#right, shape, null, null, this.#left);
    out.set(asUint16(await this.#backend.read(this.#left, 0, count * length * 2)));
  }

  async #read(buffer: DeviceBuffer, length: number): Promise<Float32Array> {
    const { buffer: bytes, byteOffset } = await this.#backend.read(buffer, 0, length * 4);
    return new Float32Array(bytes, byteOffset, length);
  }
}

function* batches(rows: number): Generator<{ begin: number; count: number }> {
  for (let begin = 0; begin < rows; begin += ROWS) yield { begin, count: Math.min(ROWS, rows - begin) };
}
