/**
 * Sensitivity of the loss to the cache: a Fisher block F = E[g gᵀ] for every layer and KV head, of keys before RoPE and of
 * values (tools/sensitivity.py). The fit works on x · A with A = F^½, where a unit of error costs the same everywhere.
 *
 * @module
 */
import { readSafetensorsHeader } from "../../adapters/safetensors_file.ts";
import type { CalibrateKernels } from "../../backend/wasm/calibrate_kernels.ts";
import { f16ToNumber, numberToF16, toFloat32 } from "../../cache/elements.ts";
import { type Kind, KINDS, type ModelSpec } from "../../cache/types.ts";
import type { ByteSource } from "../../container/bytes.ts";
import { KvzFormatError, KvzMismatchError } from "../../errors.ts";
import { symmetricEigen } from "../eigen.ts";
import { flawOfMoments } from "./semidefinite.ts";
import type { Sensitivity } from "./types.ts";

/** Share of the mean of a block's diagonal that is added to all of it, so that no direction is free. */
export const REGULARIZATION = 0.05;

/** Blocks of every layer and head: for keys and then values [layers][heads][dim][dim]. */
export interface SensitivityBlocks {
  /** How they were found. */
  readonly source: Sensitivity;
  /** Of keys before RoPE. */
  readonly key: Float64Array;
  /** Of values. */
  readonly value: Float64Array;
}

/** Elements of a head of a kind. */
export function kindDim(model: ModelSpec, kind: Kind): number {
  return kind === "key" ? model.keyDim : model.valueDim;
}

/** Elements of all blocks' upper triangles, both kinds. */
export function trianglesLength({ layers, kvHeads, keyDim, valueDim }: ModelSpec): number {
  return layers * kvHeads * (keyDim * (keyDim + 1) + valueDim * (valueDim + 1)) / 2;
}

/** The blocks' upper triangles, row by row: blocks are symmetric. */
export function toTriangles(blocks: Uint16Array, model: ModelSpec): Uint16Array {
  const out = new Uint16Array(trianglesLength(model));
  let to = 0;
  eachEntry(model, (at, i, j) => {
    if (j >= i) out[to++] = blocks[at];
  });
  return out;
}

/** Inverse of {@linkcode toTriangles}. */
export function fromTriangles(triangles: Uint16Array, model: ModelSpec): Uint16Array {
  const { layers, kvHeads, keyDim, valueDim } = model;
  const out = new Uint16Array(layers * kvHeads * (keyDim * keyDim + valueDim * valueDim));
  let from = 0;
  eachEntry(model, (at, i, j, dim) => {
    if (j < i) return;
    out[at] = out[at + (j - i) * (dim - 1)] = triangles[from++];
  });
  return out;
}

/** Visits the entries of all blocks, keys' first: index, row and column. */
function eachEntry(model: ModelSpec, visit: (at: number, i: number, j: number, dim: number) => void): void {
  let at = 0;
  for (const kind of KINDS) {
    const dim = kindDim(model, kind);
    for (let block = 0; block < model.layers * model.kvHeads; block++) {
      for (let i = 0; i < dim; i++) for (let j = 0; j < dim; j++) visit(at++, i, j, dim);
    }
  }
}

/**
 * Reads a file of tools/sensitivity.py.
 *
 * @throws {KvzFormatError} when it is no such file, or holds numbers that are none.
 * @throws {KvzMismatchError} when it is of a model of another shape.
 */
export async function readSensitivity(source: ByteSource, model: ModelSpec): Promise<SensitivityBlocks> {
  const { tensors } = await readSafetensorsHeader(source);
  const read = async (kind: Kind): Promise<Float64Array> => {
    const dim = kindDim(model, kind);
    const length = model.kvHeads * dim * dim;
    const out = new Float64Array(model.layers * length);
    for (let layer = 0; layer < model.layers; layer++) {
      const name = `layers.${layer}.${kind}.fisher`;
      const info = tensors.get(name);
      if (info === undefined || info.dtype !== "F32") {
        throw new KvzFormatError(`Cannot read sensitivity: it has no float32 tensor ${name}`);
      }
      const wanted = [model.kvHeads, dim, dim];
      if (info.shape.length !== 3 || info.shape.some((size, i) => size !== wanted[i])) {
        throw new KvzMismatchError(
          `Cannot use sensitivity: ${name} has the shape [${info.shape.join(", ")}], the model wants [${
            wanted.join(", ")
          }]`,
        );
      }
      const bytes = await source.read(info.begin, length * 4);
      out.set(toFloat32(bytes, "f32"), layer * length);
    }
    if (!out.every(Number.isFinite)) throw new KvzFormatError(`Cannot read sensitivity: ${kind}s hold NaN or infinity`);
    return out;
  };
  if (tensors.has(`layers.${model.layers}.key.fisher`)) {
    throw new KvzMismatchError(`Cannot use sensitivity: it has more than the model's ${model.layers} layers`);
  }
  return { source: "fisher", key: await read("key"), value: await read("value") };
}

/**
 * Sensitivity as calibration takes it.
 *
 * @throws what {@linkcode readSensitivity} throws
 * @throws {KvzMismatchError} when blocks are of a model of another shape.
 * @throws {KvzFormatError} when a block is no matrix of second moments.
 */
export async function openSensitivity(
  given: ByteSource | SensitivityBlocks,
  model: ModelSpec,
): Promise<SensitivityBlocks> {
  const blocks = "read" in given ? await readSensitivity(given, model) : checkLengths(given, model);
  for (const kind of KINDS) {
    const dim = kindDim(model, kind);
    const size = dim * dim;
    for (let at = 0; at < blocks[kind].length; at += size) {
      const flaw = flawOfMoments(blocks[kind].subarray(at, at + size), dim);
      if (flaw === null) continue;
      const [layer, head] = [Math.floor(at / size / model.kvHeads), at / size % model.kvHeads];
      throw new KvzFormatError(`Cannot use sensitivity: the ${kind} block of layer ${layer}, head ${head} ${flaw}`);
    }
  }
  return blocks;
}

function checkLengths(given: SensitivityBlocks, model: ModelSpec): SensitivityBlocks {
  for (const kind of KINDS) {
    const dim = kindDim(model, kind);
    const wanted = model.layers * model.kvHeads * dim * dim;
    if (given[kind].length !== wanted) {
      throw new KvzMismatchError(
        `Cannot use sensitivity: its ${kind} blocks have ${given[kind].length} elements, the model wants ${wanted}`,
      );
    }
  }
  return given;
}

/**
 * Sensitivity without a model: every layer's keys and values weigh by the inverse of their mean square, so that errors
 * count relative to what they spoil.
 *
 * @param variance mean square of the centred features of each kind, [layers · heads · dim]
 */
export function plainSensitivity(
  model: ModelSpec,
  variance: Readonly<Record<Kind, Float64Array>>,
): SensitivityBlocks {
  const build = (kind: Kind): Float64Array => {
    const dim = kindDim(model, kind);
    const row = model.kvHeads * dim;
    const out = new Float64Array(model.layers * row * dim);
    for (let layer = 0; layer < model.layers; layer++) {
      const part = variance[kind].subarray(layer * row, (layer + 1) * row);
      const mean = part.reduce((a, b) => a + b, 0) / row;
      for (let i = 0; i < row; i++) {
        out[(layer * row + i) * dim + i % dim] = mean > 0 ? 1 / mean : 1;
      }
    }
    return out;
  };
  return { source: "none", key: build("key"), value: build("value") };
}

/** Blocks whose errors of keys count `weight` times as much. */
export function weighKeys(blocks: SensitivityBlocks, weight: number): SensitivityBlocks {
  return weight === 1 ? blocks : { ...blocks, key: blocks.key.map((value) => value * weight) };
}

/** Blocks of at least this mean weight keep their entries to a percent in binary16. */
const LEAST_MEAN = 1 / 65536;
/** Entries up to this one are held, with what regularization adds; a single one may be 100 times the mean (Gemma 3). */
const LARGEST_ENTRY = 16384;

/**
 * Blocks that binary16, in which profiles store them, holds well: where it does not, all are scaled by one power of four.
 * The scale means nothing but the unit of steps, which become a power of two larger or smaller.
 */
export function scaleForHalf(blocks: SensitivityBlocks, model: ModelSpec): SensitivityBlocks {
  let [least, largest] = [Infinity, 0];
  for (const kind of KINDS) {
    const dim = kindDim(model, kind);
    const size = dim * dim;
    for (let at = 0; at < blocks[kind].length; at += size) {
      const mean = meanDiagonal(blocks[kind].subarray(at, at + size), dim);
      if (mean > 0) least = Math.min(least, mean);
    }
    for (const entry of blocks[kind]) largest = Math.max(largest, Math.abs(entry));
  }
  if (largest === 0 || (least >= LEAST_MEAN && largest <= LARGEST_ENTRY)) return blocks;
  let scale = 1;
  while (4 * scale * largest <= LARGEST_ENTRY) scale *= 4;
  while (scale * largest > LARGEST_ENTRY) scale /= 4;
  const scaled = (values: Float64Array) => values.map((value) => value * scale);
  return { source: blocks.source, key: scaled(blocks.key), value: scaled(blocks.value) };
}

/** Weights of one kind: the regularized blocks as they are stored, their square roots and the roots' inverses. */
export interface Weighting {
  readonly dim: number;
  /** A² as binary16 bits, [blocks][dim][dim]. */
  readonly stored: Uint16Array;
  /** A, [blocks][dim][dim]. */
  readonly root: Float64Array;
  /** A⁻¹. */
  readonly inverse: Float64Array;
}

/** Regularizes the blocks of a kind, rounds them to what a profile stores, and takes their roots. */
export function weightingOf(kernels: CalibrateKernels, blocks: Float64Array, dim: number): Weighting {
  const size = dim * dim;
  const count = blocks.length / size;
  const stored = new Uint16Array(blocks.length);
  const root = new Float64Array(blocks.length);
  const inverse = new Float64Array(blocks.length);
  const overall = meanDiagonal(blocks, dim) || 1;
  const mark = kernels.mark();
  const [matrix, rows] = [kernels.alloc(size * 8), kernels.alloc(size * 8)];
  for (let b = 0; b < count; b++) {
    const block = blocks.slice(b * size, (b + 1) * size);
    // A block that the loss does not depend on at all still gets a small weight: its inverse is needed.
    const diagonal = Math.max(meanDiagonal(block, dim), overall * 1e-4);
    for (let i = 0; i < dim; i++) block[i * dim + i] += REGULARIZATION * diagonal;
    for (let i = 0; i < size; i++) stored[b * size + i] = numberToF16(block[i]);
    kernels.f64(matrix, size).set(Float64Array.from(stored.subarray(b * size, (b + 1) * size), f16ToNumber));
    const values = symmetricEigen(kernels, matrix, dim, rows);
    const vectors = kernels.f64(rows, size);
    const floor = REGULARIZATION * diagonal / 2;
    for (let k = 0; k < dim; k++) {
      const half = Math.sqrt(Math.max(values[k], floor));
      for (let i = 0; i < dim; i++) {
        for (let j = 0; j < dim; j++) {
          const product = vectors[k * dim + i] * vectors[k * dim + j];
          root[b * size + i * dim + j] += half * product;
          inverse[b * size + i * dim + j] += product / half;
        }
      }
    }
  }
  kernels.release(mark);
  return { dim, stored, root, inverse };
}

function meanDiagonal(blocks: Float64Array, dim: number): number {
  let sum = 0;
  for (let at = 0; at < blocks.length; at += dim * dim) for (let i = 0; i < dim; i++) sum += blocks[at + i * dim + i];
  return sum / (blocks.length / dim);
}

/** Both kinds' stored blocks, as a profile holds them. */
export function joinStored(weightings: Readonly<Record<Kind, Weighting>>): Uint16Array {
  const out = new Uint16Array(weightings.key.stored.length + weightings.value.stored.length);
  let at = 0;
  for (const kind of KINDS) {
    out.set(weightings[kind].stored, at);
    at += weightings[kind].stored.length;
  }
  return out;
}
