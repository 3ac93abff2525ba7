/**
 * Dense layers that round the same everywhere (products.ts): rows times weights, plus biases, negative results times a slope.
 * On a GPU whose kernels give those bits, else on the host's.
 *
 * @module
 */
import type { Backend } from "../../backend/backend.ts";
import { openProducts, type ProductFactory, type RowProduct } from "./products.ts";

/** A layer. */
export interface DenseLayer {
  readonly inputs: number;
  readonly outputs: number;
  /** [inputs][outputs] */
  readonly weights: Float32Array;
  /** [outputs]; null: none. */
  readonly bias: Float32Array | null;
  /** Factor of negative results, rounded to float32: LeakyReLU. 1: none. */
  readonly slope: number;
}

/** Layers one after another. */
export interface RowNet extends Disposable {
  /** [rows][inputs of the first] → [rows][outputs of the last]. Of several at once, a GPU begins all before any is waited for. */
  run(rows: Float32Array): Float32Array | Promise<Float32Array>;
}

/** Makes nets. */
export type NetFactory = (layers: readonly DenseLayer[]) => RowNet;

/** Nets on the backend's kernels. */
export async function openNets(backend: Backend): Promise<NetFactory> {
  const dense = backend.gpu?.dense ?? null;
  if (dense !== null && await dense.exact()) {
    const { GpuNet } = await import("./dense_gpu.ts");
    return (layers) => new GpuNet(backend, dense, layers);
  }
  const products = await openProducts(backend);
  return (layers) => new HostNet(products, layers);
}

/** A layer that only multiplies. */
export function productLayer(weights: Float32Array, inputs: number, outputs: number): DenseLayer {
  return { inputs, outputs, weights, bias: null, slope: 1 };
}

/** Layers on the host's products. */
export class HostNet implements RowNet {
  readonly #layers: readonly {
    readonly product: RowProduct;
    readonly bias: Float32Array | null;
    readonly slope: number;
  }[];

  constructor(products: ProductFactory, layers: readonly DenseLayer[]) {
    this.#layers = layers.map(({ weights, inputs, outputs, bias, slope }) => ({
      product: products(weights, inputs, outputs),
      bias,
      slope: Math.fround(slope),
    }));
  }

  run(rows: Float32Array): Float32Array {
    for (const { product, bias, slope } of this.#layers) {
      rows = product.multiply(rows);
      if (bias !== null) addBias(rows, bias);
      if (slope !== 1) { for (let i = 0; i < rows.length; i++) if (rows[i] < 0) rows[i] *= slope; }
    }
    return rows;
  }

  [Symbol.dispose](): void {
    for (const { product } of this.#layers) product[Symbol.dispose]();
  }
}

function addBias(rows: Float32Array, bias: Float32Array): void {
  const n = bias.length;
  for (let at = 0; at < rows.length; at += n) for (let j = 0; j < n; j++) rows[at + j] += bias[j];
}
