/**
 * Attention on a cache that stays coded: a file of recipe kvcomp is opened once, then products with queries and with
 * weights are computed straight from its Huffman codes, on a GPU or in WebAssembly.
 *
 * @module
 */
import type { Backend } from "../backend/backend.ts";
import { type BackendOptions, createBackend } from "../backend/select.ts";
import { HuffmanKernels, WasmCodedTensor } from "../backend/wasm/huffman_kernels.ts";
import { toFloat32 } from "../cache/elements.ts";
import { type Kind, KINDS, type ModelSpec } from "../cache/types.ts";
import { KvzFormatError, KvzMismatchError } from "../errors.ts";
import { kvcomp, KVCOMP_TAGS } from "../recipes/kvcomp.ts";
import { kvCompShapes, parseStreams } from "../recipes/kvcomp_codec.ts";
import { decodeStream } from "../stages/entropy/deflate.ts";
import { type OpenTensor, ReferenceCodedTensor } from "../stages/entropy/huffman_dots.ts";
import { GpuCodedTensor } from "../stages/entropy/huffman_gpu.ts";
import { hostBuild } from "../backend/host.ts";
import { ChunkProducts } from "../stages/kvcomp/products.ts";
import { rawTokenBytes } from "../stages/kvcomp/shape.ts";
import { openFile, readGroup, requireRecord } from "./groups.ts";
import { DEFAULT_MAX_BYTES, type KvzInput } from "./options.ts";
import { FILE_CHUNK, regionOf, TAG_PLAN } from "./regions.ts";

/** A run of tokens of one kind: coded ones, then raw ones. */
interface Piece {
  readonly begin: number;
  /** null where none of the tokens is coded. */
  readonly products: ChunkProducts | null;
  readonly coded: number;
  /** Raw tokens, [layers][heads][tokens][dim]. */
  readonly raw: Float32Array;
  readonly rawTokens: number;
}

/**
 * A cache that stays coded.
 *
 * @example
 * ```ts ignore
 * using cache = await CodedAttention.open(bytes, { backend: "auto" });
 * const scores = await cache.scores(layer, queries); // [query heads][tokens]: K·q
 * const sums = await cache.mix(layer, softmax(scores)); // [query heads][valueDim]: Vᵀ·p
 * ```
 */
export class CodedAttention implements Disposable {
  /** The model of the cache. */
  readonly model: ModelSpec;
  /** Tokens of the cache. */
  readonly tokens: number;
  /** Backend in use. */
  readonly backend: string;
  readonly #backend: Backend;
  readonly #pieces: Readonly<Record<Kind, readonly Piece[]>>;

  private constructor(
    model: ModelSpec,
    tokens: number,
    backend: Backend,
    pieces: Readonly<Record<Kind, readonly Piece[]>>,
  ) {
    this.model = model;
    this.tokens = tokens;
    this.backend = backend.name;
    this.#backend = backend;
    this.#pieces = pieces;
  }

  /**
   * Opens a file of recipe kvcomp.
   *
   * @param options backend as for a codec; the codes stay in its memory
   * @throws {KvzMismatchError} The file is of another recipe.
   * @throws {KvzFormatError} The file is damaged.
   */
  static async open(input: KvzInput, options: BackendOptions = {}): Promise<CodedAttention> {
    const file = await openFile(input);
    const { recipe: { name, version }, model, dtype } = file.header;
    if (name !== kvcomp.name || version !== kvcomp.version) {
      throw new KvzMismatchError(
        `Cannot multiply with a coded cache: the file is of recipe ${name} ${version}, expected ${kvcomp.name} ` +
          `${kvcomp.version}`,
      );
    }
    const plan = requireRecord(await readGroup(file, file.groups[0]), TAG_PLAN);
    const planBytes = await decodeStream(plan, 3, "plan");
    const shapes = kvCompShapes(model, dtype, planBytes);
    const backend = await createBackend(options);
    const pieces: Record<Kind, Piece[]> = { key: [], value: [] };
    try {
      const openTensor = await tensorsOn(backend);
      let bytes = 0;
      for (const info of file.groups) {
        if (info.chunk === FILE_CHUNK) continue;
        const group = await readGroup(file, info);
        bytes += info.infos.reduce((sum, { storedLength }) => sum + storedLength, 0);
        if (bytes > DEFAULT_MAX_BYTES) throw new KvzFormatError("Cannot multiply with a coded cache: it is too large");
        for (const kind of KINDS) {
          const shape = shapes[kind];
          const { tokens, begin } = group;
          if (regionOf(info.chunk) === "chunk") {
            const chunk = await parseStreams(KVCOMP_TAGS[kind].map((tag) => requireRecord(group, tag)), shape, tokens);
            pieces[kind].push({
              begin,
              coded: chunk.coded,
              products: chunk.coded === 0 ? null : new ChunkProducts(chunk, shape, openTensor),
              raw: toFloat32(chunk.tail, dtype),
              rawTokens: tokens - chunk.coded,
            });
          } else {
            const tag = kvcomp.tags(regionOf(info.chunk), [kind])[0];
            const raw = await decodeStream(requireRecord(group, tag), tokens * rawTokenBytes(shape), `stream ${tag}`);
            pieces[kind].push({ begin, coded: 0, products: null, raw: toFloat32(raw, dtype), rawTokens: tokens });
          }
        }
      }
      return new CodedAttention(model, file.tokens, backend, pieces);
    } catch (error) {
      for (const kind of KINDS) for (const { products } of pieces[kind]) products?.[Symbol.dispose]();
      backend[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Products of all keys of a layer with queries, K·q, neither scaled nor masked.
   *
   * @param queries after RoPE, half-split, [query heads][keyDim]; query heads are a multiple of the KV heads
   * @returns [query heads][tokens]
   * @throws {RangeError} The layer or the number of queries does not fit.
   * @throws {KvzFormatError} The layer's codes are damaged.
   */
  async scores(layer: number, queries: Float32Array): Promise<Float32Array> {
    const { keyDim: dim, kvHeads } = this.model;
    const each = this.#perHead("queries", layer, queries.length, dim);
    const out = new Float32Array(kvHeads * each * this.tokens);
    for (const { begin, products, coded, raw, rawTokens } of this.#pieces.key) {
      const dots = products === null ? new Float32Array(0) : await products.scores(layer, queries);
      for (let row = 0; row < kvHeads * each; row++) {
        const to = row * this.tokens + begin;
        out.set(dots.subarray(row * coded, (row + 1) * coded), to);
        const from = (layer * kvHeads + Math.floor(row / each)) * rawTokens * dim;
        for (let t = 0; t < rawTokens; t++) {
          let sum = 0;
          for (let i = 0; i < dim; i++) sum += queries[row * dim + i] * raw[from + t * dim + i];
          out[to + coded + t] = sum;
        }
      }
    }
    return out;
  }

  /**
   * Weighted sums of all values of a layer, Vᵀ·p.
   *
   * @param weights [query heads][tokens]
   * @returns [query heads][valueDim]
   * @throws {RangeError} The layer or the number of weights does not fit.
   * @throws {KvzFormatError} The layer's codes are damaged.
   */
  async mix(layer: number, weights: Float32Array): Promise<Float32Array> {
    const { valueDim: dim, kvHeads } = this.model;
    const each = this.#perHead("weights", layer, weights.length, this.tokens);
    const out = new Float32Array(kvHeads * each * dim);
    for (const { begin, products, coded, raw, rawTokens } of this.#pieces.value) {
      if (products !== null) {
        const own = new Float32Array(kvHeads * each * coded);
        for (let row = 0; row < kvHeads * each; row++) {
          const from = row * this.tokens + begin;
          own.set(weights.subarray(from, from + coded), row * coded);
        }
        const sums = await products.mix(layer, own);
        for (let i = 0; i < out.length; i++) out[i] += sums[i];
      }
      for (let row = 0; row < kvHeads * each; row++) {
        const from = (layer * kvHeads + Math.floor(row / each)) * rawTokens * dim;
        for (let t = 0; t < rawTokens; t++) {
          const weight = weights[row * this.tokens + begin + coded + t];
          for (let i = 0; i < dim; i++) out[row * dim + i] += weight * raw[from + t * dim + i];
        }
      }
    }
    return out;
  }

  /** Queries of a KV head. */
  #perHead(what: string, layer: number, length: number, each: number): number {
    const { layers, kvHeads } = this.model;
    if (!(Number.isInteger(layer) && layer >= 0 && layer < layers)) {
      throw new RangeError(`Cannot multiply: layer ${layer} is outside ${layers} layers`);
    }
    const heads = length / each;
    if (each === 0) return 0;
    if (!(Number.isInteger(heads / kvHeads) && heads > 0)) {
      throw new RangeError(
        `Cannot multiply: there are ${length} ${what}, expected a multiple of ${kvHeads} KV heads × ${each}`,
      );
    }
    return heads / kvHeads;
  }

  /** Gives the codes' memory and the backend back. */
  [Symbol.dispose](): void {
    for (const kind of KINDS) for (const { products } of this.#pieces[kind]) products?.[Symbol.dispose]();
    this.#backend[Symbol.dispose]();
  }
}

/** Tensors where the backend has them: on a GPU, in WebAssembly, in plain TypeScript. */
async function tensorsOn(backend: Backend): Promise<OpenTensor> {
  const huffman = backend.gpu?.huffman ?? null;
  if (huffman !== null) return (...args) => new GpuCodedTensor(backend, huffman, ...args);
  const build = hostBuild(backend, "Huffman codes");
  if (build === null) return (...args) => new ReferenceCodedTensor(...args);
  const kernels = await HuffmanKernels.open(build);
  return (...args) => new WasmCodedTensor(kernels, ...args);
}
