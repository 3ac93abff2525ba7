/**
 * Dense layers that round the same everywhere: rows times weights, plus biases, negative results times a slope. Every sum
 * runs from the first to the last of its terms, each product and each sum rounded to float32 by itself; the bias comes last.
 * On a GPU whose kernels give those bits, else in WebAssembly (asm/dense.ts), or, for the reference backend, in plain
 * TypeScript.
 *
 * @module
 */
import type { Backend } from "../../backend/backend.ts";
import { DenseKernels } from "../../backend/wasm/dense_kernels.ts";
import { hostBuild } from "../../backend/host.ts";
import type { Int8Rows } from "../quantize/latent_int8.ts";
import { HostNet } from "./dense_host.ts";
import { ReferenceNet } from "./dense_reference.ts";

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

/** Blocks that lie side by side in rows, such as heads: [blocks][rows][width of a row / blocks] instead of [rows][width]. */
export interface RowBlocks {
  /** Of what comes. Default 1. */
  readonly from?: number;
  /** Of what goes. Default 1. */
  readonly into?: number;
}

/** Elements of rows: float32, or the bits of binary16. */
export type RowElements = Float32Array | Uint16Array;

/** How results become binary16: to nearest even. */
export interface HalvesOptions extends RowBlocks {
  /** Whether what is finite and beyond ±65504 becomes ±65504. Default: infinite, from 65520 on. */
  readonly saturate?: boolean;
}

/** Layers one after another. Of several calls at once, a GPU begins all before any is waited for. */
export interface RowNet extends Disposable {
  /** [rows][inputs of the first] → [rows][outputs of the last]. */
  run(rows: RowElements | Int8Rows, blocks?: RowBlocks): Float32Array | Promise<Float32Array>;
  /** The same results as binary16. */
  runToHalves(rows: RowElements | Int8Rows, options?: HalvesOptions): Uint16Array | Promise<Uint16Array>;
  /** The same results as int8, in one block. */
  runToInt8(rows: RowElements, blocks?: Pick<RowBlocks, "from">): Int8Rows | Promise<Int8Rows>;
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
  const build = hostBuild(backend, "dense layers");
  if (build === null) return (layers) => new ReferenceNet(layers);
  const kernels = await DenseKernels.open(build);
  return (layers) => new HostNet(kernels, layers);
}

/** A layer that only multiplies. */
export function productLayer(weights: Float32Array, inputs: number, outputs: number): DenseLayer {
  return { inputs, outputs, weights, bias: null, slope: 1 };
}
