/**
 * Profiles of recipes palu and recalkv as files (.kvzp, docs/format.md): the frame of every profile, with the records
 *
 * | tag | contents |
 * | --- | --- |
 * | `KDEC`, `VDEC` | decoders, binary16 [layers][groups][heads · dim][rank] |
 * | `KPRO`, `VPRO` | projectors, float32 [layers][groups][rank][heads · dim] |
 * | `KBIA`, `VBIA` | biases, float32 [layers][heads · dim], where the header says that there are |
 * | `SHNG` | shingle hashes, u64, ascending |
 *
 * @module
 */
import { type Kind, KINDS, type ModelSpec } from "../../cache/types.ts";
import type { ByteSink } from "../../container/bytes.ts";
import type { JsonValue } from "../../container/canonical_json.ts";
import { Fields } from "../../container/fields.ts";
import type { FrameReader } from "../../container/frame_reader.ts";
import { FrameWriter } from "../../container/frame_writer.ts";
import { modelToJson, parseModel } from "../../container/model_json.ts";
import { KvzFormatError } from "../../errors.ts";
import { joinDigests } from "../fingerprint.ts";
import { modelFingerprint } from "../../cache/fingerprint.ts";
import { readSection, requireKnownTags, writeSection } from "../sections.ts";
import { readTrainingFacts } from "../training_facts.ts";
import type { LatentGroup, LatentMap, LowRankFit, LowRankMethod, LowRankProfile } from "./types.ts";

const WHAT = "profile";
const PREFIX: Readonly<Record<Kind, string>> = { key: "K", value: "V" };
const TAGS = ["SHNG", "KDEC", "VDEC", "KPRO", "VPRO", "KBIA", "VBIA"];
const MAX_SHINGLES = 2 ** 31;

/** Heads and rank of a group, as headers and artefacts tell them. */
export type GroupShape = Pick<LatentGroup, "heads" | "rank">;

type Layers = LowRankProfile["layers"];

/** Writes a profile to a sink, front to back. */
export async function writeLowRankProfile(profile: LowRankProfile<LowRankMethod>, sink: ByteSink): Promise<void> {
  const { method, model, fingerprint, calibration, fit, layers, shingles } = profile;
  const writer = new FrameWriter(sink, "profile", {
    method,
    model: modelToJson(model),
    fingerprint,
    calibration: { ...calibration },
    fit: { ...fit },
    shingles: shingles.length,
    layers: layers.map((layer) => ({ key: shapesToJson(layer.key), value: shapesToJson(layer.value) })),
    biases: { key: layers[0].key.bias !== null, value: layers[0].value.bias !== null },
  });
  await writer.start();
  await writeSection(writer, "SHNG", shingles);
  for (const kind of KINDS) {
    const groups = layers.flatMap((layer) => layer[kind].groups);
    await writeSection(writer, `${PREFIX[kind]}DEC`, joined(groups.map(({ decoder }) => decoder)));
    await writeSection(writer, `${PREFIX[kind]}PRO`, joined(groups.map(({ projector }) => projector)));
    const biases = layers.flatMap((layer) => layer[kind].bias ?? []);
    await writeSection(writer, `${PREFIX[kind]}BIA`, joined(biases));
  }
  await writer.finish();
}

/**
 * Reads a profile whose header says method palu or recalkv. Every byte that is used has been checked.
 *
 * @throws {KvzFormatError} It is damaged, or holds impossible sizes or numbers.
 */
export async function readLowRankProfile<Method extends LowRankMethod>(
  reader: FrameReader,
  method: Method,
): Promise<LowRankProfile<Method>> {
  requireKnownTags(reader, WHAT, TAGS);
  const fields = new Fields(reader.header, WHAT);
  fields.oneOf("method", [method]);
  const model = parseModel(fields.value("model"), WHAT, "model");
  const fingerprint = fields.sha256("fingerprint");
  const facts = fields.fields("calibration");
  const calibration = readTrainingFacts(facts);
  facts.done();
  const fit = parseFit(fields.fields("fit"));
  const shingles = fields.integer("shingles", 0, MAX_SHINGLES);
  const shapes = parseShapes(fields.value("layers"), model, WHAT);
  const biases = fields.fields("biases");
  const biased = { key: biases.boolean("key"), value: biases.boolean("value") };
  biases.done();
  fields.done();
  const key = await readMaps(reader, model, "key", shapes.map((layer) => layer.key), biased.key);
  const value = await readMaps(reader, model, "value", shapes.map((layer) => layer.value), biased.value);
  return {
    method,
    model,
    fingerprint,
    calibration,
    fit,
    layers: key.map((map, n) => ({ key: map, value: value[n] })),
    shingles: new BigUint64Array(await readSection(reader, WHAT, "SHNG", shingles * 8)),
  };
}

/** Fingerprint of a fit: of the model, the groups and all numbers. */
export async function lowRankFingerprint(method: LowRankMethod, model: ModelSpec, layers: Layers): Promise<string> {
  const shapes = layers.map((layer) => [shapesToJson(layer.key), shapesToJson(layer.value)]);
  const text = `${method} ${await modelFingerprint(model)} ${JSON.stringify(shapes)}`;
  const arrays = layers.flatMap((layer) =>
    KINDS.flatMap((kind) => [
      ...layer[kind].groups.flatMap(({ decoder, projector }) => [decoder, projector]),
      layer[kind].bias ?? new Float32Array(0),
    ])
  );
  return await joinDigests(text, arrays);
}

/**
 * Groups of every layer from JSON: for each layer `key` and `value`, arrays of [heads, rank].
 *
 * @throws {KvzFormatError} They are not of the model: each head stands in one group, no rank is beyond the group's width.
 */
export function parseShapes(
  json: JsonValue | undefined,
  model: ModelSpec,
  what: string,
): Readonly<Record<Kind, readonly GroupShape[]>>[] {
  if (!Array.isArray(json) || json.length !== model.layers) {
    throw new KvzFormatError(`Cannot read ${what}: layers is no array of ${model.layers}`);
  }
  return json.map((layer, n) => {
    const fields = new Fields(layer, what, `layers[${n}]`);
    const of = (kind: Kind) => {
      const dim = kind === "key" ? model.keyDim : model.valueDim;
      const groups = fields.value(kind);
      const shapes = Array.isArray(groups) ? groups.map((group) => parseGroup(group, dim)) : [];
      const heads = shapes.flatMap((shape) => shape?.heads ?? []).sort((a, b) => a - b);
      if (shapes.includes(null) || heads.length !== model.kvHeads || heads.some((head, i) => head !== i)) {
        throw fields.fault(
          kind,
          `groups [heads, rank] in which each of ${model.kvHeads} heads stands once, ranks up to heads · ${dim}`,
        );
      }
      return shapes as GroupShape[];
    };
    const out = { key: of("key"), value: of("value") };
    fields.done();
    return out;
  });
}

function parseGroup(json: JsonValue, dim: number): GroupShape | null {
  if (!Array.isArray(json) || json.length !== 2) return null;
  const [heads, rank] = json;
  if (!Array.isArray(heads) || heads.length === 0 || !heads.every(Number.isInteger)) return null;
  if (typeof rank !== "number" || !Number.isInteger(rank) || rank < 1 || rank > heads.length * dim) return null;
  return { heads: heads as number[], rank };
}

/** How a profile was fitted, from a header or an artefact. */
export function parseFit(fields: Fields): LowRankFit {
  const fit = {
    removed: fields.number("removed", 0),
    ranks: fields.oneOf("ranks", ["fisher-uniform", "uniform"]),
    rows: fields.oneOf("rows", ["tokens", "summed", "none"]),
    hadamard: fields.boolean("hadamard"),
  };
  fields.done();
  return fit;
}

/**
 * Refuses factors that are not finite.
 *
 * @throws {KvzFormatError} names what and where.
 */
export function requireFactors({ groups, bias }: LatentMap, what: string, kind: Kind, layer: number): void {
  const finite = {
    decoder: groups.every(({ decoder }) => decoder.every((bits) => (bits & 0x7c00) !== 0x7c00)),
    projector: groups.every(({ projector }) => projector.every(Number.isFinite)),
    bias: bias === null || bias.every(Number.isFinite),
  };
  for (const [name, valid] of Object.entries(finite)) {
    if (!valid) {
      throw new KvzFormatError(`Cannot read ${what}: ${kind} ${name} of layer ${layer} holds numbers out of range`);
    }
  }
}

function shapesToJson({ groups }: LatentMap): JsonValue {
  return groups.map(({ heads, rank }) => [[...heads], rank]);
}

async function readMaps(
  reader: FrameReader,
  model: ModelSpec,
  kind: Kind,
  layers: readonly (readonly GroupShape[])[],
  biased: boolean,
): Promise<LatentMap[]> {
  const dim = kind === "key" ? model.keyDim : model.valueDim;
  const width = model.kvHeads * dim;
  const numbers = layers.flat().reduce((sum, { heads, rank }) => sum + heads.length * dim * rank, 0);
  const section = (name: string, byteLength: number) => readSection(reader, WHAT, PREFIX[kind] + name, byteLength);
  const decoders = new Uint16Array(await section("DEC", 2 * numbers));
  const projectors = new Float32Array(await section("PRO", 4 * numbers));
  const biases = new Float32Array(await section("BIA", biased ? 4 * model.layers * width : 0));
  let at = 0;
  return layers.map((shapes, n) => {
    const groups = shapes.map(({ heads, rank }) => {
      const end = at + heads.length * dim * rank;
      const group = { heads, rank, decoder: decoders.slice(at, end), projector: projectors.slice(at, end) };
      at = end;
      return group;
    });
    const map = { groups, bias: biased ? biases.slice(n * width, (n + 1) * width) : null };
    requireFactors(map, WHAT, kind, n);
    return map;
  });
}

function joined(parts: readonly ArrayBufferView[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let at = 0;
  for (const { buffer, byteOffset, byteLength } of parts) {
    out.set(new Uint8Array(buffer, byteOffset, byteLength), at);
    at += byteLength;
  }
  return out;
}
