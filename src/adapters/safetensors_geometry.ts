/**
 * What the tensors of a safetensors file say of a cache: layers, heads, dimensions, tokens, element type. Everything
 * that is not a dense cache of one sequence is refused by name.
 *
 * @module
 */
import type { DType, Kind } from "../cache/types.ts";
import { MAX_HEAD_DIM, MAX_LAYERS_AND_HEADS, MAX_POSITION } from "../container/model_json.ts";
import { KvzFormatError, KvzUnsupportedError } from "../errors.ts";
import type { TensorInfo } from "./safetensors_file.ts";

/** Element types of caches under their safetensors names. */
export const CACHE_DTYPES: Readonly<Record<string, DType>> = { F32: "f32", F16: "f16", BF16: "bf16" };

/** The tensors of a cache by role. */
export interface CacheTensors {
  /** Element type of keys and values. */
  readonly dtype: DType;
  /** Tokens of every head. */
  readonly tokens: number;
  /** Tokens that every head has room for in its tensor; what follows `tokens` is not part of the cache. */
  readonly capacity: number;
  /** KV heads of a layer. */
  readonly kvHeads: number;
  /** Elements of a key. */
  readonly keyDim: number;
  /** Elements of a value. */
  readonly valueDim: number;
  /** One tensor a layer, [1, kvHeads, capacity, dim]. */
  readonly key: readonly TensorInfo[];
  /** Likewise. */
  readonly value: readonly TensorInfo[];
  /** [1, tokens]. */
  readonly inputIds?: TensorInfo;
  /** [1, tokens]. */
  readonly positions?: TensorInfo;
  /** One tensor a layer, [1, heads, tokens, keyDim]; absent when the file has no queries. */
  readonly queries?: readonly TensorInfo[];
}

/** How a kind of file names the tensors of a cache. */
export interface TensorNames {
  /** Name of a layer's keys or values. */
  nameOf(layer: number, kind: Kind): string;
  /** What a name stands for; undefined: not a part of such a cache. */
  parse(name: string): { part: Kind | "queries"; layer: number } | undefined;
}

const NAME = /^(?:past_key_values\.(0|[1-9]\d{0,5})\.(key|value)|queries\.(0|[1-9]\d{0,5}))$/;

/** The names that Transformers.js and ONNX exports use. */
export const EXPORT_NAMES: TensorNames = {
  nameOf: (layer, kind) => `past_key_values.${layer}.${kind}`,
  parse(name) {
    const match = NAME.exec(name);
    if (match === null) return undefined;
    return { part: (match[2] as Kind | undefined) ?? "queries", layer: Number(match[1] ?? match[3]) };
  },
};

/**
 * Sorts the tensors of a file into the parts of a cache.
 *
 * @param names how the file names keys and values
 * @throws {KvzFormatError} when the file holds no cache, or lacks layers of it
 * @throws {KvzUnsupportedError} when it holds a cache of another kind: batch, MLA, hybrid, mixed or unknown types
 */
export function sortTensors(
  tensors: ReadonlyMap<string, TensorInfo>,
  names: TensorNames = EXPORT_NAMES,
): CacheTensors {
  const parts: Record<Kind | "queries", TensorInfo[]> = { key: [], value: [], queries: [] };
  let inputIds: TensorInfo | undefined;
  let positions: TensorInfo | undefined;
  for (const [name, info] of tensors) {
    if (name === "input_ids") inputIds = info;
    else if (name === "positions") positions = info;
    else {
      const parsed = names.parse(name);
      if (parsed === undefined) {
        throw unsupported(`tensor ${JSON.stringify(name.slice(0, 80))} is not part of a key-value cache known here`);
      }
      const { part, layer } = parsed;
      if (layer >= MAX_LAYERS_AND_HEADS) throw unsupported(`it has a layer ${layer}, the limit is 4095`);
      parts[part][layer] = info;
    }
  }
  const layers = Math.max(parts.key.length, parts.value.length);
  const firstName = names.nameOf(0, "key");
  if (layers === 0) throw new KvzFormatError(`Cannot read cache: the file has no tensor ${firstName}`);
  checkComplete(parts.key, parts.value, layers);

  const first = parts.key[0];
  const dtype = cacheDType(firstName, first);
  const [, kvHeads, tokens, keyDim] = shapeOf(firstName, first);
  const [, , , valueDim] = shapeOf(names.nameOf(0, "value"), parts.value[0]);
  for (let layer = 0; layer < layers; layer++) {
    for (const kind of ["key", "value"] as const) {
      const name = names.nameOf(layer, kind);
      const info = parts[kind][layer];
      if (cacheDType(name, info) !== dtype) {
        throw unsupported(
          `${name} is ${info.dtype} and ${firstName} ${first.dtype}, mixtures are not known here`,
        );
      }
      const [, heads, n, dim] = shapeOf(name, info);
      checkEqual(name, "heads", heads, kvHeads);
      checkEqual(name, "tokens", n, tokens);
      checkEqual(name, "dimensions a head", dim, kind === "key" ? keyDim : valueDim);
    }
  }
  const result = { dtype, tokens, capacity: tokens, kvHeads, keyDim, valueDim, key: parts.key, value: parts.value };
  return {
    ...result,
    ...(inputIds === undefined ? {} : { inputIds: checkRow("input_ids", inputIds, ["I32", "I64"], tokens) }),
    ...(positions === undefined ? {} : { positions: checkRow("positions", positions, ["I32"], tokens) }),
    ...(parts.queries.length === 0 ? {} : { queries: checkQueries(parts.queries, layers, result) }),
  };
}

function unsupported(message: string): KvzUnsupportedError {
  return new KvzUnsupportedError(`Cannot read cache: ${message}`);
}

function checkComplete(key: readonly TensorInfo[], value: readonly TensorInfo[], layers: number): void {
  if (value.length === 0) {
    throw unsupported("it has keys but no values, multi-head latent attention (MLA) is not known here");
  }
  for (let layer = 0; layer < layers; layer++) {
    if (key[layer] === undefined && value[layer] === undefined) {
      throw new KvzFormatError(`Cannot read cache: layer ${layer} of ${layers} is missing`);
    }
    if (key[layer] === undefined) throw new KvzFormatError(`Cannot read cache: layer ${layer} has values but no keys`);
    if (value[layer] === undefined) {
      throw unsupported(`layer ${layer} has keys but no values, layers of different kinds are not known here`);
    }
  }
}

function cacheDType(name: string, info: TensorInfo): DType {
  if (!Object.hasOwn(CACHE_DTYPES, info.dtype)) {
    throw unsupported(`${name} has element type ${info.dtype}, expected F32, F16 or BF16`);
  }
  return CACHE_DTYPES[info.dtype];
}

function shapeOf(name: string, { shape }: TensorInfo): readonly number[] {
  const shown = `[${shape.slice(0, 8).join(", ")}]`;
  if (shape.length !== 4) throw unsupported(`${name} has shape ${shown}, expected [1, heads, tokens, dim]`);
  if (shape[0] !== 1) throw unsupported(`${name} holds a batch of ${shape[0]} sequences, expected 1: split it first`);
  const [, heads, tokens, dim] = shape;
  if (heads < 1 || heads > MAX_LAYERS_AND_HEADS || dim < 1 || dim > MAX_HEAD_DIM || tokens > MAX_POSITION) {
    throw unsupported(
      `${name} has shape ${shown}, expected 1 to ${MAX_LAYERS_AND_HEADS} heads of 1 to ${MAX_HEAD_DIM} dimensions`,
    );
  }
  return shape;
}

function checkEqual(name: string, what: string, found: number, wanted: number): void {
  if (found !== wanted) throw unsupported(`${name} has ${found} ${what}, expected ${wanted} as in layer 0`);
}

function checkRow(name: string, info: TensorInfo, dtypes: readonly string[], tokens: number): TensorInfo {
  if (!dtypes.includes(info.dtype)) {
    throw unsupported(`${name} has element type ${info.dtype}, expected ${dtypes.join(" or ")}`);
  }
  if (info.shape.length !== 2 || info.shape[0] !== 1 || info.shape[1] !== tokens) {
    throw unsupported(`${name} has shape [${info.shape.slice(0, 8).join(", ")}], expected [1, ${tokens}]`);
  }
  return info;
}

function checkQueries(
  queries: readonly TensorInfo[],
  layers: number,
  cache: { kvHeads: number; tokens: number; keyDim: number },
): readonly TensorInfo[] {
  if (queries.length > layers) throw unsupported(`it has queries.${queries.length - 1} but only ${layers} layers`);
  for (let layer = 0; layer < layers; layer++) {
    if (queries[layer] === undefined) throw unsupported(`queries.${layer} is missing, expected all layers or none`);
    const name = `queries.${layer}`;
    const [, heads, tokens, dim] = shapeOf(name, queries[layer]);
    const [, firstHeads, firstTokens] = shapeOf("queries.0", queries[0]);
    checkEqual(name, "heads", heads, firstHeads);
    checkEqual(name, "tokens", tokens, firstTokens);
    checkEqual(name, "dimensions a head", dim, cache.keyDim);
    if (cacheDType(name, queries[layer]) !== cacheDType("queries.0", queries[0])) {
      throw unsupported(`${name} is ${queries[layer].dtype} and queries.0 ${queries[0].dtype}`);
    }
    if (heads % cache.kvHeads !== 0 || tokens > cache.tokens) {
      throw unsupported(
        `${name} has ${heads} heads and ${tokens} tokens, ` +
          `expected a multiple of ${cache.kvHeads} heads and at most ${cache.tokens} tokens`,
      );
    }
  }
  return queries;
}
