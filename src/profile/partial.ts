/**
 * Partial statistics as files (.kvzs), so that any job engine can spread a calibration: each job writes one, and
 * `kvz calibrate --merge` fits them together. A framed file; see docs/format.md.
 *
 * | tag | contents |
 * | --- | --- |
 * | `SEQS` | hashes of the sequences, u64, ascending |
 * | `SHNG` | shingle hashes, u64, ascending |
 * | `PRIO` | priorities of the sampled rows, float64, ascending |
 * | `KMEA`, `VMEA` | mean, float64 [features] |
 * | `KCOM`, `VCOM` | Σ (x − mean)(x − mean)ᵀ, upper triangle by rows, float64 [features · (features + 1) / 2] |
 * | `KSMP`, `VSMP` | sampled rows, binary16 [rows][features], in the order of PRIO |
 *
 * @module
 */
import { type Kind, KINDS } from "../cache/types.ts";
import { type ByteSink, type ByteSource, memorySource } from "../container/bytes.ts";
import { Fields } from "../container/fields.ts";
import { FrameReader } from "../container/frame_reader.ts";
import { FrameWriter } from "../container/frame_writer.ts";
import { modelToJson, parseModel } from "../container/model_json.ts";
import { KvzFormatError } from "../errors.ts";
import { triangleLength } from "./gram.ts";
import type { KindStatistics } from "./kind_fitter.ts";
import { readSection, requireKnownTags, writeSection } from "./sections.ts";
import { featuresOf, type Statistics } from "./statistics.ts";

const WHAT = "calibration statistics";
const PREFIX: Readonly<Record<Kind, string>> = { key: "K", value: "V" };
const TAGS = ["SEQS", "SHNG", "PRIO", ...["MEA", "COM", "SMP"].flatMap((name) => [`K${name}`, `V${name}`])];
const MAX_COUNT = 2 ** 53 - 1;

/** Writes partial statistics to a sink, front to back. */
export async function writePartial(statistics: Statistics, sink: ByteSink): Promise<void> {
  const { model, sinks, seed, sampleCapacity, sequences, priorities, shingles, kinds } = statistics;
  const writer = new FrameWriter(sink, "statistics", {
    model: modelToJson(model),
    sinks,
    seed,
    sampleCapacity,
    tokens: kinds.key.moments.count,
    sequences: sequences.length,
    sample: priorities.length,
    shingles: shingles.length,
  });
  await writer.start();
  await writeSection(writer, "SEQS", sequences);
  await writeSection(writer, "SHNG", shingles);
  await writeSection(writer, "PRIO", priorities);
  for (const kind of KINDS) {
    const { moments, sample } = kinds[kind];
    await writeSection(writer, `${PREFIX[kind]}MEA`, moments.mean);
    await writeSection(writer, `${PREFIX[kind]}COM`, moments.comoment);
    await writeSection(writer, `${PREFIX[kind]}SMP`, sample);
  }
  await writer.finish();
}

/**
 * Reads partial statistics.
 *
 * @throws {KvzFormatError} when they are truncated or damaged, or hold impossible sizes or numbers.
 */
export async function readPartial(input: Uint8Array | ByteSource): Promise<Statistics> {
  const reader = await FrameReader.open(input instanceof Uint8Array ? memorySource(input) : input, "statistics");
  requireKnownTags(reader, WHAT, TAGS);
  const header = new Fields(reader.header, WHAT);
  const model = parseModel(header.value("model"), WHAT, "model");
  const sinks = header.integer("sinks", 0, 2 ** 20);
  const seed = header.integer("seed", 0, 2 ** 32 - 1);
  const sampleCapacity = header.integer("sampleCapacity", 1, 2 ** 20);
  const count = header.integer("tokens", 0, MAX_COUNT);
  const sequenceCount = header.integer("sequences", 0, MAX_COUNT);
  const rows = header.integer("sample", 0, Math.min(sampleCapacity, count));
  const shingleCount = header.integer("shingles", 0, MAX_COUNT);
  header.done();
  const section = (tag: string, byteLength: number) => readSection(reader, WHAT, tag, byteLength);
  const features = featuresOf(model);
  const readKind = async (kind: Kind): Promise<KindStatistics> => {
    const p = features[kind];
    const prefix = PREFIX[kind];
    const mean = new Float64Array(await section(`${prefix}MEA`, p * 8));
    const comoment = new Float64Array(await section(`${prefix}COM`, triangleLength(p) * 8));
    const sample = new Uint16Array(await section(`${prefix}SMP`, rows * p * 2));
    if (!mean.every(Number.isFinite) || !comoment.every(Number.isFinite) || sample.some(isSpecial)) {
      throw new KvzFormatError(`Cannot read ${WHAT}: ${kind} statistics hold NaN or infinity`);
    }
    return { moments: { count, mean, comoment }, sample };
  };
  const priorities = new Float64Array(await section("PRIO", rows * 8));
  if (!priorities.every((priority, i) => priority >= (priorities[i - 1] ?? 0) && priority < 2 ** 53)) {
    throw new KvzFormatError(`Cannot read ${WHAT}: priorities do not ascend from 0`);
  }
  return {
    model,
    sinks,
    seed,
    sampleCapacity,
    sequences: new BigUint64Array(await section("SEQS", sequenceCount * 8)),
    priorities,
    shingles: new BigUint64Array(await section("SHNG", shingleCount * 8)),
    kinds: { key: await readKind("key"), value: await readKind("value") },
  };
}

/** Whether binary16 bits are NaN or infinity. */
function isSpecial(bits: number): boolean {
  return (bits & 0x7c00) === 0x7c00;
}
