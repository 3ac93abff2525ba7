/**
 * An onnxruntime session of a decoder with past (the graphs of Transformers.js and `deno task model`) as a
 * {@linkcode LanguageModel}. Types are structural; nothing is imported from onnxruntime.
 *
 * @module
 */
import { describedAs } from "../cache/cast.ts";
import { densify } from "../cache/densify.ts";
import type { KvCache } from "../cache/kv_cache.ts";
import { resolveModel } from "../cache/fingerprint.ts";
import { fromFloat32, toFloat32 } from "../cache/elements.ts";
import type { DType, ModelSpec, QueryTensors } from "../cache/types.ts";
import { KvzFormatError, KvzMismatchError, KvzUnsupportedError } from "../errors.ts";
import type { ForwardOptions, ForwardResult, LanguageModel, LoadedCache, LoadOptions } from "../eval/language_model.ts";
import { fromTransformersJs, type TensorLike, toTransformersJs } from "./transformers_js.ts";

/** What is needed of an onnxruntime tensor. */
export interface OnnxTensor extends TensorLike {
  /** Gives the memory back, where the runtime holds it. */
  dispose?(): void;
}

/** What is needed of an onnxruntime session. */
export interface OnnxSession {
  /** Names of the graph's inputs. */
  readonly inputNames: readonly string[];
  /** Names of the graph's outputs. */
  readonly outputNames: readonly string[];
  /** Shapes and types of the inputs, where the runtime tells them. */
  readonly inputMetadata?: readonly unknown[];
  /** Runs the graph; only the outputs named in `fetches` are computed. */
  run(feeds: Record<string, OnnxTensor>, fetches: readonly string[]): Promise<Readonly<Record<string, OnnxTensor>>>;
}

/** Makes an onnxruntime tensor. */
export type MakeTensor = (type: string, data: ArrayBufferView, dims: readonly number[]) => OnnxTensor;

/** Text ↔ token ids, without special tokens. */
export interface Tokenizer {
  /** Token ids of a text. */
  encode(text: string): ArrayLike<number | bigint>;
  /** The text of token ids. */
  decode(ids: readonly number[]): string;
}

/** What a model is made of. */
export interface OnnxModelParts {
  /** The graph. */
  readonly session: OnnxSession;
  /** Makes its inputs. */
  readonly makeTensor: MakeTensor;
  /** Text to ids and back. */
  readonly tokenizer: Tokenizer;
  /** Geometry and RoPE. */
  readonly spec: ModelSpec;
  /** Number of token ids. */
  readonly vocabulary: number;
  /** Most positions. */
  readonly maxPositions: number;
  /** Releases the session. */
  readonly close?: () => Promise<void>;
}

class OnnxPast implements LoadedCache {
  constructor(
    readonly tensors: Readonly<Record<string, OnnxTensor>>,
    readonly positions: Int32Array,
    /** [layers][kvHeads][tokens]; −Infinity hides a token from the queries of a head. */
    readonly bias: Float32Array | null,
    /** Layer that each layer attends to. */
    readonly layerSource: readonly number[] | null,
    /** The model that made it: tensors of one runtime are of no use to another. */
    readonly owner: OnnxModel,
  ) {}

  get tokens(): number {
    return this.positions.length;
  }

  get nextPosition(): number {
    return this.tokens === 0 ? 0 : this.positions[this.tokens - 1] + 1;
  }
}

/**
 * Makes a language model of an onnxruntime session.
 *
 * @throws {KvzUnsupportedError} The graph has inputs that are not known, or lacks the past of a layer.
 */
export function openOnnxModel(parts: OnnxModelParts): OnnxModel {
  return new OnnxModel(parts);
}

/** A {@linkcode LanguageModel} over an onnxruntime session; {@linkcode openOnnxModel} makes one. */
export class OnnxModel implements LanguageModel {
  readonly spec: ModelSpec;
  readonly vocabulary: number;
  readonly maxPositions: number;
  readonly #parts: OnnxModelParts;
  readonly #inputs: ReadonlySet<string>;
  readonly #pastType: "float32" | "float16";

  /** @ignore use {@linkcode openOnnxModel} */
  constructor(parts: OnnxModelParts) {
    this.#parts = parts;
    this.spec = parts.spec;
    this.vocabulary = parts.vocabulary;
    this.maxPositions = parts.maxPositions;
    this.#inputs = new Set(parts.session.inputNames);
    for (const name of this.#inputs) {
      if (!KNOWN_INPUTS.has(name) && !/^past_key_values\.\d+\.(key|value)$/.test(name)) {
        throw new KvzUnsupportedError(
          `Cannot use model: its graph has the input "${name}", which is not one of a decoder with a KV cache`,
        );
      }
    }
    for (const name of this.#pastNames()) {
      if (!this.#inputs.has(name)) {
        throw new KvzUnsupportedError(`Cannot use model: its graph lacks the input "${name}"`);
      }
    }
    this.#pastType = pastType(parts.session);
  }

  /** Whether the graph takes a bias over past tokens, as ragged caches need. */
  get takesBias(): boolean {
    return this.#inputs.has("attention_bias");
  }

  /** Whether the graph gives queries, as methods that weigh tokens by attention need. */
  get givesQueries(): boolean {
    return this.#parts.session.outputNames.includes("rotated_query.0");
  }

  /** Whether the graph takes the layers that share keys and values. */
  get takesLayerSource(): boolean {
    return this.#inputs.has("layer_source");
  }

  tokenize(text: string): Int32Array {
    return Int32Array.from(this.#parts.tokenizer.encode(text) as ArrayLike<number>, Number);
  }

  detokenize(ids: ArrayLike<number>): string {
    return this.#parts.tokenizer.decode(Array.from(ids));
  }

  async forward(ids: Int32Array, options: ForwardOptions = {}): Promise<ForwardResult> {
    const { logits: wanted = "all" } = options;
    const past = this.#own(options.past);
    const layerSource = this.#sourcesOf(past, options);
    const n = ids.length;
    const tokens = past?.tokens ?? 0;
    const first = past?.nextPosition ?? 0;
    this.#check(ids, first);
    const { session, makeTensor } = this.#parts;
    const feeds: Record<string, OnnxTensor> = past === null ? this.#emptyPast() : { ...past.tensors };
    const int64 = (values: number[], dims: readonly number[]) =>
      makeTensor("int64", BigInt64Array.from(values, BigInt), dims);
    feeds.input_ids = int64(Array.from(ids), [1, n]);
    if (this.#inputs.has("attention_mask")) feeds.attention_mask = int64(Array(tokens + n).fill(1), [1, tokens + n]);
    if (this.#inputs.has("position_ids")) {
      feeds.position_ids = int64(Array.from({ length: n }, (_, i) => first + i), [1, n]);
    } else if (first !== tokens) {
      throw new KvzUnsupportedError(
        "Cannot run model: its graph takes no position_ids, and the past's positions have gaps",
      );
    }
    if (this.#inputs.has("num_logits_to_keep")) feeds.num_logits_to_keep = int64([wanted === "last" ? 1 : 0], []);
    if (this.takesBias) {
      const { layers, kvHeads } = this.spec;
      const data = past?.bias ?? new Float32Array(layers * kvHeads * tokens);
      feeds.attention_bias = makeTensor("float32", data, [layers, kvHeads, tokens]);
    }
    if (this.#inputs.has("layer_source")) {
      const own = Array.from({ length: this.spec.layers }, (_, i) => i);
      feeds.layer_source = int64([...layerSource ?? own], [this.spec.layers]);
    }
    const presents = this.#pastNames().map((name) => name.replace("past_key_values", "present"));
    const queries = options.queries ? this.#queryNames() : [];
    const hidden = options.hidden ? [this.#hiddenName()] : [];
    const outputs = await session.run(feeds, ["logits", ...presents, ...queries, ...hidden]);
    const positions = new Int32Array(tokens + n);
    if (past) positions.set(past.positions);
    for (let i = 0; i < n; i++) positions[tokens + i] = first + i;
    const tensors = Object.fromEntries(
      presents.map((name) => [name.replace("present", "past_key_values"), outputs[name]]),
    );
    const bias = past?.bias ? this.#extendBias(past.bias, tokens, n) : null;
    return {
      logits: await this.#readLogits(outputs.logits, wanted, n),
      present: new OnnxPast(tensors, positions, bias, layerSource, this),
      ...(options.queries ? { queries: await this.#readQueries(queries.map((name) => outputs[name]), n) } : {}),
      ...(options.hidden ? { hidden: await this.#readHidden(outputs[HIDDEN], wanted, n) } : {}),
    };
  }

  // deno-lint-ignore require-await -- part of the interface; what it throws comes as a rejection
  async load(cache: KvCache, { layerSource }: LoadOptions = {}): Promise<LoadedCache> {
    // Throws for caches of another model.
    resolveModel(cache.model, this.spec, { found: "the cache", wanted: "the model" });
    const { makeTensor } = this.#parts;
    let dense = cache;
    let bias: Float32Array | null = null;
    if (cache.ragged) {
      if (!this.takesBias) {
        throw new KvzUnsupportedError(
          "Cannot load cache: it is ragged (its heads hold different tokens), and this graph takes no attention_bias; " +
            "use the capture graph",
        );
      }
      ({ cache: dense, bias } = densify(cache));
    }
    // The graph's pairing, whatever that of the cache's source was.
    const described = describedAs(dense, { ...dense.model, rope: this.spec.rope });
    const tensors = toTransformersJs(described, { makeTensor, type: this.#pastType });
    return new OnnxPast(tensors, dense.positions, bias, this.#checkLayers(layerSource), this);
  }

  async unload(loaded: LoadedCache, ids?: Int32Array): Promise<KvCache> {
    const past = this.#own(loaded);
    if (past === null || past.tokens === 0) throw new RangeError("Cannot unload cache: it holds no token");
    const firstPosition = past.positions[0];
    if (past.bias !== null || past.nextPosition - firstPosition !== past.tokens) {
      throw new KvzUnsupportedError("Cannot unload cache: tokens are missing in it; keep the cache it was loaded from");
    }
    if (ids !== undefined && ids.length !== past.tokens) {
      throw new KvzMismatchError(`Cannot unload cache: ${ids.length} token ids for ${past.tokens} tokens`);
    }
    return await fromTransformersJs(past.tensors, {
      model: this.spec,
      firstPosition,
      ...(ids === undefined ? {} : { inputIds: ids }),
    });
  }

  async unloadNewest(loaded: LoadedCache, tokens: number): Promise<KvCache> {
    const past = this.#own(loaded);
    const all = past?.tokens ?? 0;
    const from = all - tokens;
    if (past === null || tokens < 1 || from < 0 || past.nextPosition - past.positions[from] !== tokens) {
      throw new RangeError(
        `Cannot unload tokens: the newest ${tokens} of ${all} are wanted, expected at least one and no gaps among them`,
      );
    }
    const { kvHeads } = this.spec;
    const parts = await Promise.all(
      this.#pastNames().map(async (name) => {
        const tensor = past.tensors[name];
        const data = await this.#readFloats(tensor, "cache");
        const dim = tensor.dims[tensor.dims.length - 1];
        const own = new Float32Array(kvHeads * tokens * dim);
        for (let head = 0; head < kvHeads; head++) {
          own.set(data.subarray((head * all + from) * dim, (head + 1) * all * dim), head * tokens * dim);
        }
        return [name, this.#parts.makeTensor("float32", own, [1, kvHeads, tokens, dim])] as const;
      }),
    );
    return await fromTransformersJs(Object.fromEntries(parts), {
      model: this.spec,
      firstPosition: past.positions[from],
    });
  }

  /** Releases the session. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.close?.();
  }

  #checkLayers(source: ArrayLike<number> | undefined): readonly number[] | null {
    if (source === undefined) return null;
    if (!this.takesLayerSource) {
      throw new KvzUnsupportedError(
        "Cannot load cache: its layers are shared, and this graph takes no layer_source; use the capture graph",
      );
    }
    const list = Array.from(source);
    const bad = list.findIndex((from, layer) => !Number.isInteger(from) || from < 0 || from > layer);
    if (bad >= 0 || list.length !== this.spec.layers) {
      throw new RangeError(
        bad < 0
          ? `Cannot load cache: sources of ${list.length} layers, the model has ${this.spec.layers}`
          : `Cannot load cache: layer ${bad} would attend to layer ${list[bad]}, expected 0 to ${bad}`,
      );
    }
    return list;
  }

  #pastNames(): string[] {
    return Array.from({ length: this.spec.layers }, (_, layer) => [
      `past_key_values.${layer}.key`,
      `past_key_values.${layer}.value`,
    ]).flat();
  }

  /** Outputs of the capture graph. */
  #queryNames(): string[] {
    const names = Array.from({ length: this.spec.layers }, (_, layer) => `rotated_query.${layer}`);
    const missing = names.find((name) => !this.#parts.session.outputNames.includes(name));
    if (missing !== undefined) {
      throw new KvzUnsupportedError(
        `Cannot capture queries: this graph has no output "${missing}"; use the capture graph`,
      );
    }
    return names;
  }

  async #readQueries(tensors: readonly OnnxTensor[], n: number): Promise<QueryTensors> {
    const { kvHeads, keyDim } = this.spec;
    const layers = await Promise.all(tensors.map((tensor) => this.#readFloats(tensor, "queries")));
    const heads = layers[0].length / (n * keyDim);
    if (heads % kvHeads !== 0 || layers.some(({ length }) => length !== layers[0].length)) {
      throw new KvzFormatError(
        `Cannot capture queries: the graph gave ${
          layers[0].length
        } elements for ${n} tokens of ${keyDim}, expected a ` +
          `multiple of ${kvHeads} heads`,
      );
    }
    return { dtype: "f32", heads, tokens: n, layers: layers.map((values) => fromFloat32(values, "f32")) };
  }

  #own(loaded: LoadedCache | undefined): OnnxPast | null {
    if (loaded === undefined) return null;
    if (loaded instanceof OnnxPast && loaded.owner === this) return loaded;
    throw new TypeError("Cannot run model: the past was loaded by another model");
  }

  #check(ids: Int32Array, first: number): void {
    if (ids.length === 0) throw new RangeError("Cannot run model: there are no tokens");
    if (first + ids.length > this.maxPositions) {
      throw new RangeError(
        `Cannot run model: ${ids.length} tokens from position ${first} on need ${first + ids.length} positions, ` +
          `the model has ${this.maxPositions}`,
      );
    }
    const bad = ids.findIndex((id) => id < 0 || id >= this.vocabulary);
    if (bad >= 0) {
      throw new RangeError(
        `Cannot run model: token ${bad} has id ${ids[bad]}, the vocabulary has ${this.vocabulary}; ` +
          "the ids may be of another tokenizer",
      );
    }
  }

  #emptyPast(): Record<string, OnnxTensor> {
    const { kvHeads, keyDim, valueDim } = this.spec;
    const half = this.#pastType === "float16";
    return Object.fromEntries(
      this.#pastNames().map((name) => {
        const dims = [1, kvHeads, 0, name.endsWith("key") ? keyDim : valueDim];
        return [name, this.#parts.makeTensor(this.#pastType, half ? new Uint16Array(0) : new Float32Array(0), dims)];
      }),
    );
  }

  /** New tokens are hidden from nobody. */
  #extendBias(bias: Float32Array, tokens: number, n: number): Float32Array {
    const rows = this.spec.layers * this.spec.kvHeads;
    const out = new Float32Array(rows * (tokens + n));
    for (let row = 0; row < rows; row++) {
      out.set(bias.subarray(row * tokens, (row + 1) * tokens), row * (tokens + n));
    }
    return out;
  }

  #sourcesOf(past: OnnxPast | null, { layerSource }: ForwardOptions): readonly number[] | null {
    if (past === null) return this.#checkLayers(layerSource);
    if (layerSource === undefined) return past.layerSource;
    throw new TypeError("Cannot run model: the past has sources of its layers already");
  }

  #hiddenName(): string {
    if (this.#parts.session.outputNames.includes(HIDDEN)) return HIDDEN;
    throw new KvzUnsupportedError(
      `Cannot give hidden states: this graph has no output "${HIDDEN}"; use the capture graph, made by \`deno task model\``,
    );
  }

  /** Rows as {@linkcode #readLogits} gives them. */
  async #readHidden(tensor: OnnxTensor, wanted: "all" | "last", n: number): Promise<Float32Array> {
    const hidden = await this.#readFloats(tensor, "hidden states");
    const width = tensor.dims[tensor.dims.length - 1];
    return wanted === "last" && hidden.length === n * width ? hidden.slice((n - 1) * width) : hidden;
  }

  async #readFloats(tensor: OnnxTensor, what: string): Promise<Float32Array> {
    const data = tensor.location === undefined || tensor.location === "cpu" ? tensor.data : await tensor.getData?.();
    if (!ArrayBuffer.isView(data)) throw new KvzFormatError(`Cannot run model: its ${what} cannot be read`);
    const dtype: DType | undefined = tensor.type === "float32" ? "f32" : tensor.type === "float16" ? "f16" : undefined;
    if (dtype === undefined) throw new KvzUnsupportedError(`Cannot run model: its ${what} are ${tensor.type}`);
    return data instanceof Float32Array
      ? data
      : toFloat32(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), dtype);
  }

  async #readLogits(tensor: OnnxTensor, wanted: "all" | "last", n: number): Promise<Float32Array> {
    const logits = await this.#readFloats(tensor, "logits");
    const rows = logits.length / this.vocabulary;
    if (rows !== n && rows !== 1) {
      throw new KvzFormatError(
        `Cannot run model: it gave ${logits.length} logits for ${n} tokens, expected ${this.vocabulary} for each`,
      );
    }
    return wanted === "last" && rows > 1 ? logits.slice((n - 1) * this.vocabulary) : logits;
  }
}

/** Output of the capture graph. */
const HIDDEN = "final_hidden";

const KNOWN_INPUTS = new Set([
  "input_ids",
  "attention_mask",
  "position_ids",
  "num_logits_to_keep",
  "attention_bias",
  "layer_source",
]);

function pastType(session: OnnxSession): "float32" | "float16" {
  for (const entry of session.inputMetadata ?? []) {
    const { name, type } = entry as { name?: string; type?: string };
    if (name === "past_key_values.0.key") return type === "float16" ? "float16" : "float32";
  }
  return "float32";
}
