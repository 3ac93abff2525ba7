/**
 * KV caches of llama.cpp: sequence state files (node-llama-cpp's `saveStateToFile`, llama-server's slot files) read
 * into a {@linkcode KvCache} and written back in the layout they had.
 *
 * A state file knows neither the model nor its RoPE; those come from the GGUF (see readGgufModel) or from the caller.
 * Keys get half-split pairing on the way in and the model's own on the way out. Quantized caches (q8_0, q4_0) of heads
 * that are a multiple of 64 are stored after a Walsh–Hadamard transform per head, which is undone and redone.
 *
 * @module
 */
import { asUint16, asUint32, fromFloat32, toFloat32 } from "../cache/elements.ts";
import { KvCache } from "../cache/kv_cache.ts";
import { checkModel } from "../cache/model.ts";
import { convertPairing } from "../cache/pairing.ts";
import type { DType, Kind, ModelSpec } from "../cache/types.ts";
import { KvzFormatError, KvzUnsupportedError } from "../errors.ts";
import { dequantize, type GgmlType, hadamardBlock, isQuantized, quantize, rowBytes } from "./ggml_types.ts";
import { checkGeometry } from "./llama_state_check.ts";
import { checkLayout, type LlamaStateLayout } from "./llama_state_layout.ts";
import { formatLlamaState, parseLlamaState, type StateTensor } from "./llama_state_file.ts";
import { hadamard } from "../stages/transform/hadamard.ts";

export type { GgmlType } from "./ggml_types.ts";
export { checkLlamaState, type LlamaContextFacts } from "./llama_state_check.ts";
export { isLlamaState } from "./llama_state_file.ts";
export { type LlamaStateLayout, parseLlamaStateLayout } from "./llama_state_layout.ts";

/** Facts that a state file does not hold. */
export interface LlamaStateOptions {
  /** Geometry and RoPE; `rope.pairing` is that of the file's keys ({@linkcode readGgufModel} tells). */
  readonly model: ModelSpec;
  /**
   * Element type of the cache. Default: that of the file; f16 for quantized files. With f32, quantized values survive
   * reading and writing exactly; f16 rounds them.
   */
  readonly dtype?: DType;
  /**
   * Whether quantized heads are Walsh–Hadamard transformed. Default true, as llama.cpp does since April 2026; false for
   * older files and for `LLAMA_ATTN_ROT_DISABLE`.
   */
  readonly hadamard?: boolean;
}

/** A cache and the layout it had. */
export interface LlamaState {
  /** The cache, keys half-split. */
  readonly cache: KvCache;
  /** What {@linkcode writeLlamaState} needs to write the file again. */
  readonly layout: LlamaStateLayout;
}

function oneType(kind: Kind, tensors: readonly StateTensor[]): GgmlType {
  const [{ type }] = tensors;
  tensors.forEach((tensor, layer) => {
    if (tensor.type !== type) {
      throw new KvzUnsupportedError(
        `Cannot read llama.cpp state: ${kind} of layer ${layer} is ${tensor.type}, of layer 0 ${type}; expected one type`,
      );
    }
  });
  return type;
}

/** Element type that holds both tensors' values: their own where they agree, f16 for quantized ones. */
function commonType(...types: GgmlType[]): DType {
  const [a, b] = types.map((type): DType => type === "q8_0" || type === "q4_0" ? "f16" : type);
  return a === b ? a : "f32";
}

/** Order of cells by position: sorted[t] is the cell of token t. */
function sortCells(positions: Int32Array): Int32Array {
  const order = Int32Array.from(positions, (_, cell) => cell).sort((a, b) => positions[a] - positions[b]);
  order.forEach((cell, t) => {
    if (positions[cell] < 0 || (t > 0 && positions[cell] === positions[order[t - 1]])) {
      throw new KvzFormatError(
        `Cannot read llama.cpp state: position ${positions[cell]} of cell ${cell} is negative or appears twice`,
      );
    }
  });
  return order;
}

function isAscending(order: ArrayLike<number>): boolean {
  for (let t = 0; t < order.length; t++) if (order[t] !== t) return false;
  return true;
}

/** Shape of one tensor on its way between file and cache. */
interface TensorShape {
  readonly heads: number;
  readonly dim: number;
  /** order[t] = cell of token t. */
  readonly order: Int32Array;
  readonly transposed: boolean;
  readonly dtype: DType;
}

/** Copies elements between [cell][head][dim] or [head][dim][cell] and [head][token][dim]. */
function reorder(from: Uint8Array, shape: TensorShape, direction: "read" | "write"): Uint8Array {
  const { heads, dim, order, transposed, dtype } = shape;
  const cells = order.length;
  const source = dtype === "f32" ? asUint32(from) : asUint16(from);
  const out = new Uint8Array(from.length);
  const target = dtype === "f32" ? asUint32(out) : asUint16(out);
  const step = transposed ? cells : 1;
  for (let head = 0; head < heads; head++) {
    for (let t = 0; t < cells; t++) {
      const inCache = (head * cells + t) * dim;
      const inFile = transposed ? head * dim * cells + order[t] : (order[t] * heads + head) * dim;
      if (direction === "read") { for (let i = 0; i < dim; i++) target[inCache + i] = source[inFile + i * step]; }
      else for (let i = 0; i < dim; i++) target[inFile + i * step] = source[inCache + i];
    }
  }
  return out;
}

/** Undoes quantization and transform of one tensor; plain types keep their bits. */
function decodeTensor(tensor: StateTensor, kind: Kind, rotated: boolean, shape: TensorShape): Uint8Array {
  const { type } = tensor;
  if (type === shape.dtype) return reorder(tensor.bytes, shape, "read");
  const values = dequantize(tensor.bytes, type);
  const block = rotated && isQuantized(type) ? hadamardBlock(kind, shape.dim) : 0;
  if (block > 0) hadamard(values, block);
  return reorder(fromFloat32(values, shape.dtype), shape, "read");
}

function encodeTensor(
  bytes: Uint8Array,
  type: GgmlType,
  kind: Kind,
  rotated: boolean,
  shape: TensorShape,
): StateTensor {
  const n = shape.heads * shape.dim;
  const width = shape.transposed ? n : rowBytes(type, n);
  const rows = reorder(bytes, shape, "write");
  if (type === shape.dtype) return { type, width, bytes: rows };
  const values = toFloat32(rows, shape.dtype);
  const block = rotated && isQuantized(type) ? hadamardBlock(kind, shape.dim) : 0;
  if (block > 0) hadamard(values, block);
  return { type, width, bytes: quantize(values, type) };
}

/**
 * Reads a state file.
 *
 * @throws {KvzFormatError} The file is damaged, truncated or followed by something else.
 * @throws {KvzMismatchError} The file has another shape than the model.
 * @throws {KvzUnsupportedError} Sliding-window, hybrid, latent-attention or M-RoPE states, other element types or
 * versions, several sequences or none; the message names it.
 */
export function readLlamaState(bytes: Uint8Array, options: LlamaStateOptions): LlamaState {
  const { model } = options;
  checkModel(model);
  const file = parseLlamaState(bytes);
  checkGeometry(file, model);
  const keyType = oneType("key", file.keys);
  const valueType = oneType("value", file.values);
  const dtype = options.dtype ?? commonType(keyType, valueType);
  const rotated = options.hadamard ?? true;
  const order = sortCells(file.positions);
  const shape = { heads: model.kvHeads, order, dtype };
  const layers = file.keys.map((tensor, n) => {
    const rows = decodeTensor(tensor, "key", rotated, { ...shape, dim: model.keyDim, transposed: false });
    const key = model.rope?.pairing === "adjacent"
      ? convertPairing(rows, { dtype, dim: model.keyDim, rotaryDim: model.rope.dim }, "adjacent", "half-split")
      : rows;
    const transposed = file.transposedValues;
    const value = decodeTensor(file.values[n], "value", rotated, { ...shape, dim: model.valueDim, transposed });
    return { key, value };
  });
  const named = file.tokens.length === order.length;
  return {
    cache: new KvCache({
      model,
      dtype,
      positions: Int32Array.from(order, (cell) => file.positions[cell]),
      ...(named ? { inputIds: file.tokens } : {}),
      layers,
    }),
    layout: {
      keyType,
      valueType,
      transposedValues: file.transposedValues,
      hadamard: rotated && (isQuantized(keyType) || isQuantized(valueType)),
      streams: file.streams,
      stream: file.stream,
      sequence: file.sequence,
      ...(isAscending(order) ? {} : { cells: Array.from(file.positions) }),
      ...(named ? {} : { tokens: Array.from(file.tokens) }),
    },
  };
}

/** Cells in the layout's order where it has the cache's positions, ascending otherwise. */
function cellOrder(positions: Int32Array, cells: readonly number[] | undefined): Int32Array {
  if (cells === undefined || cells.length !== positions.length) return Int32Array.from(positions, (_, t) => t);
  const cellOf = new Map(cells.map((position, cell) => [position, cell]));
  const order = Int32Array.from(positions, (position) => cellOf.get(position) ?? -1);
  return order.includes(-1) ? Int32Array.from(positions, (_, t) => t) : order;
}

/**
 * Writes a cache as a state file in the given layout. The token ids are the cache's, or those of the layout where the
 * cache has none.
 *
 * What was read with the same element type (or as f32, from a quantized file) is written back bit for bit.
 *
 * @throws {KvzUnsupportedError} The cache is ragged.
 * @throws {RangeError} The layout is impossible for the cache's model.
 * @throws {KvzFormatError} The layout contradicts itself.
 */
export function writeLlamaState(cache: KvCache, layout: LlamaStateLayout): Uint8Array {
  const { model, dtype, tokens, positions } = cache;
  if (cache.ragged) {
    throw new KvzUnsupportedError(
      "Cannot write llama.cpp state: the cache is ragged (its heads hold different tokens)",
    );
  }
  checkLayout(layout, model);
  const order = cellOrder(positions, layout.cells);
  const shape = { heads: model.kvHeads, order, dtype };
  const keys: StateTensor[] = [];
  const values: StateTensor[] = [];
  for (let layer = 0; layer < model.layers; layer++) {
    const part = cache.sliceLayers(layer, layer + 1);
    const bytes = part.read("key", 0, tokens);
    const key = model.rope?.pairing === "adjacent"
      ? convertPairing(bytes, { dtype, dim: model.keyDim, rotaryDim: model.rope.dim }, "half-split", "adjacent")
      : bytes;
    const keyShape = { ...shape, dim: model.keyDim, transposed: false };
    keys.push(encodeTensor(key, layout.keyType, "key", layout.hadamard, keyShape));
    const valueShape = { ...shape, dim: model.valueDim, transposed: layout.transposedValues };
    values.push(encodeTensor(part.read("value", 0, tokens), layout.valueType, "value", layout.hadamard, valueShape));
  }
  const inFile = new Int32Array(tokens);
  order.forEach((cell, t) => inFile[cell] = positions[t]);
  return formatLlamaState({
    tokens: cache.inputIds ?? Int32Array.from(layout.tokens ?? []),
    streams: layout.streams,
    stream: layout.stream,
    sequence: layout.sequence,
    positions: inFile,
    transposedValues: layout.transposedValues,
    keys,
    values,
  });
}
