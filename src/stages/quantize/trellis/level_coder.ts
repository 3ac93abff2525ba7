/**
 * A chunk's coefficients ↔ its streams: prediction and trellis, escapes, rANS.
 *
 * @module
 */
import type { Backend } from "../../../backend/backend.ts";
import { EntropyKernels } from "../../../backend/wasm/entropy_kernels.ts";
import { TrellisKernels } from "../../../backend/wasm/trellis_kernels.ts";
import { type EscapedLevels, escapeLevels, unescapeLevels } from "../../entropy/escapes.ts";
import { WasmRans } from "../../entropy/rans.ts";
import type { RansContexts } from "../../entropy/rans_contexts.ts";
import { isWasmBuild } from "../../entropy/rans_factory.ts";
import { escapeLevelsOn, unescapeLevelsOn } from "../../entropy/rans_levels.ts";
import { ReferenceRans } from "../../entropy/rans_reference.ts";
import type { Rans } from "../../entropy/rans_stream.ts";
import type { RansTables } from "../../entropy/rans_tables.ts";
import { type StepSet, tableBits, tableLimits, trellisContexts, type TrellisModel, trellisModel } from "./model.ts";
import { decodeTrellisReference, encodeTrellisReference, type TrellisCode } from "./reference.ts";
import { decodeSide, encodeSide, type TrellisSide } from "./side.ts";
import { stepOf } from "./step.ts";
import { decodeTrellis, encodeTrellis } from "./trellis.ts";

/** Streams of a chunk before DEFLATE. */
export interface ChunkStreams {
  /** Side information (side.ts). */
  readonly side: Uint8Array;
  /** rANS stream of the symbols. */
  readonly symbols: Uint8Array;
  /** Escapes of the symbols. */
  readonly escapes: Uint8Array;
}

/** What runs the loops: kernels of a build, or the reference. */
interface Engine {
  encode: (
    model: TrellisModel,
    y: Int32Array,
    tokens: number,
    lambda: number,
    prefix: TrellisCode | null,
  ) => TrellisCode;
  decode: (model: TrellisModel, levels: Int32Array, side: TrellisSide, tokens: number) => Int16Array;
  escape: (levels: Int32Array, rows: number, tokens: number, contexts: RansContexts) => EscapedLevels;
  unescape: (coded: EscapedLevels, rows: number, tokens: number, contexts: RansContexts) => Int32Array;
  readonly rans: Rans & { free?(): void };
}

/** Opens a coder on the backend's build of the kernels, the reference on the reference backend. */
export async function openLevelCoder(
  backend: Backend,
  components: number,
  stepSets: readonly StepSet[],
  tables: RansTables,
): Promise<LevelCoder> {
  const limits = tableLimits(tables);
  const { build } = backend;
  if (!isWasmBuild(build)) {
    return new LevelCoder(components, stepSets, tables, {
      encode: encodeTrellisReference,
      decode: decodeTrellisReference,
      escape: (levels, rows, tokens, contexts) => escapeLevels(levels, rows, tokens, contexts, limits),
      unescape: ({ symbols, escapes }, rows, tokens, contexts) =>
        unescapeLevels(symbols, escapes, rows, tokens, contexts, limits),
      rans: new ReferenceRans(tables),
    });
  }
  const [trellis, entropy] = await Promise.all([TrellisKernels.open(build), EntropyKernels.open(build)]);
  return new LevelCoder(components, stepSets, tables, {
    encode: (...args) => encodeTrellis(trellis, ...args),
    decode: (...args) => decodeTrellis(trellis, ...args),
    escape: (levels, rows, tokens, contexts) => escapeLevelsOn(entropy, levels, rows, tokens, contexts, limits),
    unescape: ({ symbols, escapes }, rows, tokens, contexts) =>
      unescapeLevelsOn(entropy, symbols, escapes, rows, tokens, contexts, limits),
    rans: new WasmRans(entropy, tables),
  });
}

/** Codes the chunks of one lane. */
export class LevelCoder implements Disposable {
  readonly #components: number;
  readonly #stepSets: readonly StepSet[];
  readonly #costs: { readonly bits: Uint16Array; readonly limits: Uint8Array };
  readonly #engine: Engine;

  /** @ignore use {@linkcode openLevelCoder} */
  constructor(components: number, stepSets: readonly StepSet[], tables: RansTables, engine: Engine) {
    this.#components = components;
    this.#stepSets = stepSets;
    this.#costs = { bits: tableBits(tables), limits: tableLimits(tables) };
    this.#engine = engine;
  }

  /**
   * Codes coefficients y [components][tokens] in sixteenths of the step `s`, after the tokens of `before` where the chunk has
   * some already.
   */
  encode(y: Int32Array, s: number, tokens: number, lambda: number, before: TrellisCode | null): ChunkStreams {
    const model = this.#model(s);
    const code = this.#engine.encode(model, y, tokens, lambda, before);
    const all = code.refs.length;
    const contexts = trellisContexts(model, code);
    const { symbols, escapes } = this.#engine.escape(code.levels, this.#components, all, contexts);
    return {
      side: encodeSide(code),
      symbols: this.#engine.rans.encode(symbols, this.#components, all, contexts),
      escapes,
    };
  }

  /**
   * Coefficients in quarters of the step, [components][tokens].
   *
   * @throws {KvzFormatError} when the streams are not what an encoder makes
   */
  decode(streams: ChunkStreams, tokens: number): { readonly s: number; readonly quarters: Int16Array } {
    const { s, reconstruction } = this.decodeLevels(streams, tokens);
    return { s, quarters: reconstruction };
  }

  /**
   * The same with all that a chunk needs to be gone on with.
   *
   * @throws what {@linkcode decode} throws
   */
  decodeLevels({ side: bytes, symbols, escapes }: ChunkStreams, tokens: number): TrellisCode {
    const side = decodeSide(bytes, tokens, this.#components);
    const model = this.#model(side.s);
    const contexts = trellisContexts(model, side);
    const coded = { symbols: this.#engine.rans.decode(symbols, this.#components, tokens, contexts), escapes };
    const levels = this.#engine.unescape(coded, this.#components, tokens, contexts);
    return { ...side, levels, reconstruction: this.#engine.decode(model, levels, side, tokens) };
  }

  /** What a quarter of the step is worth, for every token. */
  scales(s: number, tokens: number): Float32Array {
    return new Float32Array(tokens).fill(stepOf(s) / 4);
  }

  [Symbol.dispose](): void {
    this.#engine.rans.free?.();
  }

  #model(s: number): TrellisModel {
    return trellisModel(this.#stepSets, s, this.#costs);
  }
}
