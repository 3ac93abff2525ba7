/**
 * Dense layers in WebAssembly: weights stay in the kernels' memory, and what lies between two layers does not leave it.
 *
 * @module
 */
import type { DenseKernels } from "../../backend/wasm/dense_kernels.ts";
import type { DenseLayer, RowBlocks, RowNet } from "./dense.ts";

/** Elements of the widest rows that are in the kernels' memory at a time. */
const SLICE = 1 << 18;
/** Rows of a panel. */
const PANEL = 8;

/** A layer in the kernels' memory. */
interface HostLayer {
  /** Inputs as the kernels count them: an even number. */
  readonly depth: number;
  /** Outputs as they count them: a multiple of 6. */
  readonly outputs: number;
  /** Addresses. */
  readonly weights: number;
  readonly bias: number;
  readonly slope: number;
}

/** Layers on one instance of the kernels. */
export class HostNet implements RowNet {
  readonly #kernels: DenseKernels;
  readonly #layers: readonly HostLayer[];
  readonly #inputs: number;
  readonly #outputs: number;
  /** Elements of the widest row, in memory. */
  readonly #widest: number;

  constructor(kernels: DenseKernels, layers: readonly DenseLayer[]) {
    this.#kernels = kernels;
    this.#inputs = layers[0].inputs;
    this.#outputs = layers[layers.length - 1].outputs;
    this.#layers = layers.map((layer) => placeLayer(kernels, layer));
    this.#widest = Math.max(...this.#layers.flatMap(({ depth, outputs }) => [depth, outputs]));
  }

  run(rows: Float32Array, { from = 1, into = 1 }: RowBlocks = {}): Float32Array {
    const [inputs, outputs] = [this.#inputs, this.#outputs];
    const count = rows.length / inputs;
    const out = new Float32Array(count * outputs);
    const step = Math.min(Math.max(1, Math.floor(SLICE / this.#widest / PANEL)) * PANEL, count);
    this.#kernels.scoped((alloc) => {
      const panels = Math.ceil(step / PANEL) * PANEL * this.#widest * 4;
      const places: Places = { rows: alloc(step * Math.max(inputs, outputs) * 4), x: alloc(panels), y: alloc(panels) };
      for (let begin = 0; begin < count; begin += step) {
        this.#slice(rows, out, begin, Math.min(step, count - begin), places, from, into);
      }
    });
    return out;
  }

  [Symbol.dispose](): void {
    for (const { weights, bias } of this.#layers) {
      this.#kernels.free(weights);
      this.#kernels.free(bias);
    }
  }

  #slice(
    rows: Float32Array,
    out: Float32Array,
    begin: number,
    count: number,
    places: Places,
    from: number,
    into: number,
  ): void {
    const { exports } = this.#kernels;
    let { x, y } = places;
    const panels = Math.ceil(count / PANEL);
    let stride = this.#layers[0].depth * PANEL * 4;
    // The input that fills up an odd number.
    if (this.#layers[0].depth > this.#inputs) this.#kernels.bytes(x, panels * stride).fill(0);
    for (const { part, width, first } of blocksOf(rows, this.#inputs, from, begin, count)) {
      this.#kernels.write(places.rows, part);
      exports.toPanels(places.rows, count, width, x + first * PANEL * 4, stride);
    }
    for (const { depth, outputs, weights, bias, slope } of this.#layers) {
      const next = outputs * PANEL * 4;
      exports.layer(x, stride, panels, depth, weights, outputs, bias, slope, y, next);
      [x, y, stride] = [y, x, next];
    }
    for (const { part, width, first } of blocksOf(out, this.#outputs, into, begin, count)) {
      exports.fromPanels(x + first * PANEL * 4, stride, count, width, places.rows);
      this.#kernels.read(places.rows, part);
    }
  }
}

/** Addresses of a slice: rows as the caller has them, and panels of two layers. */
interface Places {
  readonly rows: number;
  readonly x: number;
  readonly y: number;
}

/** The parts of blocks [blocks][rows][width] that rows from `begin` on have, and the element of a whole row where each begins. */
function* blocksOf(
  all: Float32Array,
  rowWidth: number,
  blocks: number,
  begin: number,
  count: number,
): Generator<{ part: Float32Array; width: number; first: number }> {
  const width = rowWidth / blocks;
  const perBlock = all.length / blocks;
  for (let b = 0; b < blocks; b++) {
    const at = b * perBlock + begin * width;
    yield { part: all.subarray(at, at + count * width), width, first: b * width };
  }
}

function placeLayer(kernels: DenseKernels, layer: DenseLayer): HostLayer {
  const depth = layer.inputs + layer.inputs % 2;
  const outputs = Math.ceil(layer.outputs / 6) * 6;
  const weights = kernels.alloc(depth * outputs * 4);
  const bias = kernels.alloc(outputs * 4);
  kernels.scoped((alloc) => {
    const plain = alloc(layer.weights.byteLength);
    kernels.write(plain, layer.weights);
    kernels.exports.packWeights(plain, layer.inputs, layer.outputs, weights);
  });
  const biases = new Float32Array(outputs);
  if (layer.bias !== null) biases.set(layer.bias);
  kernels.write(bias, biases);
  return { depth, outputs, weights, bias, slope: Math.fround(layer.slope) };
}
