/**
 * Profiles as files (.kvzp): a framed file whose header holds the facts and whose records hold the arrays, each with a
 * checksum. See docs/format.md.
 *
 * | tag | contents |
 * | --- | --- |
 * | `KMEA`, `VMEA` | mean, float32 [features] |
 * | `KBAL`, `VBAL` | basis, low bytes of binary16 [components][features] |
 * | `KBAH`, `VBAH` | its high bytes (sign, exponent), which DEFLATE makes a quarter smaller |
 * | `KVAR`, `VVAR` | variance, float32 [rank] |
 * | `KENG`, `VENG` | error table, energy, float64 [rank] |
 * | `KERR`, `VERR` | error table, errors, float32 [rank][5][3] |
 * | `SHNG` | shingle hashes, u64, ascending |
 *
 * @module
 */
import { type Kind, KINDS } from "../cache/types.ts";
import { type ByteSink, type ByteSource, MemorySink, memorySource } from "../container/bytes.ts";
import type { JsonObject } from "../container/canonical_json.ts";
import { Fields } from "../container/fields.ts";
import { FrameReader } from "../container/frame_reader.ts";
import { FrameWriter } from "../container/frame_writer.ts";
import { modelToJson, parseModel } from "../container/model_json.ts";
import { KvzFormatError } from "../errors.ts";
import { readSection, requireKnownTags, writeSection } from "./sections.ts";
import { readTrainingFacts } from "./training_facts.ts";
import { featuresOf } from "./statistics.ts";
import { GROUP_SIZES, GROUP_TYPES, type KindProfile, type KvtcCalibrationFacts, type Profile } from "./types.ts";

const WHAT = "profile";
const PREFIX: Readonly<Record<Kind, string>> = { key: "K", value: "V" };
const TAGS = ["SHNG", ...["MEA", "BAL", "BAH", "VAR", "ENG", "ERR"].flatMap((name) => [`K${name}`, `V${name}`])];
const ERRORS_PER_COMPONENT = GROUP_SIZES.length * GROUP_TYPES.length;
/** Limits of what a header may claim; array lengths are checked against the file as well. */
const MAX_ROWS = 2 ** 20;
const MAX_SHINGLES = 2 ** 31;

/** Writes a profile to a sink, front to back. */
export async function writeProfile(profile: Profile, sink: ByteSink): Promise<void> {
  if (profile.method === "kvz") {
    const { writeKvzProfile } = await import("./kvz/format.ts");
    return await writeKvzProfile(profile, sink);
  }
  if (profile.method === "kvcar") {
    const { writeKvcarProfile } = await import("./kvcar/format.ts");
    return await writeKvcarProfile(profile, sink);
  }
  if (profile.method === "kvquant") {
    const { writeKvquantProfile } = await import("./kvquant/format.ts");
    return await writeKvquantProfile(profile, sink);
  }
  if (profile.method !== "kvtc") {
    const { writeLowRankProfile } = await import("./lowrank/format.ts");
    return await writeLowRankProfile(profile, sink);
  }
  const { model, layerMap, fingerprint, calibration, shingles, kinds } = profile;
  const writer = new FrameWriter(sink, "profile", {
    model: modelToJson(model),
    ...(layerMap === undefined ? {} : { layerMap }),
    fingerprint,
    calibration: { ...calibration, ratios: [...calibration.ratios] },
    shingles: shingles.length,
    kinds: { key: kindToJson(kinds.key), value: kindToJson(kinds.value) },
  });
  await writer.start();
  await writeSection(writer, "SHNG", shingles);
  for (const kind of KINDS) {
    const { mean, basis, variance, table } = kinds[kind];
    const prefix = PREFIX[kind];
    await writeSection(writer, `${prefix}MEA`, mean);
    await writeSection(writer, `${prefix}VAR`, variance);
    await writeSection(writer, `${prefix}ENG`, table.energy);
    await writeSection(writer, `${prefix}ERR`, table.errors);
    await writeSection(writer, `${prefix}BAL`, new Uint8Array(basis));
    await writeSection(writer, `${prefix}BAH`, new Uint8Array(basis.map((bits) => bits >>> 8)), true);
  }
  await writer.finish();
}

/** The bytes of a profile's file. */
export async function serializeProfile(profile: Profile): Promise<Uint8Array> {
  const sink = new MemorySink();
  await writeProfile(profile, sink);
  return sink.bytes();
}

/**
 * Reads a profile. Every byte that is used has been checked.
 *
 * @throws {KvzFormatError} when it is not a profile, is truncated or damaged, or holds impossible sizes or numbers.
 */
export async function parseProfile(input: Uint8Array | ByteSource): Promise<Profile> {
  const reader = await FrameReader.open(input instanceof Uint8Array ? memorySource(input) : input, "profile");
  const header = new Fields(reader.header, WHAT);
  // Profiles for KVTC do not say their method: they are older than all others.
  if (header.has("method")) {
    const method = header.oneOf("method", ["kvz", "kvcar", "kvquant", "palu", "recalkv"]);
    if (method === "kvz") return await (await import("./kvz/format.ts")).readKvzProfile(reader);
    if (method === "kvcar") return await (await import("./kvcar/format.ts")).readKvcarProfile(reader);
    if (method === "kvquant") return await (await import("./kvquant/format.ts")).readKvquantProfile(reader);
    const { readLowRankProfile } = await import("./lowrank/format.ts");
    return method === "palu" ? await readLowRankProfile(reader, method) : await readLowRankProfile(reader, method);
  }
  requireKnownTags(reader, WHAT, TAGS);
  const model = parseModel(header.value("model"), WHAT, "model");
  // Imported when used: few profiles have one.
  const map = header.has("layerMap") ? (await import("./served.ts")).parseProfileMap(header, model.layers) : {};
  const fingerprint = header.sha256("fingerprint");
  const calibration = parseFacts(header.fields("calibration"));
  const shingleCount = header.integer("shingles", 0, MAX_SHINGLES);
  const kindFields = header.fields("kinds");
  const features = featuresOf(model);
  const shapes = {
    key: parseShape(kindFields.fields("key"), features.key),
    value: parseShape(kindFields.fields("value"), features.value),
  };
  kindFields.done();
  header.done();
  return {
    method: "kvtc",
    model,
    ...map,
    fingerprint,
    calibration,
    shingles: new BigUint64Array(await readSection(reader, WHAT, "SHNG", shingleCount * 8)),
    kinds: { key: await readKind(reader, "key", shapes.key), value: await readKind(reader, "value", shapes.value) },
  };
}

/** What the header says of a kind. */
interface KindShape {
  readonly features: number;
  readonly components: number;
  readonly rank: number;
  readonly rows: number;
  readonly totalVariance: number;
}

function kindToJson({ features, components, totalVariance, table }: KindProfile): JsonObject {
  return { features, components, rank: table.rank, rows: table.rows, totalVariance };
}

function parseShape(fields: Fields, features: number): KindShape {
  const shape = {
    features: fields.integer("features", features, features),
    components: fields.integer("components", 0, features),
    rank: fields.integer("rank", 1, features),
    rows: fields.integer("rows", 1, MAX_ROWS),
    totalVariance: fields.number("totalVariance"),
  };
  fields.done();
  if (shape.components > shape.rank) throw fields.fault("components", `an integer up to the rank ${shape.rank}`);
  return shape;
}

function parseFacts(fields: Fields): KvtcCalibrationFacts {
  const ratios = fields.value("ratios");
  if (!Array.isArray(ratios) || ratios.some((ratio) => !(typeof ratio === "number" && ratio > 0))) {
    throw fields.fault("ratios", "an array of positive numbers");
  }
  const facts: KvtcCalibrationFacts = {
    ...readTrainingFacts(fields),
    svd: fields.oneOf("svd", ["randomized", "exact"]),
    ratios: ratios as number[],
  };
  fields.done();
  return facts;
}

async function readKind(reader: FrameReader, kind: Kind, shape: KindShape): Promise<KindProfile> {
  const { features, components, rank, rows, totalVariance } = shape;
  const section = (name: string, byteLength: number) => readSection(reader, WHAT, PREFIX[kind] + name, byteLength);
  const mean = new Float32Array(await section("MEA", features * 4));
  const variance = new Float32Array(await section("VAR", rank * 4));
  const energy = new Float64Array(await section("ENG", rank * 8));
  const errors = new Float32Array(await section("ERR", rank * ERRORS_PER_COMPONENT * 4));
  const basis = new Uint16Array(new Uint8Array(await section("BAL", components * features)));
  const high = new Uint8Array(await section("BAH", components * features));
  for (let i = 0; i < basis.length; i++) basis[i] |= high[i] << 8;
  const finite = { mean: mean.every(Number.isFinite), variance: variance.every((value) => value >= 0) };
  const numbers = {
    ...finite,
    energy: energy.every((value) => value >= 0 && value < Infinity),
    errors: errors.every((value) => value >= 0),
    basis: basis.every((bits) => (bits & 0x7c00) !== 0x7c00),
  };
  for (const [name, valid] of Object.entries(numbers)) {
    if (!valid) throw new KvzFormatError(`Cannot read ${WHAT}: ${kind} ${name} holds numbers out of range`);
  }
  return { features, components, mean, basis, variance, totalVariance, table: { rank, rows, energy, errors } };
}
