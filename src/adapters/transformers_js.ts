/**
 * The cache of Transformers.js and onnxruntime: a record of tensors `past_key_values.N.key|value`
 * [1, KV heads, tokens, dim], keys after RoPE. Types are structural; nothing is imported from either library.
 *
 * @example
 * ```ts ignore
 * import { DynamicCache, Tensor } from "@huggingface/transformers";
 * const { sequences, past_key_values } = await model.generate({ ...inputs, return_dict_in_generate: true });
 * const cache = await fromTransformersJs(past_key_values, { model: spec, inputIds: sequences.data });
 * const makeTensor = (type, data, dims) => new Tensor(type, data, dims);
 * const restored = new DynamicCache(toTransformersJs(cache, { makeTensor }));
 * ```
 *
 * @module
 */
import { fromFloat32, toFloat32 } from "../cache/elements.ts";
import { KvCache } from "../cache/kv_cache.ts";
import { checkModel } from "../cache/model.ts";
import { convertPairing } from "../cache/pairing.ts";
import { BYTES_PER_ELEMENT, type DType, type Kind, type ModelSpec } from "../cache/types.ts";
import { KvzFormatError, KvzMismatchError, KvzUnsupportedError } from "../errors.ts";

/** What is needed of a tensor of Transformers.js or onnxruntime. */
export interface TensorLike {
  /** "float32" and "float16" are understood. */
  readonly type: string;
  /** Shape, [batch, KV heads, tokens, dim]. */
  readonly dims: readonly number[];
  /** Elements, when they are in main memory: Float32Array, and Uint16Array or Float16Array for float16. */
  readonly data?: unknown;
  /** Where the elements are; absent and "cpu" mean main memory. */
  readonly location?: string;
  /** Downloads the elements (onnxruntime); the tensor is in main memory then, and its GPU memory free if wanted. */
  getData?(releaseData?: boolean): Promise<unknown>;
  /** The onnxruntime tensor within a Transformers.js tensor. */
  readonly ort_tensor?: { getData?(releaseData?: boolean): Promise<unknown> };
}

/** Facts that the record does not hold. */
export interface FromTransformersJsOptions {
  /** Geometry and RoPE; `rope.pairing` is that of the record's keys. */
  readonly model: ModelSpec;
  /**
   * Token ids of the sequence. `generate` returns one more than the cache holds (the last token has not been fed back);
   * that one is left out.
   */
  readonly inputIds?: ArrayLike<number | bigint>;
  /** Absolute position of the first token, default 0. */
  readonly firstPosition?: number;
}

/** How to make the tensors of a record. */
export interface ToTransformersJsOptions<T> {
  /** Makes one tensor. Float16 comes as Float16Array where the platform has it, as its bits in Uint16Array elsewhere. */
  readonly makeTensor: (type: "float32" | "float16", data: ArrayBufferView, dims: number[]) => T;
  /** Element type of the model's inputs. Default: that of the cache, float32 for bf16. */
  readonly type?: "float32" | "float16";
}

const DTYPES: Readonly<Record<string, DType | undefined>> = { float32: "f32", float16: "f16" };

/** Downloads a tensor's elements as bytes. */
async function readTensor(name: string, tensor: TensorLike): Promise<Uint8Array> {
  const { location } = tensor;
  let data: unknown;
  if (location === undefined || location === "cpu" || location === "cpu-pinned") data = tensor.data;
  // Once downloaded, onnxruntime takes the tensor for one in main memory: released now or never.
  else if (tensor.getData) data = await tensor.getData(true);
  else if (tensor.ort_tensor?.getData) data = await tensor.ort_tensor.getData(true);
  else throw new KvzUnsupportedError(`Cannot read cache: ${name} is at "${location}" and has no getData()`);
  if (!ArrayBuffer.isView(data)) throw new KvzFormatError(`Cannot read cache: data of ${name} is not a typed array`);
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** The record's tensors must be exactly those of `layers` decoder layers. */
function checkNames(names: readonly string[], layers: number): void {
  for (const name of names) {
    const match = /^past_key_values\.(0|[1-9]\d*)\.(key|value)$/.exec(name);
    if (match === null) {
      throw new KvzUnsupportedError(
        `Cannot read cache: "${name}" is not a key or value of self-attention; hybrid models and encoder-decoders are not supported`,
      );
    }
    if (Number(match[1]) >= layers) {
      throw new KvzMismatchError(`Cannot read cache: the record has "${name}", but the model has ${layers} layers`);
    }
  }
}

function checkDims(name: string, dims: readonly number[], heads: number, tokens: number, dim: number): void {
  if (dims.length === 4 && dims[0] > 1) {
    throw new KvzUnsupportedError(
      `Cannot read cache: ${name} holds a batch of ${dims[0]} sequences, expected 1; split the batch first`,
    );
  }
  const wanted = [1, heads, tokens, dim];
  if (dims.length !== 4 || wanted.some((size, axis) => dims[axis] !== size)) {
    throw new KvzMismatchError(
      `Cannot read cache: ${name} has shape [${dims.join(", ")}], expected [${wanted.join(", ")}]`,
    );
  }
}

/** A tensor of a record with its name. */
export interface NamedTensor {
  readonly name: string;
  readonly tensor: TensorLike;
}

/** @ignore What a record says of itself, checked against the model: wherever its elements are. */
export function checkRecord(record: Readonly<Record<string, TensorLike>>, model: ModelSpec): {
  readonly dtype: DType;
  readonly tokens: number;
  readonly layers: readonly Readonly<Record<Kind, NamedTensor>>[];
} {
  checkModel(model);
  checkNames(Object.keys(record), model.layers);
  const first = record["past_key_values.0.key"] as TensorLike | undefined;
  const type = first?.type ?? "float32";
  const dtype = DTYPES[type];
  if (dtype === undefined) {
    throw new KvzUnsupportedError(`Cannot read cache: tensors are ${type}, expected float32 or float16`);
  }
  const tokens = first?.dims.at(-2) ?? 0;
  const check = (layer: number, kind: Kind): NamedTensor => {
    const name = `past_key_values.${layer}.${kind}`;
    const tensor = record[name] as TensorLike | undefined;
    if (tensor === undefined) throw new KvzMismatchError(`Cannot read cache: the record lacks "${name}"`);
    if (tensor.type !== type) {
      throw new KvzFormatError(`Cannot read cache: ${name} is ${tensor.type}, expected ${type} as the first tensor`);
    }
    checkDims(name, tensor.dims, model.kvHeads, tokens, kind === "key" ? model.keyDim : model.valueDim);
    return { name, tensor };
  };
  const layers = Array.from({ length: model.layers }, (_, layer) => {
    return { key: check(layer, "key"), value: check(layer, "value") };
  });
  return { dtype, tokens, layers };
}

/** @ignore Ids of the tokens that the cache holds. */
export function readIds(ids: ArrayLike<number | bigint>, tokens: number): Int32Array {
  if (ids.length !== tokens && ids.length !== tokens + 1) {
    throw new KvzMismatchError(`Cannot read cache: there are ${ids.length} token ids for ${tokens} tokens`);
  }
  return Int32Array.from({ length: tokens }, (_, t) => Number(ids[t]));
}

/**
 * Makes a cache of a Transformers.js record (a `DynamicCache` or a plain object). Tensors in main memory are not copied
 * unless their pairing changes; those on a GPU are moved to main memory, where the model can go on using them
 * (`fromGpuTensors` of `@kvz/kvz/gpu` leaves them there).
 *
 * @throws {KvzUnsupportedError} More than one sequence, an element type other than float32 and float16, tensors that are
 * not keys or values of self-attention, or data that cannot be reached.
 * @throws {KvzMismatchError} The record does not have the model's shape, or the token ids are of another number.
 * @throws {KvzFormatError} A tensor contradicts itself.
 */
export async function fromTransformersJs(
  record: Readonly<Record<string, TensorLike>>,
  options: FromTransformersJsOptions,
): Promise<KvCache> {
  const { model, inputIds, firstPosition = 0 } = options;
  const { dtype, tokens, layers: named } = checkRecord(record, model);
  const readOne = async ({ name, tensor }: NamedTensor, kind: Kind): Promise<Uint8Array> => {
    const dim = kind === "key" ? model.keyDim : model.valueDim;
    const bytes = await readTensor(name, tensor);
    const wanted = model.kvHeads * tokens * dim * BYTES_PER_ELEMENT[dtype];
    if (bytes.length !== wanted) {
      throw new KvzFormatError(`Cannot read cache: ${name} has ${bytes.length} bytes of data, expected ${wanted}`);
    }
    return kind === "key" && model.rope?.pairing === "adjacent"
      ? convertPairing(bytes, { dtype, dim, rotaryDim: model.rope.dim }, "adjacent", "half-split")
      : bytes;
  };
  const layers = await Promise.all(named.map(async (layer) => {
    const [key, value] = await Promise.all([readOne(layer.key, "key"), readOne(layer.value, "value")]);
    return { key, value };
  }));
  return new KvCache({
    model,
    dtype,
    positions: Int32Array.from({ length: tokens }, (_, t) => firstPosition + t),
    ...(inputIds ? { inputIds: readIds(inputIds, tokens) } : {}),
    layers,
  });
}

const Float16 = (globalThis as { Float16Array?: new (buffer: ArrayBufferLike) => ArrayBufferView }).Float16Array;

/**
 * Makes the record of a cache: `past_key_values.N.key|value` [1, KV heads, tokens, dim] over fresh memory, keys in the
 * pairing that `cache.model.rope` states.
 *
 * @throws {KvzUnsupportedError} The cache is ragged.
 */
export function toTransformersJs<T>(cache: KvCache, options: ToTransformersJsOptions<T>): Record<string, T> {
  const { model, dtype, tokens } = cache;
  if (cache.ragged) {
    throw new KvzUnsupportedError("Cannot write Transformers.js cache: it is ragged (its heads hold different tokens)");
  }
  const type = options.type ?? (dtype === "f16" ? "float16" : "float32");
  const target = DTYPES[type];
  if (target === undefined) throw new TypeError(`Cannot write Transformers.js cache: type is "${type}"`);
  const record: Record<string, T> = {};
  for (let layer = 0; layer < model.layers; layer++) {
    const part = cache.sliceLayers(layer, layer + 1);
    for (const kind of ["key", "value"] as const) {
      const dim = kind === "key" ? model.keyDim : model.valueDim;
      let bytes = part.read(kind, 0, tokens);
      if (target !== dtype) bytes = fromFloat32(toFloat32(bytes, dtype), target);
      if (kind === "key" && model.rope?.pairing === "adjacent") {
        bytes = convertPairing(bytes, { dtype: target, dim, rotaryDim: model.rope.dim }, "half-split", "adjacent");
      }
      const { buffer } = bytes; // fresh, from its beginning
      const data = target === "f32"
        ? new Float32Array(buffer)
        : Float16
        ? new Float16(buffer)
        : new Uint16Array(buffer);
      record[`past_key_values.${layer}.${kind}`] = options.makeTensor(type, data, [1, model.kvHeads, tokens, dim]);
    }
  }
  return record;
}
