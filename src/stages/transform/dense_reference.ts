/**
 * The definition of dense layers: each product and each sum rounded to float32 by itself, in order, then the bias, then the
 * slope.
 *
 * @module
 */
import { toHalves } from "../../cache/elements.ts";
import { encodeLatents, type Int8Rows } from "../quantize/latent_int8.ts";
import type { DenseLayer, HalvesOptions, RowBlocks, RowElements, RowNet } from "./dense.ts";
import { floatsOf, joinBlocks, splitBlocks } from "./row_elements.ts";

/** The layers in plain TypeScript. */
export class ReferenceNet implements RowNet {
  readonly #layers: readonly DenseLayer[];

  constructor(layers: readonly DenseLayer[]) {
    this.#layers = layers;
  }

  run(rows: RowElements | Int8Rows, { from = 1, into = 1 }: RowBlocks = {}): Float32Array {
    const layers = this.#layers;
    const results = layers.reduce(applyLayer, joinBlocks(floatsOf(rows, layers[0].inputs), from, layers[0].inputs));
    return splitBlocks(results, into, layers[layers.length - 1].outputs);
  }

  runToHalves(rows: RowElements | Int8Rows, options: HalvesOptions = {}): Uint16Array {
    return toHalves(this.run(rows, options), options.saturate);
  }

  runToInt8(rows: RowElements, blocks: Pick<RowBlocks, "from"> = {}): Int8Rows {
    return encodeLatents(this.run(rows, blocks), this.#layers[this.#layers.length - 1].outputs);
  }

  [Symbol.dispose](): void {}
}

function applyLayer(rows: Float32Array, layer: DenseLayer): Float32Array {
  const { inputs, outputs, weights, bias } = layer;
  const slope = Math.fround(layer.slope);
  const count = rows.length / inputs;
  const out = new Float32Array(count * outputs);
  for (let r = 0; r < count; r++) {
    const sums = out.subarray(r * outputs, (r + 1) * outputs);
    for (let i = 0; i < inputs; i++) {
      const x = rows[r * inputs + i];
      // Storing rounds the sum; the product of two float32 is exact in float64 and has to be rounded first.
      for (let j = 0; j < outputs; j++) sums[j] += Math.fround(x * weights[i * outputs + j]);
    }
    if (bias !== null) { for (let j = 0; j < outputs; j++) sums[j] += bias[j]; }
    if (slope !== 1) { for (let j = 0; j < outputs; j++) if (sums[j] < 0) sums[j] *= slope; }
  }
  return out;
}
