/**
 * What runs the trellis coder's loops, and a chunk's way through them: levels, escapes, rANS.
 *
 * @module
 */
import type { Backend } from "../../../backend/backend.ts";
import { EntropyKernels } from "../../../backend/wasm/entropy_kernels.ts";
import { TrellisKernels } from "../../../backend/wasm/trellis_kernels.ts";
import { type EscapedLevels, escapeLevels, unescapeLevels } from "../../entropy/escapes.ts";
import { WasmRans } from "../../entropy/rans.ts";
import type { RansContexts } from "../../entropy/rans_contexts.ts";
import { hostBuild } from "../../../backend/host.ts";
import { escapeLevelsOn, unescapeLevelsOn } from "../../entropy/rans_levels.ts";
import { ReferenceRans } from "../../entropy/rans_reference.ts";
import type { HostRans } from "../../entropy/rans_stream.ts";
import type { RansTables } from "../../entropy/rans_tables.ts";
import { tableLimits, trellisContexts, type TrellisModel } from "./model.ts";
import { type CodedPrefix, decodeTrellisReference, encodeTrellisReference, type TrellisCode } from "./reference.ts";
import { decodeSide, encodeSide, sideComponents, type TrellisSide } from "./side.ts";
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

/** The loops, by kernels of a build or by the reference. */
export interface TrellisEngine {
  encode: (
    model: TrellisModel,
    y: Int32Array,
    tokens: number,
    lambda: number,
    prefix: CodedPrefix | null,
  ) => TrellisCode;
  decode: (model: TrellisModel, levels: Int32Array, side: TrellisSide, tokens: number) => Int16Array;
  escape: (levels: Int32Array, rows: number, tokens: number, contexts: RansContexts) => EscapedLevels;
  unescape: (coded: EscapedLevels, rows: number, tokens: number, contexts: RansContexts) => Int32Array;
  readonly rans: HostRans & { free?(): void };
}

/** The loops on the backend's build of the kernels, the reference on the reference backend. */
export async function openTrellisEngine(backend: Backend, tables: RansTables): Promise<TrellisEngine> {
  const limits = tableLimits(tables);
  const build = hostBuild(backend, "trellis");
  if (build === null) {
    return {
      encode: encodeTrellisReference,
      decode: decodeTrellisReference,
      escape: (levels, rows, tokens, contexts) => escapeLevels(levels, rows, tokens, contexts, limits),
      unescape: ({ symbols, escapes }, rows, tokens, contexts) =>
        unescapeLevels(symbols, escapes, rows, tokens, contexts, limits),
      rans: new ReferenceRans(tables),
    };
  }
  const [trellis, entropy] = await Promise.all([TrellisKernels.open(build), EntropyKernels.open(build)]);
  return {
    encode: (...args) => encodeTrellis(trellis, ...args),
    decode: (...args) => decodeTrellis(trellis, ...args),
    escape: (levels, rows, tokens, contexts) => escapeLevelsOn(entropy, levels, rows, tokens, contexts, limits),
    unescape: ({ symbols, escapes }, rows, tokens, contexts) =>
      unescapeLevelsOn(entropy, symbols, escapes, rows, tokens, contexts, limits),
    rans: new WasmRans(entropy, tables),
  };
}

/** Streams of coded levels. */
export function packCode(engine: TrellisEngine, model: TrellisModel, code: TrellisCode): ChunkStreams {
  const { components } = model;
  const tokens = code.refs.length;
  const contexts = trellisContexts(model, code);
  const { symbols, escapes } = engine.escape(code.levels, components, tokens, contexts);
  return { side: encodeSide(code), symbols: engine.rans.encode(symbols, components, tokens, contexts), escapes };
}

/**
 * Inverse of {@linkcode packCode}.
 *
 * @param most components of the file, of which a chunk may have fewer
 * @param modelAt the model of the step that the side information names
 * @throws {KvzFormatError} when the streams are not what an encoder makes
 */
export function unpackCode(
  engine: TrellisEngine,
  most: number,
  modelAt: (s: number, components: number) => TrellisModel,
  { side: bytes, symbols, escapes }: ChunkStreams,
  tokens: number,
): TrellisCode {
  const components = sideComponents(bytes.length, tokens, most);
  const side = decodeSide(bytes, tokens, components);
  const model = modelAt(side.s, components);
  const contexts = trellisContexts(model, side);
  const coded = { symbols: engine.rans.decode(symbols, components, tokens, contexts), escapes };
  const levels = engine.unescape(coded, components, tokens, contexts);
  return { ...side, levels, reconstruction: engine.decode(model, levels, side, tokens) };
}
