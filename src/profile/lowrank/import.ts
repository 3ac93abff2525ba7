/**
 * Artefacts of tools/recalkv.py (.safetensors) as profiles.
 *
 * @module
 */
import { readSafetensorsHeader, type TensorInfo } from "../../adapters/safetensors_file.ts";
import { parseRopeMetadata } from "../../adapters/safetensors_rope.ts";
import { type Kind, KINDS, type ModelSpec } from "../../cache/types.ts";
import type { ByteSource } from "../../container/bytes.ts";
import type { JsonValue } from "../../container/canonical_json.ts";
import { Fields } from "../../container/fields.ts";
import { KvzFormatError } from "../../errors.ts";
import { shingleHashes } from "../shingles.ts";
import { type GroupShape, lowRankFingerprint, parseFit, parseShapes, requireFactors } from "./format.ts";
import type { LatentMap, LowRankMethod, LowRankProfile } from "./types.ts";

const WHAT = "artefact";
const MAX_HEADS = 1 << 16;

/**
 * Reads an artefact of Palu or ReCalKV.
 *
 * @throws {KvzFormatError} It is none, or lacks something; the message names it.
 */
export async function importLowRank(source: ByteSource): Promise<LowRankProfile<"palu"> | LowRankProfile<"recalkv">> {
  const { tensors, metadata } = await readSafetensorsHeader(source);
  const fields = new Fields(metadata, WHAT);
  const method = fields.oneOf<LowRankMethod>("method", ["palu", "recalkv"]);
  const groups = parseJson(fields.string("groups", 1 << 26));
  const model = readModel(fields, groups);
  const shapes = parseShapes(groups, model, WHAT);
  const hadamard = fields.string("hadamard");
  const fit = parseFit(
    new Fields({
      removed: Number(fields.string("removed")),
      ranks: fields.string("ranks"),
      rows: fields.string("rows"),
      hadamard: hadamard !== "none",
    }, WHAT),
  );
  const reader = new TensorReader(source, tensors);
  const layers: { key: LatentMap; value: LatentMap }[] = [];
  for (const [n, shape] of shapes.entries()) {
    const [key, value] = [
      await readMap(reader, model, n, "key", shape.key),
      await readMap(reader, model, n, "value", shape.value),
    ];
    layers.push({ key, value });
  }
  for (const kind of KINDS) {
    if (new Set(layers.map((layer) => layer[kind].bias === null)).size > 1) {
      throw new KvzFormatError(`Cannot read ${WHAT}: some layers have a ${kind} bias, others have none`);
    }
  }
  const ids = await reader.ids();
  const common = {
    model,
    fingerprint: await lowRankFingerprint(method, model, layers),
    calibration: {
      tokens: ids.reduce((sum, sequence) => sum + sequence.length, 0),
      sinks: 0,
      sequences: ids.length,
      seed: hadamard === "none" ? 0 : Number(hadamard) >>> 0,
    },
    fit,
    layers,
    shingles: sortedHashes(ids),
  };
  return method === "palu" ? { method, ...common } : { method, ...common };
}

function readModel(fields: Fields, groups: JsonValue): ModelSpec {
  const dim = whole(fields, "dim");
  const { rope } = parseRopeMetadata(fields.string("rope"), dim);
  if (!Array.isArray(groups) || groups.length === 0) throw fields.fault("groups", "an array with an entry a layer");
  return {
    architecture: fields.string("architecture"),
    id: fields.string("model"),
    layers: groups.length,
    kvHeads: whole(fields, "kv_heads"),
    keyDim: dim,
    valueDim: dim,
    rope,
  };
}

/** A whole number that stands in the metadata as text. */
function whole(fields: Fields, name: string): number {
  const value = Number(fields.string(name));
  if (!Number.isInteger(value) || value < 1 || value > MAX_HEADS) throw fields.fault(name, "a whole number");
  return value;
}

function parseJson(text: string): JsonValue {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new KvzFormatError(`Cannot read ${WHAT}: its groups are not JSON`, { cause });
  }
}

async function readMap(
  reader: TensorReader,
  model: ModelSpec,
  layer: number,
  kind: Kind,
  shapes: readonly GroupShape[],
): Promise<LatentMap> {
  const dim = kind === "key" ? model.keyDim : model.valueDim;
  const name = `layers.${layer}.${kind}`;
  const groups = [];
  for (const [g, { heads, rank }] of shapes.entries()) {
    const width = heads.length * dim;
    groups.push({
      heads,
      rank,
      decoder: new Uint16Array(await reader.read(`${name}.decoder.${g}`, "F16", [width, rank])),
      projector: new Float32Array(await reader.read(`${name}.projector.${g}`, "F32", [rank, width])),
    });
  }
  const bias = reader.has(`${name}.bias`)
    ? new Float32Array(await reader.read(`${name}.bias`, "F32", [model.kvHeads * dim]))
    : null;
  const map = { groups, bias };
  requireFactors(map, WHAT, kind, layer);
  return map;
}

class TensorReader {
  readonly #source: ByteSource;
  readonly #tensors: ReadonlyMap<string, TensorInfo>;

  constructor(source: ByteSource, tensors: ReadonlyMap<string, TensorInfo>) {
    this.#source = source;
    this.#tensors = tensors;
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  /** The bytes of a tensor of the wanted type and shape. */
  async read(name: string, dtype: string, shape: readonly number[]): Promise<ArrayBuffer> {
    const info = this.#tensors.get(name);
    const found = info === undefined ? "nothing" : `${info.dtype} [${info.shape}]`;
    if (info === undefined || found !== `${dtype} [${shape}]`) {
      throw new KvzFormatError(`Cannot read ${WHAT}: ${name} is ${found}, expected ${dtype} [${shape}]`);
    }
    return (await this.#source.read(info.begin, info.end - info.begin)).slice().buffer;
  }

  /** Token ids of the calibration's sequences. */
  async ids(): Promise<Int32Array[]> {
    const info = this.#tensors.get("input_ids");
    if (info === undefined || info.shape.length !== 2) {
      throw new KvzFormatError(`Cannot read ${WHAT}: it has no input_ids [sequences, tokens]`);
    }
    const [sequences, tokens] = info.shape;
    const all = new Int32Array(await this.read("input_ids", "I32", info.shape));
    return Array.from({ length: sequences }, (_, n) => all.subarray(n * tokens, (n + 1) * tokens));
  }
}

function sortedHashes(sequences: readonly Int32Array[]): BigUint64Array {
  const hashes = new Set(sequences.flatMap((ids) => Array.from(shingleHashes(ids))));
  return BigUint64Array.from(hashes).sort();
}
