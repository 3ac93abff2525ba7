/**
 * Dense layers in WebAssembly: weights stay in the kernels' memory, and what lies between two layers does not leave it.
 *
 * @module
 */
import { type DenseKernels, F16, F32 } from "../../backend/wasm/dense_kernels.ts";
import { MOST_F16 } from "../../cache/elements.ts";
import type { DenseLayer, HalvesOptions, RowBlocks, RowElements, RowNet } from "./dense.ts";

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

  run(rows: RowElements, blocks: RowBlocks = {}): Float32Array {
    const out = new Float32Array(rows.length / this.#inputs * this.#outputs);
    this.#run(rows, out, blocks, Infinity);
    return out;
  }

  runToHalves(rows: RowElements, { saturate = false, ...blocks }: HalvesOptions = {}): Uint16Array {
    const out = new Uint16Array(rows.length / this.#inputs * this.#outputs);
    this.#run(rows, out, blocks, saturate ? MOST_F16 : Infinity);
    return out;
  }

  [Symbol.dispose](): void {
    for (const { weights, bias } of this.#layers) {
      this.#kernels.free(weights);
      this.#kernels.free(bias);
    }
  }

  #run(rows: RowElements, out: RowElements, { from = 1, into = 1 }: RowBlocks, limit: number): void {
    const count = rows.length / this.#inputs;
    const step = Math.min(Math.max(1, Math.floor(SLICE / this.#widest / PANEL)) * PANEL, count);
    this.#kernels.scoped((alloc) => {
      const panels = Math.ceil(step / PANEL) * PANEL * this.#widest * 4;
      const places: Places = { rows: alloc(step * this.#widest * 4), panels: [alloc(panels), alloc(panels)] };
      for (let begin = 0; begin < count; begin += step) {
        const some = Math.min(step, count - begin);
        this.#slice(
          blocksOf(rows, this.#inputs, from, begin, some),
          blocksOf(out, this.#outputs, into, begin, some),
          some,
          places,
          limit,
        );
      }
    });
  }

  #slice(from: readonly RowBlock[], into: readonly RowBlock[], count: number, places: Places, limit: number): void {
    const kernels = this.#kernels;
    const { exports } = kernels;
    const { rows, panels: [first, second] } = places;
    const panels = Math.ceil(count / PANEL);
    let [x, y, stride] = [first, second, this.#layers[0].depth * PANEL * 4];
    // The input that fills up an odd number.
    if (this.#layers[0].depth > this.#inputs) kernels.bytes(x, panels * stride).fill(0);
    for (const { part, width, at } of from) {
      kernels.write(rows, part);
      exports.toPanels(rows, typeOf(part), count, width, x + at * PANEL * 4, stride);
    }
    for (const { depth, outputs, weights, bias, slope } of this.#layers) {
      const next = outputs * PANEL * 4;
      exports.layer(x, stride, panels, depth, weights, outputs, bias, slope, y, next);
      [x, y, stride] = [y, x, next];
    }
    for (const { part, width, at } of into) {
      exports.fromPanels(x + at * PANEL * 4, stride, count, width, limit, rows, typeOf(part));
      kernels.read(rows, part);
    }
  }
}

/** Addresses of a slice: rows as the caller has them, and the panels of a layer and the next. */
interface Places {
  readonly rows: number;
  readonly panels: readonly [number, number];
}

/** A slice's rows of a block, and the element of a whole row at which the block begins. */
interface RowBlock {
  readonly part: RowElements;
  readonly width: number;
  readonly at: number;
}

/** A slice of every block of [blocks][rows][width]. */
function blocksOf(all: RowElements, rowWidth: number, blocks: number, begin: number, count: number): RowBlock[] {
  const [width, perBlock] = [rowWidth / blocks, all.length / blocks];
  return Array.from({ length: blocks }, (_, b) => {
    const from = b * perBlock + begin * width;
    return { part: all.subarray(from, from + count * width), width, at: b * width };
  });
}

function typeOf(rows: RowElements): number {
  return rows instanceof Float32Array ? F32 : F16;
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
