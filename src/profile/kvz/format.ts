/**
 * Profiles of recipe kvz as files (.kvzp, docs/format.md): the frame of every profile, with the records
 *
 * | tag | contents |
 * | --- | --- |
 * | `MEAN` | mean, float32 [features] |
 * | `SCAL` | scales, float32 [features] |
 * | `VARI` | variance, float32 [components] |
 * | `BMUL` | multiple of the basis rows, u8 [components] |
 * | `BCLS` | table of the basis rows, u8 [components] |
 * | `BTAB` | weights of the tables, u16 [tables][128] |
 * | `BASI` | basis, rANS of the zigzag codes of basis ÷ multiple |
 * | `SENL`, `SENH` | sensitivity, upper triangles of the blocks, low and high bytes of binary16 |
 * | `RHO ` | step sets, rho32, i8 [sets][modes][components] |
 * | `SIGM` | step sets, logSigma, i16 [sets][modes][components] |
 * | `TABL` | frequency tables, u16 [128][256] |
 * | `CURV` | quality by step, float64 [points][3]: s, KL, bits |
 * | `SHNG` | shingle hashes, u64, ascending |
 *
 * @module
 */
import type { ByteSink } from "../../container/bytes.ts";
import type { JsonObject } from "../../container/canonical_json.ts";
import { Fields } from "../../container/fields.ts";
import type { FrameReader } from "../../container/frame_reader.ts";
import { FrameWriter } from "../../container/frame_writer.ts";
import { modelToJson, parseModel } from "../../container/model_json.ts";
import { KvzFormatError } from "../../errors.ts";
import { MODES, type StepSet, tableLimits, TABLES } from "../../stages/quantize/trellis/model.ts";
import { MAX_S } from "../../stages/quantize/trellis/side.ts";
import { MAX_COMPONENTS } from "../../stages/transform/integer_basis.ts";
import { readSection, requireKnownTags, writeSection } from "../sections.ts";
import { readTrainingFacts } from "../training_facts.ts";
import { parseProfileMap } from "../served.ts";
import { featuresOf } from "../statistics.ts";
import { type CodedBasis, decodeBasis, encodeBasis, TABLE_SYMBOLS } from "./basis_coding.ts";
import { fromTriangles, toTriangles, trianglesLength } from "./sensitivity.ts";
import type { CurvePoint, KvzProfile } from "./types.ts";

const WHAT = "profile";
const TAGS = [
  "MEAN",
  "SCAL",
  "VARI",
  "BMUL",
  "BCLS",
  "BTAB",
  "BASI",
  "SENL",
  "SENH",
  "RHO ",
  "SIGM",
  "TABL",
  "CURV",
  "SHNG",
];
const MAX_SHINGLES = 2 ** 31;
const MAX_SETS = 64;
const MAX_POINTS = 256;

/** Writes a profile to a sink, front to back. */
export async function writeKvzProfile(profile: KvzProfile, sink: ByteSink): Promise<void> {
  const { stepSets, tables, curve, shingles } = profile;
  const coded = await encodeBasis(profile);
  const triangles = toTriangles(profile.sensitivityBlocks, profile.model);
  const writer = new FrameWriter(sink, "profile", header(profile, coded));
  await writer.start();
  const sections: [string, ArrayBufferView][] = [
    ["SHNG", shingles],
    ["MEAN", profile.mean],
    ["SCAL", profile.scales],
    ["VARI", profile.variance],
    ["BMUL", coded.multiples],
    ["BCLS", coded.tableOf],
    ["BTAB", coded.frequencies],
    ["BASI", coded.bytes],
    ["SENL", new Uint8Array(triangles)],
    ["SENH", new Uint8Array(triangles.map((bits) => bits >>> 8))],
    ["RHO ", concat(stepSets.map(({ rho32 }) => bytesOf(rho32)))],
    ["SIGM", concat(stepSets.map(({ logSigma }) => bytesOf(logSigma)))],
    ["TABL", tables.frequencies],
    ["CURV", Float64Array.from(curve.flatMap(({ s, kl, bits }) => [s, kl, bits]))],
  ];
  for (const [tag, data] of sections) await writeSection(writer, tag, data, tag !== "BASI" && tag !== "SHNG");
  await writer.finish();
}

/**
 * Reads a profile whose header says method kvz. Every byte that is used has been checked.
 *
 * @throws {KvzFormatError} when it is damaged, or holds impossible sizes or numbers.
 */
export async function readKvzProfile(reader: FrameReader): Promise<KvzProfile> {
  requireKnownTags(reader, WHAT, TAGS);
  const fields = new Fields(reader.header, WHAT);
  fields.oneOf("method", ["kvz"]);
  const model = parseModel(fields.value("model"), WHAT, "model");
  const map = fields.has("layerMap") ? parseProfileMap(fields, model.layers) : {};
  const { key, value } = featuresOf(model);
  const features = key + value;
  const fingerprint = fields.sha256("fingerprint");
  const facts = fields.fields("calibration");
  const calibration = {
    ...readTrainingFacts(facts),
    svd: facts.oneOf("svd", ["randomized", "exact"]),
  };
  facts.done();
  const sensitivity = fields.oneOf("sensitivity", ["fisher", "forward", "none"]);
  const components = fields.integer("components", 1, Math.min(features, MAX_COMPONENTS));
  const finestS = fields.integer("finestS", -MAX_S, MAX_S);
  const shingles = fields.integer("shingles", 0, MAX_SHINGLES);
  const basisTables = fields.integer("basisTables", 1, 255);
  const basisBytes = fields.integer("basisBytes", 0, 2 * components * features + 128);
  const points = fields.integer("curve", 0, MAX_POINTS);
  const steps = fields.value("steps");
  if (
    !Array.isArray(steps) || steps.length < 1 || steps.length > MAX_SETS ||
    steps.some((s, i) => !Number.isInteger(s) || Math.abs(s as number) > MAX_S || (i > 0 && s! <= steps[i - 1]!))
  ) {
    throw fields.fault("steps", `1 to ${MAX_SETS} rising integers up to ${MAX_S}`);
  }
  const stepBits = fields.value("stepBits");
  if (
    !Array.isArray(stepBits) || stepBits.length !== steps.length ||
    stepBits.some((bits) => !(typeof bits === "number" && bits >= 0 && bits < Infinity))
  ) {
    throw fields.fault("stepBits", `${steps.length} numbers from 0 on`);
  }
  fields.done();

  const section = (tag: string, byteLength: number) => readSection(reader, WHAT, tag, byteLength);
  const coded: CodedBasis = {
    multiples: new Uint8Array(await section("BMUL", components)),
    tableOf: new Uint8Array(await section("BCLS", components)),
    frequencies: new Uint16Array(await section("BTAB", basisTables * TABLE_SYMBOLS * 2)),
    bytes: new Uint8Array(await section("BASI", basisBytes)),
  };
  const [mean, scales] = [
    new Float32Array(await section("MEAN", features * 4)),
    new Float32Array(await section("SCAL", features * 4)),
  ];
  const variance = new Float32Array(await section("VARI", components * 4));
  const triangles = new Uint16Array(new Uint8Array(await section("SENL", trianglesLength(model))));
  const high = new Uint8Array(await section("SENH", trianglesLength(model)));
  for (let i = 0; i < triangles.length; i++) triangles[i] |= high[i] << 8;
  const row = MODES * components;
  const rho32 = new Int8Array(await section("RHO ", steps.length * row));
  const logSigma = new Int16Array(await section("SIGM", steps.length * row * 2));
  const frequencies = new Uint16Array(await section("TABL", TABLES * 256 * 2));
  const curve = new Float64Array(await section("CURV", points * 24));
  const numbers = {
    mean: mean.every(Number.isFinite),
    scales: scales.every((value) => value >= 0 && value < Infinity),
    variance: variance.every((value) => value >= 0 && value < Infinity),
    sensitivity: triangles.every((bits) => (bits & 0x7c00) !== 0x7c00),
    prediction: rho32.every((value) => value >= 0 && value <= 32),
    curve: curve.every(Number.isFinite),
  };
  for (const [name, valid] of Object.entries(numbers)) {
    if (!valid) throw new KvzFormatError(`Cannot read ${WHAT}: ${name} holds numbers out of range`);
  }
  const tables = { bits: 11 as const, frequencies };
  requireTables(tables);
  return {
    method: "kvz",
    model,
    ...map,
    fingerprint,
    calibration,
    sensitivity,
    features,
    components,
    finestS,
    variance,
    mean,
    scales,
    basis: await decodeBasis(coded, components, features),
    sensitivityBlocks: fromTriangles(triangles, model),
    stepSets: steps.map((s, i): StepSet => ({
      s: s as number,
      rho32: rho32.slice(i * row, (i + 1) * row),
      logSigma: logSigma.slice(i * row, (i + 1) * row),
    })),
    stepBits: stepBits as number[],
    tables,
    curve: Array.from({ length: points }, (_, i): CurvePoint => ({
      s: curve[3 * i],
      kl: curve[3 * i + 1],
      bits: curve[3 * i + 2],
    })),
    shingles: new BigUint64Array(await section("SHNG", shingles * 8)),
  };
}

function header(profile: KvzProfile, coded: CodedBasis): JsonObject {
  const {
    model,
    layerMap,
    fingerprint,
    calibration,
    sensitivity,
    components,
    finestS,
    stepSets,
    stepBits,
    curve,
    shingles,
  } = profile;
  return {
    method: "kvz",
    model: modelToJson(model),
    ...(layerMap === undefined ? {} : { layerMap }),
    fingerprint,
    calibration: { ...calibration },
    sensitivity,
    components,
    finestS,
    shingles: shingles.length,
    basisTables: coded.frequencies.length / TABLE_SYMBOLS,
    basisBytes: coded.bytes.length,
    curve: curve.length,
    steps: stepSets.map(({ s }) => s),
    stepBits: [...stepBits],
  };
}

function requireTables(tables: { readonly bits: 11; readonly frequencies: Uint16Array }): void {
  for (let table = 0; table < TABLES; table++) {
    const sum = tables.frequencies.subarray(table * 256, (table + 1) * 256).reduce((a, b) => a + b, 0);
    if (sum !== 1 << tables.bits) {
      throw new KvzFormatError(`Cannot read ${WHAT}: frequencies of table ${table} sum up to ${sum}, expected 2048`);
    }
  }
  try {
    tableLimits(tables);
  } catch (cause) {
    throw new KvzFormatError(`Cannot read ${WHAT}: ${(cause as Error).message}`, { cause });
  }
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
