/**
 * Checks of llama.cpp's state files against a model and against the context that will load them.
 *
 * llama.cpp trusts a state file: one that is cut short ends the whole process, rows of another size or positions of
 * another sequence are taken as they are. So a file is checked before the runtime sees it.
 *
 * @module
 */
import { checkModel } from "../cache/model.ts";
import type { ModelSpec } from "../cache/types.ts";
import { KvzFormatError, KvzLimitError, KvzMismatchError } from "../errors.ts";
import { type GgmlType, rowBytes } from "./ggml_types.ts";
import { type LlamaStateFile, parseLlamaState, type StateTensor } from "./llama_state_file.ts";

/** What a llama.cpp context accepts. */
export interface LlamaContextFacts {
  /** The model of the context, see readGgufModel. */
  readonly model: ModelSpec;
  /** Most tokens of a sequence. */
  readonly contextSize: number;
  /** Streams: the context's number of sequences, 1 where they share one cache (`kv_unified`). */
  readonly streams: number;
  /** Whether values lie as [channel][cell]: true without flash attention. */
  readonly transposedValues: boolean;
  /** Element type of the keys. */
  readonly keyType: GgmlType;
  /** Element type of the values. */
  readonly valueType: GgmlType;
  /** Number of token ids; where it is given, the file's ids must lie below. */
  readonly vocabulary?: number;
}

/**
 * Checks layers and row sizes of a parsed file.
 *
 * @throws {KvzMismatchError} The file is of another shape than the model; the message names the tensor.
 */
export function checkGeometry(file: LlamaStateFile, model: ModelSpec): void {
  if (file.keys.length !== model.layers) {
    throw new KvzMismatchError(
      `Cannot read llama.cpp state: the file has ${file.keys.length} layers, the model ${model.layers}`,
    );
  }
  for (const kind of ["key", "value"] as const) {
    const dim = kind === "key" ? model.keyDim : model.valueDim;
    const tensors = kind === "key" ? file.keys : file.values;
    const transposed = kind === "value" && file.transposedValues;
    tensors.forEach(({ type, width }, layer) => {
      const n = model.kvHeads * dim;
      const wanted = transposed ? n : rowBytes(type, n);
      if (width !== wanted) {
        const unit = transposed ? "channels" : `bytes of ${type} a cell`;
        throw new KvzMismatchError(
          `Cannot read llama.cpp state: ${kind} of layer ${layer} has ${width} ${unit} in the file, ${wanted} in the model (${model.kvHeads} heads of ${dim})`,
        );
      }
    });
  }
}

function checkTypes(kind: "key" | "value", tensors: readonly StateTensor[], wanted: GgmlType): void {
  tensors.forEach(({ type }, layer) => {
    if (type !== wanted) {
      throw new KvzMismatchError(
        `Cannot load llama.cpp state: ${kind} of layer ${layer} is ${type}, expected ${wanted} as in the context`,
      );
    }
  });
}

/**
 * The runtime goes on at the number of listed tokens, llama.cpp at the largest position + 1: both must be the same, and
 * no position may be missing, or the next token lands elsewhere than it is thought to.
 */
function checkTokens({ tokens, positions }: LlamaStateFile, context: LlamaContextFacts): void {
  const { contextSize, vocabulary } = context;
  const count = positions.length;
  if (tokens.length !== count) {
    throw new KvzFormatError(`Cannot load llama.cpp state: it lists ${tokens.length} tokens and holds ${count} cells`);
  }
  if (count > contextSize) {
    throw new KvzLimitError(
      `Cannot load llama.cpp state: it has ${count} tokens, the context takes at most ${contextSize}`,
    );
  }
  const seen = new Uint8Array(count);
  positions.forEach((position, cell) => {
    if (position < 0 || position >= count || seen[position] === 1) {
      throw new KvzFormatError(
        `Cannot load llama.cpp state: cell ${cell} has position ${position}, expected each of 0 to ${count - 1} once`,
      );
    }
    seen[position] = 1;
  });
  if (vocabulary === undefined) return;
  tokens.forEach((id, t) => {
    if (id < 0 || id >= vocabulary) {
      throw new KvzMismatchError(
        `Cannot load llama.cpp state: token ${t} is ${id}, expected 0 to ${vocabulary - 1} of the model's vocabulary`,
      );
    }
  });
}

/**
 * Checks everything that llama.cpp relies on when it loads a state file into one sequence of a context: the file is whole
 * and nothing follows it, it is of the model's shape, of the context's element types, value layout and streams, and its
 * tokens fit and follow each other from position 0 on.
 *
 * Not in the file, so not checked: the model's weights and RoPE, and whether quantized heads are Walsh–Hadamard
 * transformed.
 *
 * @throws {KvzFormatError} The file is damaged, truncated, followed by something else, or its positions have gaps.
 * @throws {KvzMismatchError} The file is of another model, or of a context of another kind; the message names the fact.
 * @throws {KvzLimitError} The file has more tokens than the context takes.
 * @throws {KvzUnsupportedError} Files that readLlamaState does not understand either; the message says why.
 */
export function checkLlamaState(bytes: Uint8Array, context: LlamaContextFacts): void {
  checkModel(context.model);
  const file = parseLlamaState(bytes);
  checkGeometry(file, context.model);
  checkTypes("key", file.keys, context.keyType);
  checkTypes("value", file.values, context.valueType);
  if (file.transposedValues !== context.transposedValues) {
    const name = (transposed: boolean) => transposed ? "transposed (no flash attention)" : "in rows (flash attention)";
    throw new KvzMismatchError(
      `Cannot load llama.cpp state: its values lie ${name(file.transposedValues)}, those of the context ${
        name(context.transposedValues)
      }`,
    );
  }
  if (file.streams !== context.streams) {
    throw new KvzMismatchError(
      `Cannot load llama.cpp state: it is of a context of ${file.streams} streams, expected ${context.streams}`,
    );
  }
  checkTokens(file, context);
}
