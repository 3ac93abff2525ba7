/**
 * The joint transform of keys and values with an integer way back: a basis of 7-bit integers times integer levels is
 * exact, so that every build and thread restores the same bits, at four times the rate of float32.
 *
 *     coefficient = Σ (x − µ) · forward        (float32, keys before RoPE)
 *     x̂ = (Σ basis · level) · (scale of the feature · scale of the token) + µ, RoPE redone
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../../backend/backend.ts";
import { IntegerKernels } from "../../backend/wasm/integer_kernels.ts";
import { rotationTable } from "../../cache/rope.ts";
import { BYTES_PER_ELEMENT, type DType, type Kind, KINDS } from "../../cache/types.ts";
import { hostBuild } from "../../backend/host.ts";
import type { ChunkContext } from "../stage.ts";
import {
  dimOf,
  featureRange,
  type IntegerBasis,
  type IntegerGeometry,
  type Levels,
  MAX_COMPONENTS,
  requireLevels,
} from "./integer_basis.ts";
import { ForwardTransform } from "./integer_forward.ts";
import { reconstructReference } from "./integer_reference.ts";

const DTYPE_CODE: Record<DType, number> = { f32: 0, f16: 1, bf16: 2 };

/**
 * Opens the transform. On a WASM backend the integer kernels are of the same build; the reference backend reconstructs
 * in plain TypeScript.
 *
 * @throws {KvzBackendError} when the kernels cannot be had.
 * @throws {RangeError} when basis and geometry do not fit together.
 */
export async function openIntegerTransform(
  backend: Backend,
  geometry: IntegerGeometry,
  basis: IntegerBasis,
): Promise<IntegerTransform> {
  const build = hostBuild(backend, "integer product");
  const kernels = build === null ? null : await IntegerKernels.open(build);
  return new IntegerTransform(backend, kernels, geometry, basis);
}

/** Features restored at once: with 512 tokens half a megabyte of rows, which a second-level cache holds. */
const FEATURES_AT_ONCE = 256;

/** Levels in the kernels' memory as packLevels leaves them. */
interface PackedLevels {
  readonly planes: readonly [low: number, high: number, lowRuns: number, highRuns: number, sums: number];
  /** A quarter of the components. */
  readonly depth: number;
  /** Tokens, padded. */
  readonly padded: number;
  readonly scales: number;
}

/** The transform stage of one lane. */
export class IntegerTransform implements Disposable {
  readonly name = "joint transform";
  readonly #backend: Backend;
  readonly #kernels: IntegerKernels | null;
  readonly #geometry: IntegerGeometry;
  readonly #components: number;
  readonly #features: number;
  /** Kept for the reference only. */
  readonly #basis: IntegerBasis | null;
  readonly #forward: ForwardTransform | null;
  /** Addresses in the kernels' memory. */
  readonly #tiles: number = 0;
  readonly #scales: number = 0;
  readonly #mean: number = 0;

  /** @ignore use {@linkcode openIntegerTransform} */
  constructor(backend: Backend, kernels: IntegerKernels | null, geometry: IntegerGeometry, basis: IntegerBasis) {
    const { components, features } = basis;
    requireFit(geometry, basis);
    this.#backend = backend;
    this.#kernels = kernels;
    this.#geometry = geometry;
    this.#components = components;
    this.#features = features;
    this.#basis = kernels === null ? basis : null;
    this.#forward = basis.forward ? new ForwardTransform(backend, geometry, basis, basis.forward) : null;
    if (kernels === null) return;
    // Whole tiles of 16 features, so that every one can be read and scaled.
    const padded = Math.ceil(features / 16) * 16;
    this.#tiles = kernels.alloc(padded * Math.ceil(components / 4) * 4);
    this.#scales = kernels.alloc(padded * 4);
    this.#mean = kernels.alloc(padded * 4);
    kernels.scoped((alloc) => {
      const source = alloc(basis.basis.byteLength);
      kernels.write(source, basis.basis);
      kernels.exports.packBasis(source, components, features, this.#tiles);
    });
    kernels.bytes(this.#scales, padded * 4).fill(0);
    kernels.write(this.#scales, basis.scales);
    kernels.write(this.#mean, basis.mean);
  }

  /**
   * Coefficients of a chunk, float32 [tokens][components].
   *
   * @param sources elements [layers][heads][tokens][dim] of keys and of values, of the host or the backend
   * @param components the leading ones that are wanted, by default all
   * @throws {TypeError} when the basis came without its forward matrix
   */
  async encode(
    sources: Readonly<Record<Kind, Uint8Array | DeviceBuffer>>,
    ctx: ChunkContext,
    components: number = this.#components,
  ): Promise<Float32Array> {
    if (this.#forward === null) throw new TypeError("Cannot encode: the basis has no forward matrix");
    const { gain } = this.#forward;
    const out = new Float32Array(ctx.tokens * components);
    for (const kind of KINDS) {
      const { buffer, stride } = this.#forward.encode(kind, sources[kind], ctx, components);
      const bytes = await this.#backend.read(buffer, 0, ctx.tokens * stride * 4);
      const values = new Float32Array(bytes.buffer, bytes.byteOffset, ctx.tokens * stride);
      for (let t = 0; t < ctx.tokens; t++) {
        for (let c = 0; c < components; c++) out[t * components + c] += gain * values[t * stride + c];
      }
    }
    return out;
  }

  /**
   * Restores layers [layerBegin, layerEnd) of a kind: elements [layers][heads][tokens][dim], the same bits everywhere.
   * Levels are of the leading components or of all.
   *
   * @throws {KvzFormatError} when levels are so large that a sum could leave 32 bits
   */
  decode(levels: Levels, ctx: ChunkContext, kind: Kind): Uint8Array {
    return this.decodeKinds(levels, ctx, [kind])[0];
  }

  /**
   * {@linkcode decode} of several kinds, for which levels are packed once.
   *
   * @throws what {@linkcode decode} throws
   */
  decodeKinds(levels: Levels, ctx: ChunkContext, kinds: readonly Kind[]): Uint8Array[] {
    const { tokens } = ctx;
    const components = requireLevels(levels, this.#components, tokens);
    const kernels = this.#kernels;
    if (kernels === null) {
      return kinds.map((kind) => reconstructReference(this.#basis!, this.#geometry, levels, ctx, kind));
    }
    const { exports } = kernels;
    const step = exports.tokensAtOnce();
    const padded = Math.ceil(tokens / step) * step;
    const depth = (components + 3) >> 2;
    return kernels.scoped((alloc) => {
      const source = alloc(levels.levels.byteLength);
      // Two bytes a level: either planes of one byte, or 16-bit levels that run over both.
      const low = alloc(padded * depth * 8);
      const high = low + padded * depth * 4;
      // Depth and an end, two bytes each, for every tile of tokens.
      const lowRuns = alloc(padded / step * (depth + 1) * 2);
      const highRuns = alloc(padded / step * (depth + 1) * 2);
      const sums = alloc(padded * 4);
      const scales = alloc(tokens * 4);
      kernels.write(source, levels.levels);
      kernels.write(scales, levels.scales);
      const planes = [low, high, lowRuns, highRuns, sums] as const;
      exports.packLevels(source, components, tokens, ...planes);
      return kinds.map((kind) => this.#restore(kernels, ctx, kind, { planes, depth, padded, scales }));
    });
  }

  [Symbol.dispose](): void {
    this.#forward?.[Symbol.dispose]();
    if (this.#kernels === null) return;
    for (const address of [this.#tiles, this.#scales, this.#mean]) this.#kernels.free(address);
  }

  #restore(
    kernels: IntegerKernels,
    { tokens, positions, layerBegin, layerEnd }: ChunkContext,
    kind: Kind,
    { planes, depth, padded, scales }: PackedLevels,
  ): Uint8Array {
    const { rope, dtype, heads } = this.#geometry;
    const { exports } = kernels;
    const dim = dimOf(this.#geometry, kind);
    const layersAtOnce = Math.max(1, Math.floor(FEATURES_AT_ONCE / (heads * dim)));
    // A tile more on both sides, where layers do not begin with one.
    const widest = Math.min(layersAtOnce, layerEnd - layerBegin) * heads * dim + 32;
    const tileDepth = (this.#components + 3) >> 2;
    const layerBytes = heads * dim * tokens * BYTES_PER_ELEMENT[dtype];
    const bytes = (layerEnd - layerBegin) * layerBytes;
    return kernels.scoped((alloc) => {
      const rows = alloc(padded * widest * 4);
      const out = alloc(bytes);
      const turns = kind === "key" && rope !== null ? rotationTable(rope, positions, "redo") : null;
      const rotation = turns === null ? 0 : alloc(turns.byteLength);
      if (turns !== null) kernels.write(rotation, turns);
      for (let layer = layerBegin; layer < layerEnd; layer += layersAtOnce) {
        const last = Math.min(layer + layersAtOnce, layerEnd);
        const [begin, end] = featureRange(this.#geometry, kind, layer, last);
        const [firstBlock, lastBlock] = [begin >> 4, (end + 15) >> 4];
        const stride = (lastBlock - firstBlock) * 16;
        exports.multiply(this.#tiles, tileDepth, depth, ...planes, padded, firstBlock, lastBlock, rows, stride);
        exports.scaleRows(rows, tokens, stride, this.#scales + firstBlock * 64, scales);
        exports.scatter(
          rows + (begin - firstBlock * 16) * 4,
          stride,
          DTYPE_CODE[dtype],
          (last - layer) * heads,
          tokens,
          dim,
          turns === null ? 0 : rope!.dim,
          rotation,
          this.#mean + begin * 4,
          out + (layer - layerBegin) * layerBytes,
        );
      }
      return kernels.bytes(out, bytes).slice();
    });
  }
}

/**
 * Checks that a basis and a cache fit together.
 *
 * @throws {RangeError} when they do not.
 */
export function requireFit(
  geometry: IntegerGeometry,
  { components, features, basis, scales, mean, forward }: IntegerBasis,
): void {
  const { layers, heads, keyDim, valueDim } = geometry;
  if (features !== layers * heads * (keyDim + valueDim)) {
    throw new RangeError(
      `Cannot open transform: its basis has ${features} features, the cache ${layers * heads * (keyDim + valueDim)}`,
    );
  }
  if (!(Number.isInteger(components) && components >= 0 && components <= MAX_COMPONENTS)) {
    throw new RangeError(`Cannot open transform: it has ${components} components, expected 0 to ${MAX_COMPONENTS}`);
  }
  const length = components * features;
  const wrong = basis.length !== length || (forward !== undefined && forward.length !== length) ||
    scales.length !== features || mean.length !== features;
  if (wrong) throw new RangeError("Cannot open transform: the lengths of basis, scales and mean do not fit");
}
