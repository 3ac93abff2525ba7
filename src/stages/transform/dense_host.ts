/**
 * Dense layers in WebAssembly: weights stay in the kernels' memory, and what lies between two layers does not leave it.
 *
 * @module
 */
import { type DenseKernels, F16, F32 } from "../../backend/wasm/dense_kernels.ts";
import { MOST_F16 } from "../../cache/elements.ts";
import type { Int8Rows } from "../quantize/latent_int8.ts";
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

  run(rows: RowElements | Int8Rows, blocks: RowBlocks = {}): Float32Array {
    const out = new Float32Array(this.#countOf(rows) * this.#outputs);
    this.#run(rows, out, blocks, Infinity);
    return out;
  }

  runToHalves(rows: RowElements | Int8Rows, { saturate = false, ...blocks }: HalvesOptions = {}): Uint16Array {
    const out = new Uint16Array(this.#countOf(rows) * this.#outputs);
    this.#run(rows, out, blocks, saturate ? MOST_F16 : Infinity);
    return out;
  }

  runToInt8(rows: RowElements, blocks: Pick<RowBlocks, "from"> = {}): Int8Rows {
    const count = this.#countOf(rows);
    const out = { codes: new Uint8Array(count * this.#outputs), limits: new Uint16Array(2 * count) };
    this.#run(rows, out, blocks, Infinity);
    return out;
  }

  #countOf(rows: RowElements | Int8Rows): number {
    return "codes" in rows ? rows.limits.length / 2 : rows.length / this.#inputs;
  }

  [Symbol.dispose](): void {
    for (const { weights, bias } of this.#layers) {
      this.#kernels.free(weights);
      this.#kernels.free(bias);
    }
  }

  #run(
    rows: RowElements | Int8Rows,
    out: RowElements | Int8Rows,
    { from = 1, into = 1 }: RowBlocks,
    limit: number,
  ): void {
    const count = this.#countOf(rows);
    const step = Math.min(Math.max(1, Math.floor(SLICE / this.#widest / PANEL)) * PANEL, count);
    this.#kernels.scoped((alloc) => {
      const panels = Math.ceil(step / PANEL) * PANEL * this.#widest * 4;
      const places: Places = {
        rows: alloc(step * this.#widest * 4),
        panels: [alloc(panels), alloc(panels)],
        codes: alloc(step * this.#widest),
        limits: alloc(4 * step),
      };
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
    const { rows, panels: [first, second], codes, limits } = places;
    const panels = Math.ceil(count / PANEL);
    let [x, y, stride] = [first, second, this.#layers[0].depth * PANEL * 4];
    // The input that fills up an odd number.
    if (this.#layers[0].depth > this.#inputs) kernels.bytes(x, panels * stride).fill(0);
    for (const { part, width, at } of from) {
      if ("codes" in part) {
        kernels.write(codes, part.codes);
        kernels.write(limits, part.limits);
        exports.decodeLatents(codes, limits, count, width, rows);
      } else kernels.write(rows, part);
      exports.toPanels(rows, typeOf(part), count, width, x + at * PANEL * 4, stride);
    }
    for (const { depth, outputs, weights, bias, slope } of this.#layers) {
      const next = outputs * PANEL * 4;
      exports.layer(x, stride, panels, depth, weights, outputs, bias, slope, y, next);
      [x, y, stride] = [y, x, next];
    }
    for (const { part, width, at } of into) {
      exports.fromPanels(x + at * PANEL * 4, stride, count, width, limit, rows, typeOf(part));
      if ("codes" in part) {
        exports.encodeLatents(rows, count, width, codes, limits);
        kernels.read(codes, part.codes);
        kernels.read(limits, part.limits);
      } else kernels.read(rows, part);
    }
  }
}

/** Addresses of a slice: rows as the caller has them, and the panels of a layer and the next. */
interface Places {
  readonly rows: number;
  readonly panels: readonly [number, number];
  /** Of int8 rows. */
  readonly codes: number;
  readonly limits: number;
}

/** A slice's rows of a block, and the element of a whole row at which the block begins. */
interface RowBlock {
  readonly part: RowElements | Int8Rows;
  readonly width: number;
  readonly at: number;
}

/** A slice of every block of [blocks][rows][width]; int8 rows are one block. */
function blocksOf(
  all: RowElements | Int8Rows,
  rowWidth: number,
  blocks: number,
  begin: number,
  count: number,
): RowBlock[] {
  if ("codes" in all) {
    const codes = all.codes.subarray(begin * rowWidth, (begin + count) * rowWidth);
    return [{ part: { codes, limits: all.limits.subarray(2 * begin, 2 * (begin + count)) }, width: rowWidth, at: 0 }];
  }
  const [width, perBlock] = [rowWidth / blocks, all.length / blocks];
  return Array.from({ length: blocks }, (_, b) => {
    const from = b * perBlock + begin * width;
    return { part: all.subarray(from, from + count * width), width, at: b * width };
  });
}

/** What kernels make rows of, or of rows. */
function typeOf(rows: RowElements | Int8Rows): number {
  return rows instanceof Uint16Array ? F16 : F32;
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
