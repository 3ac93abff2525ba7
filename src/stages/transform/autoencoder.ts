/**
 * The autoencoder of KV-CAR (arXiv 2512.06727, §3.1) at run time: Linear → LeakyReLU → Linear to the latent and, mirrored,
 * back. Products and sums are rounded to float32 one by one in order (products.ts), so that all backends give the same bits.
 *
 * @module
 */
import type { Autoencoder } from "../../profile/kvcar/types.ts";
import type { ProductFactory, RowProduct } from "./products.ts";

/** One direction. */
class HalfNet implements Disposable {
  readonly #first: RowProduct;
  readonly #second: RowProduct;
  readonly #biases: readonly [Float32Array, Float32Array];
  readonly #slope: number;

  /** `parameters`: weights [hidden][inputs], biases, weights [outputs][hidden], biases. */
  constructor(
    products: ProductFactory,
    parameters: Float32Array,
    [inputs, hidden, outputs]: readonly [number, number, number],
    slope: number,
  ) {
    const second = hidden * (inputs + 1);
    this.#first = products(transposed(parameters, hidden, inputs), inputs, hidden);
    this.#second = products(transposed(parameters.subarray(second), outputs, hidden), hidden, outputs);
    const last = second + outputs * hidden;
    this.#biases = [parameters.slice(hidden * inputs, second), parameters.slice(last, last + outputs)];
    this.#slope = slope;
  }

  /** [rows][inputs] → [rows][outputs]. */
  run(rows: Float32Array): Float32Array {
    const hidden = this.#first.multiply(rows);
    addBias(hidden, this.#biases[0]);
    for (let i = 0; i < hidden.length; i++) if (hidden[i] < 0) hidden[i] *= this.#slope;
    const out = this.#second.multiply(hidden);
    addBias(out, this.#biases[1]);
    return out;
  }

  [Symbol.dispose](): void {
    this.#first[Symbol.dispose]();
    this.#second[Symbol.dispose]();
  }
}

/** Both directions. */
export class AutoencoderNet implements Disposable {
  readonly #encoder: HalfNet;
  readonly #decoder: HalfNet;

  constructor(products: ProductFactory, { inputs, hidden, latent, parameters }: Autoencoder, slope: number) {
    const encoder = hidden * (inputs + 1) + latent * (hidden + 1);
    this.#encoder = new HalfNet(products, parameters.subarray(0, encoder), [inputs, hidden, latent], slope);
    this.#decoder = new HalfNet(products, parameters.subarray(encoder), [latent, hidden, inputs], slope);
  }

  /** [tokens][inputs] → [tokens][latent]. */
  encode(rows: Float32Array): Float32Array {
    return this.#encoder.run(rows);
  }

  /** [tokens][latent] → [tokens][inputs]. */
  decode(latents: Float32Array): Float32Array {
    return this.#decoder.run(latents);
  }

  [Symbol.dispose](): void {
    this.#encoder[Symbol.dispose]();
    this.#decoder[Symbol.dispose]();
  }
}

function transposed(matrix: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) out[c * rows + r] = matrix[r * columns + c];
  }
  return out;
}

function addBias(rows: Float32Array, bias: Float32Array): void {
  const n = bias.length;
  for (let at = 0; at < rows.length; at += n) for (let j = 0; j < n; j++) rows[at + j] += bias[j];
}
