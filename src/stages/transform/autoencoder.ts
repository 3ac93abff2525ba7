/**
 * The autoencoder of KV-CAR (arXiv 2512.06727, §3.1) at run time: Linear → LeakyReLU → Linear to the latent and, mirrored,
 * back. Layers round to float32 operation by operation in order (dense.ts), so that all backends give the same bits.
 *
 * @module
 */
import type { Autoencoder } from "../../profile/kvcar/types.ts";
import type { Int8Rows } from "../quantize/latent_int8.ts";
import type { DenseLayer, NetFactory, RowElements, RowNet } from "./dense.ts";

/** Both directions. */
export class AutoencoderNet implements Disposable {
  readonly #encoder: RowNet;
  readonly #decoder: RowNet;

  constructor(nets: NetFactory, { inputs, hidden, latent, parameters }: Autoencoder, slope: number) {
    const encoder = hidden * (inputs + 1) + latent * (hidden + 1);
    this.#encoder = nets(halfNet(parameters.subarray(0, encoder), [inputs, hidden, latent], slope));
    this.#decoder = nets(halfNet(parameters.subarray(encoder), [latent, hidden, inputs], slope));
  }

  /** [heads][tokens][inputs / heads] → [tokens][latent] as int8. */
  async encodeToInt8(rows: RowElements, heads: number): Promise<Int8Rows> {
    return await this.#encoder.runToInt8(rows, { from: heads });
  }

  /** The same as binary16, infinite beyond it. */
  async encodeToHalves(rows: RowElements, heads: number): Promise<Uint16Array> {
    return await this.#encoder.runToHalves(rows, { from: heads });
  }

  /** [tokens][latent] → [heads][tokens][inputs / heads]. */
  async decode(latents: RowElements | Int8Rows, heads: number): Promise<Float32Array> {
    return await this.#decoder.run(latents, { into: heads });
  }

  /** The same as binary16; what is finite and beyond it becomes ±65504. */
  async decodeToHalves(latents: RowElements | Int8Rows, heads: number): Promise<Uint16Array> {
    return await this.#decoder.runToHalves(latents, { into: heads, saturate: true });
  }

  [Symbol.dispose](): void {
    this.#encoder[Symbol.dispose]();
    this.#decoder[Symbol.dispose]();
  }
}

/** Layers of one direction; `parameters`: weights [hidden][inputs], biases, weights [outputs][hidden], biases. */
function halfNet(
  parameters: Float32Array,
  [inputs, hidden, outputs]: readonly [number, number, number],
  slope: number,
): DenseLayer[] {
  const second = hidden * (inputs + 1);
  const last = second + outputs * hidden;
  return [
    {
      inputs,
      outputs: hidden,
      weights: transposed(parameters, hidden, inputs),
      bias: parameters.slice(hidden * inputs, second),
      slope,
    },
    {
      inputs: hidden,
      outputs,
      weights: transposed(parameters.subarray(second), outputs, hidden),
      bias: parameters.slice(last, last + outputs),
      slope: 1,
    },
  ];
}

function transposed(matrix: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) out[c * rows + r] = matrix[r * columns + c];
  }
  return out;
}
