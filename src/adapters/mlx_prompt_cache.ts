/**
 * Prompt caches of mlx-lm (`mlx_lm.cache_prompt`, `save_prompt_cache`): safetensors files whose tensors and metadata are
 * a flattened tree, in which `A.B` is element B of element A.
 *
 * Tensors: `L.0` keys and `L.1` values of layer L, [1, kv_heads, tokens, dim] in F16, BF16 or F32, keys after RoPE.
 * Everything else changed with mlx-lm 0.32 (mlx_lm/models/cache.py of 0.21 to 0.32.2):
 *
 * | | before 0.32 | from 0.32 on |
 * |---|---|---|
 * | user's metadata | `1.NAME` | `0.NAME` |
 * | class of layer L | `2.L` | `1.L` |
 * | other metadata | `0.L`, state of the class, empty for KVCache | `2.0` = "", `2.N.0` and `2.N.1`: name and type of a tensor that stands for a Python value |
 * | tokens | those of the tensors | `L.2`, I32 []; the tensors have room for more |
 *
 * The files hold no token ids and nothing of the rotation: the caller says how the keys are rotated. Pairing is
 * "half-split" where the model's MLX code has `traditional=False`, "adjacent" where it has `traditional=True`.
 *
 * @module
 */
import type { CacheSource, Kind } from "../cache/types.ts";
import type { ByteSource } from "../container/bytes.ts";
import { KvzFormatError, KvzUnsupportedError } from "../errors.ts";
import { openCacheTensors, readRanges, type SafetensorsCache, type SafetensorsOptions } from "./safetensors.ts";
import { readSafetensorsHeader, type TensorInfo } from "./safetensors_file.ts";
import { sortTensors, type TensorNames } from "./safetensors_geometry.ts";
import { type SafetensorsDialect, type SafetensorsWriteOptions, writeSafetensorsAs } from "./safetensors_sink.ts";

/** Layout by the first release that had it: "0.21" up to 0.31, "0.32" from then on. Neither reads the other's files. */
export type MlxPromptCacheLayout = "0.21" | "0.32";

/** Options of the writer. */
export interface MlxPromptCacheWriteOptions extends SafetensorsWriteOptions {
  /** Which releases of mlx-lm shall read the file. Default: "0.32". */
  readonly layout?: MlxPromptCacheLayout;
}

const TREE_NAME = /^\d+(?:\.\d+)+$/;
const LAYER_NAME = /^(0|[1-9]\d{0,5})\.([01])$/;
const TOKENS_NAME = /^(0|[1-9]\d{0,5})\.2$/;
/** Classes whose state is keys and values of all tokens in order. */
const CLASSES = ["KVCache", "ConcatenateKVCache"];

const NAMES: TensorNames = {
  nameOf: (layer, kind) => `${layer}.${kind === "key" ? 0 : 1}`,
  parse(name) {
    const match = LAYER_NAME.exec(name);
    return match === null ? undefined : { part: match[2] === "0" ? "key" : "value", layer: Number(match[1]) };
  },
};

/** Whether the tensors of a safetensors file have the names of a prompt cache, of whatever class. */
export function isMlxPromptCache(tensorNames: Iterable<string>): boolean {
  const names = [...tensorNames];
  return names.length > 0 && names.every((name) => TREE_NAME.test(name));
}

/**
 * Opens a prompt cache. Only the header and the numbers of tokens are read now. The user's metadata become those of the
 * cache; their `model` (which mlx-lm's own commands write), `architecture` and `rope` are used where the options say
 * nothing, so that {@linkcode writeMlxPromptCache}'s files need none. Positions begin at 0.
 *
 * @param options `rope` is needed unless the file is one of ours; `firstPosition` can be 0 only
 * @throws {KvzFormatError} when the file is not strictly safetensors, is no prompt cache, or lacks parts of it
 * @throws {KvzUnsupportedError} when a layer is no KVCache (quantized, rotating, recurrent …), or for a batch; the
 *   message names it
 * @throws {KvzMismatchError} when `rope` is needed
 * @throws {RangeError} when an option is out of range
 */
export async function openMlxPromptCache(
  source: ByteSource,
  options: SafetensorsOptions = {},
): Promise<SafetensorsCache> {
  if (options.firstPosition !== undefined && options.firstPosition !== 0) {
    throw new RangeError(`Cannot read mlx-lm prompt cache: first position is ${options.firstPosition}, expected 0`);
  }
  const { tensors, metadata } = await readSafetensorsHeader(source);
  if (!isMlxPromptCache(tensors.keys())) throw fault("expected only tensors with names such as 0.0 and 0.1");
  const tree = readTree(metadata);
  checkClasses(tree.classes);

  const cacheTensors = new Map(tensors);
  const counts: (TensorInfo | undefined)[] = tree.classes.map(() => undefined);
  if (tree.pythonValues !== undefined) {
    checkPythonValues(tree.pythonValues, tensors);
    for (const [name, info] of tensors) {
      const layer = Number(TOKENS_NAME.exec(name)?.[1] ?? -1);
      if (tree.classes[layer] !== "KVCache") continue;
      counts[layer] = checkCount(name, info, tree.pythonValues);
      cacheTensors.delete(name);
    }
  }
  const parts = sortTensors(cacheTensors, NAMES);
  if (parts.key.length !== tree.classes.length) {
    throw fault(`it has tensors of ${parts.key.length} layers and classes of ${tree.classes.length}`);
  }
  const tokens = tree.pythonValues === undefined
    ? parts.capacity
    : await readTokens(source, tree.classes, counts, parts.capacity);
  const known = options.rope === undefined ? options : { ...options, firstPosition: 0 };
  const cache = await openCacheTensors(source, { ...parts, tokens }, tree.metadata, known);
  if (cache.tokens > 0 && cache.positions[0] !== 0) {
    throw fault(`its rope metadata have first_position ${cache.positions[0]}, expected 0`);
  }
  return cache;
}

/**
 * Writes a prompt cache that `mlx_lm.load_prompt_cache` reads. Token ids and queries have no place in it.
 *
 * The user's metadata get `model` (default: the cache's model id) and `tokenizer_config` (default: "{}"), which
 * `mlx_lm.generate --prompt-cache-file` needs, and `architecture` and `rope` from the cache. `model` has to be the name
 * by which mlx-lm loads the model.
 *
 * @param options `pairing` has to be that of the model's MLX code, see above; default "half-split"
 * @throws {KvzUnsupportedError} when the cache is ragged or its positions are not 0, 1, 2, …
 * @throws {RangeError} when it is too large for one array, or the layout is unknown
 * @throws {TypeError} when mlx-lm would not give a metadata name back: empty, with a dot, or a whole number
 */
export async function writeMlxPromptCache(
  cache: CacheSource,
  options: MlxPromptCacheWriteOptions = {},
): Promise<Uint8Array> {
  const { layout = "0.32", metadata: { model: id = cache.model.id, ...texts } = {}, pairing } = options;
  if (layout !== "0.21" && layout !== "0.32") {
    throw new RangeError(`Cannot write mlx-lm prompt cache: layout is ${layout}, expected 0.21 or 0.32`);
  }
  for (const name of Object.keys(texts)) {
    // Python's int() takes digits of all scripts and underscores; such names would make a list of the dictionary.
    if (name.includes(".") || /^\s*[+-]?[\p{Nd}_]*\s*$/u.test(name)) {
      throw new TypeError(
        `Cannot write mlx-lm prompt cache: metadata name ${JSON.stringify(name)} is empty, has a dot or is a number`,
      );
    }
  }
  const { tokens, positions, dtype, ragged } = cache;
  const gap = positions.findIndex((position, i) => position !== i);
  if (gap >= 0) {
    throw new KvzUnsupportedError(
      `Cannot write mlx-lm prompt cache: token ${gap} has position ${positions[gap]}, expected ${gap}`,
    );
  }
  const model = { ...cache.model, ...(id === undefined ? {} : { id }) };
  const bare: CacheSource = {
    ...{ model, dtype, tokens, positions, ragged },
    read: (kind: Kind, begin: number, end: number) => cache.read(kind, begin, end),
  };
  return await writeSafetensorsAs(dialectOf(layout, model.layers, tokens), bare, {
    metadata: { tokenizer_config: "{}", ...texts },
    ...(pairing === undefined ? {} : { pairing }),
  });
}

function fault(message: string): KvzFormatError {
  return new KvzFormatError(`Cannot read mlx-lm prompt cache: ${message}`);
}

function unsupported(message: string): KvzUnsupportedError {
  return new KvzUnsupportedError(`Cannot read mlx-lm prompt cache: ${message}`);
}

/** The metadata, unflattened as far as needed. */
interface Tree {
  /** The user's. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Class name of each layer. */
  readonly classes: readonly string[];
  /** Name → type of tensors that stand for Python values; undefined before 0.32. */
  readonly pythonValues: ReadonlyMap<string, string> | undefined;
}

function readTree(flat: Readonly<Record<string, string>>): Tree {
  const sections = [0, 1, 2].map(() => new Map<string, string>());
  for (const [key, text] of Object.entries(flat)) {
    const match = /^([012])\.(.*)$/s.exec(key);
    if (match === null) throw fault(`it has metadata ${JSON.stringify(key.slice(0, 80))}, expected 0., 1. and 2. only`);
    sections[Number(match[1])].set(match[2], text);
  }
  const mark = sections[2].get("0");
  if (mark === undefined) {
    throw fault("metadata 2.0 is missing, expected an empty text (mlx-lm 0.32) or a class name (before)");
  }
  if (mark === "") {
    return {
      metadata: Object.fromEntries(sections[0]),
      classes: listOf(sections[1], "1"),
      pythonValues: readPythonValues(sections[2]),
    };
  }
  const classes = listOf(sections[2], "2");
  // Only other classes have more state than keys and values, and those are refused by name later on.
  for (const [layer, text] of sections[0]) {
    const name = classes[Number(layer)];
    if (CLASSES.includes(name) && text !== "") throw unsupported(`layer ${layer} is a ${name} with unknown state`);
  }
  return { metadata: Object.fromEntries(sections[1]), classes, pythonValues: undefined };
}

/** The elements 0, 1, 2, … of a list. */
function listOf(section: ReadonlyMap<string, string>, name: string): string[] {
  return Array.from({ length: section.size }, (_, i) => {
    const text = section.get(String(i));
    if (text === undefined) throw fault(`metadata ${name}.${i}, the class of layer ${i}, is missing`);
    return text;
  });
}

function readPythonValues(section: ReadonlyMap<string, string>): Map<string, string> {
  const types = new Map<string, string>();
  const count = (section.size - 1) / 2;
  for (let i = 1; i <= count; i++) {
    const name = section.get(`${i}.0`);
    const type = section.get(`${i}.1`);
    if (name === undefined || type === undefined) throw fault(`metadata 2.${i}.0 or 2.${i}.1 is missing`);
    types.set(name, type);
  }
  if (types.size !== count) throw fault("metadata 2.N.0 do not name each tensor once");
  return types;
}

function checkClasses(classes: readonly string[]): void {
  const layer = classes.findIndex((name) => !CLASSES.includes(name));
  if (layer >= 0) {
    const name = classes[layer].slice(0, 80);
    throw unsupported(`layer ${layer} is a ${name}, only ${CLASSES.join(" and ")} are read`);
  }
}

/** Keys and values that Python has as None are a layer without any token, whose heads nobody knows. */
function checkPythonValues(types: ReadonlyMap<string, string>, tensors: ReadonlyMap<string, TensorInfo>): void {
  for (const [name, type] of types) {
    if (!tensors.has(name)) {
      throw fault(`metadata 2.N.0 name a tensor ${JSON.stringify(name.slice(0, 80))} that is not there`);
    }
    if (LAYER_NAME.test(name)) {
      throw unsupported(`tensor ${name} stands for "${type.slice(0, 80)}", the cache is empty`);
    }
  }
}

function checkCount(name: string, info: TensorInfo, types: ReadonlyMap<string, string>): TensorInfo {
  const type = types.get(name);
  if (info.dtype !== "I32" || info.shape.length !== 0 || type !== "scalar") {
    throw fault(
      `tensor ${name} is ${info.dtype} [${info.shape.slice(0, 8).join(", ")}] of type ${type?.slice(0, 80)}, ` +
        "expected I32 [] of type scalar",
    );
  }
  return info;
}

/** The number of tokens that all layers hold. A ConcatenateKVCache fills its tensors. */
async function readTokens(
  source: ByteSource,
  classes: readonly string[],
  counts: readonly (TensorInfo | undefined)[],
  capacity: number,
): Promise<number> {
  const ranges = counts.flatMap((info) => info === undefined ? [] : [{ begin: info.begin, length: 4 }]);
  const bytes = await readRanges(source, ranges);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const tokens = classes.map((name, layer) => {
    if (counts[layer] === undefined) {
      if (name === "KVCache") throw fault(`tensor ${layer}.2, the tokens of layer ${layer}, is missing`);
      return capacity;
    }
    const count = view.getInt32(4 * at++, true);
    if (count >= 0 && count <= capacity) return count;
    throw fault(`layer ${layer} says that it has ${count} tokens, its tensors have room for ${capacity}`);
  });
  const odd = tokens.findIndex((count) => count !== tokens[0]);
  if (odd >= 0) throw unsupported(`layer ${odd} has ${tokens[odd]} tokens, expected ${tokens[0]} as in layer 0`);
  return tokens[0];
}

function dialectOf(layout: MlxPromptCacheLayout, layers: number, tokens: number): SafetensorsDialect {
  const old = layout === "0.21";
  const numbers = Array.from({ length: layers }, (_, layer) => layer);
  return {
    names: NAMES,
    scalars: new Map(old ? [] : numbers.map((layer) => [`${layer}.2`, tokens])),
    arrangeMetadata: (texts) =>
      Object.fromEntries([
        ...Object.entries(texts).map(([key, text]) => [`${old ? 1 : 0}.${key}`, text]),
        ...(old ? [] : [["2.0", ""]]),
        ...numbers.flatMap((layer) =>
          old ? [[`0.${layer}`, ""], [`2.${layer}`, "KVCache"]] : [
            [`1.${layer}`, "KVCache"],
            [`2.${layer + 1}.0`, `${layer}.2`],
            [`2.${layer + 1}.1`, "scalar"],
          ]
        ),
      ]),
  };
}
