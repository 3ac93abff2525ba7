/**
 * A chunk's coefficients ↔ its streams, with the parameters of a profile: prediction and trellis, escapes, rANS.
 *
 * @module
 */
import type { Backend } from "../../../backend/backend.ts";
import type { RansTables } from "../../entropy/rans_tables.ts";
import { type ChunkStreams, openTrellisEngine, packCode, type TrellisEngine, unpackCode } from "./engine.ts";
import { type StepSet, tableBits, tableLimits, type TrellisModel, trellisModel } from "./model.ts";
import type { TrellisCode } from "./reference.ts";
import { stepOf } from "./step.ts";

export type { ChunkStreams } from "./engine.ts";

/** Codes the chunks of one lane, each of the leading components or all. */
export interface ChunkCoder extends Disposable {
  /**
   * Codes coefficients y [components][tokens] in sixteenths of the step `s`, after the tokens of `before` where the chunk has
   * some already.
   */
  encode(
    y: Int32Array,
    s: number,
    components: number,
    tokens: number,
    lambda: number,
    before: TrellisCode | null,
  ): Promise<ChunkStreams>;

  /**
   * Coefficients in quarters of the step, [components][tokens].
   *
   * @throws {KvzFormatError} when the streams are not what an encoder makes
   */
  decode(streams: ChunkStreams, tokens: number): Promise<{ readonly s: number; readonly quarters: Int16Array }>;

  /**
   * The same with all that a chunk needs to be gone on with.
   *
   * @throws what {@linkcode decode} throws
   */
  decodeLevels(streams: ChunkStreams, tokens: number): Promise<TrellisCode>;

  /** What a quarter of the step is worth, for every token. */
  scales(s: number, tokens: number): Float32Array;
}

/**
 * Opens a coder: on a GPU that has the kernels, otherwise on the backend's build of WebAssembly, the reference on the
 * reference backend.
 *
 * @param components the most that a chunk has, those of the step sets
 */
export async function openLevelCoder(
  backend: Backend,
  components: number,
  stepSets: readonly StepSet[],
  tables: RansTables,
): Promise<ChunkCoder> {
  const openHost = () => openHostLevelCoder(backend, components, stepSets, tables);
  const trellis = backend.gpu?.trellis ?? null;
  if (trellis === null) return await openHost();
  const { GpuLevelCoder } = await import("./gpu_level_coder.ts");
  return new GpuLevelCoder(backend, trellis, components, stepSets, tables, openHost);
}

/** Opens the coder of the host that serves a backend. */
export async function openHostLevelCoder(
  backend: Backend,
  components: number,
  stepSets: readonly StepSet[],
  tables: RansTables,
): Promise<ChunkCoder> {
  return new LevelCoder(components, stepSets, tables, await openTrellisEngine(backend, tables));
}

/** The coder of the host. */
export class LevelCoder implements ChunkCoder {
  readonly #components: number;
  readonly #stepSets: readonly StepSet[];
  readonly #costs: { readonly bits: Uint16Array; readonly limits: Uint8Array };
  readonly #engine: TrellisEngine;

  /**
   * @ignore use {@linkcode openLevelCoder}
   * @param components the most that a chunk has
   */
  constructor(components: number, stepSets: readonly StepSet[], tables: RansTables, engine: TrellisEngine) {
    this.#components = components;
    this.#stepSets = stepSets;
    this.#costs = { bits: tableBits(tables), limits: tableLimits(tables) };
    this.#engine = engine;
  }

  async encode(
    y: Int32Array,
    s: number,
    components: number,
    tokens: number,
    lambda: number,
    before: TrellisCode | null,
  ): Promise<ChunkStreams> {
    const model = this.#model(s, components);
    return await packCode(this.#engine, model, this.#engine.encode(model, y, tokens, lambda, before));
  }

  async decode(streams: ChunkStreams, tokens: number): Promise<{ readonly s: number; readonly quarters: Int16Array }> {
    const { s, reconstruction } = await this.decodeLevels(streams, tokens);
    return { s, quarters: reconstruction };
  }

  async decodeLevels(streams: ChunkStreams, tokens: number): Promise<TrellisCode> {
    return await unpackCode(this.#engine, this.#components, this.#model, streams, tokens);
  }

  scales(s: number, tokens: number): Float32Array {
    return new Float32Array(tokens).fill(stepOf(s) / 4);
  }

  [Symbol.dispose](): void {
    this.#engine.rans.free?.();
  }

  readonly #model = (s: number, components: number): TrellisModel =>
    trellisModel(this.#stepSets, s, this.#costs, components);
}
