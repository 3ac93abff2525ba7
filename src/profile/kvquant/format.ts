/**
 * Profiles of recipe kvquant as files (.kvzp, docs/format.md): the frame of every profile, with the records
 *
 * | tag | contents |
 * | --- | --- |
 * | `THRE` | thresholds, float32 [outliers][layers][kvHeads · keyDim][2] |
 * | `BOOK` | codebooks, float32 [outliers][keys, values][layers][28] |
 * | `NORM` | scales and offsets of Q-Norm, float32 [outliers][keys, values][layers][3][2] |
 * | `SHNG` | shingle hashes, u64, ascending |
 *
 * @module
 */
import type { ModelSpec } from "../../cache/types.ts";
import type { ByteSink } from "../../container/bytes.ts";
import { Fields } from "../../container/fields.ts";
import type { FrameReader } from "../../container/frame_reader.ts";
import { FrameWriter } from "../../container/frame_writer.ts";
import { modelToJson, parseModel } from "../../container/model_json.ts";
import { KvzFormatError } from "../../errors.ts";
import { readSection, requireKnownTags, writeSection } from "../sections.ts";
import { readTrainingFacts } from "../training_facts.ts";
import { KVQUANT_BITS, KVQUANT_ENTRIES, kvquantLengths, type KvquantProfile } from "./types.ts";

const WHAT = "profile";
const TAGS = ["SHNG", "THRE", "BOOK", "NORM"];
const MAX_SHINGLES = 2 ** 31;

/** Writes a profile to a sink, front to back. */
export async function writeKvquantProfile(profile: KvquantProfile, sink: ByteSink): Promise<void> {
  const { method, model, fingerprint, calibration, sensitivity, shingles, thresholds, codebooks, norms } = profile;
  const writer = new FrameWriter(sink, "profile", {
    method,
    model: modelToJson(model),
    fingerprint,
    calibration: { ...calibration },
    sensitivity,
    shingles: shingles.length,
  });
  await writer.start();
  await writeSection(writer, "SHNG", shingles);
  await writeSection(writer, "THRE", thresholds);
  await writeSection(writer, "BOOK", codebooks);
  await writeSection(writer, "NORM", norms);
  await writer.finish();
}

/**
 * Reads a profile whose header says method kvquant. Every byte that is used has been checked.
 *
 * @throws {KvzFormatError} It is damaged, or holds impossible sizes or numbers.
 */
export async function readKvquantProfile(reader: FrameReader): Promise<KvquantProfile> {
  requireKnownTags(reader, WHAT, TAGS);
  const fields = new Fields(reader.header, WHAT);
  const method = fields.oneOf("method", ["kvquant"]);
  const model = parseModel(fields.value("model"), WHAT, "model");
  const fingerprint = fields.sha256("fingerprint");
  const facts = fields.fields("calibration");
  const calibration = readTrainingFacts(facts);
  facts.done();
  const sensitivity = fields.oneOf("sensitivity", ["fisher", "forward", "none"]);
  const shingles = fields.integer("shingles", 0, MAX_SHINGLES);
  fields.done();
  const lengths = kvquantLengths(model);
  const floats = async (tag: string, length: number) =>
    new Float32Array(await readSection(reader, WHAT, tag, 4 * length));
  const arrays = {
    thresholds: await floats("THRE", lengths.thresholds),
    codebooks: await floats("BOOK", lengths.codebooks),
    norms: await floats("NORM", lengths.norms),
  };
  requireKvquantNumbers(model, arrays);
  return {
    method,
    model,
    fingerprint,
    calibration,
    sensitivity,
    ...arrays,
    shingles: new BigUint64Array(await readSection(reader, WHAT, "SHNG", shingles * 8)),
  };
}

/**
 * Refuses numbers that are not finite, thresholds whose low is above their high, and codebooks that fall.
 *
 * @throws {KvzFormatError} names what and where
 */
export function requireKvquantNumbers(
  { layers, kvHeads, keyDim }: ModelSpec,
  { thresholds, codebooks, norms }: Pick<KvquantProfile, "thresholds" | "codebooks" | "norms">,
): void {
  const channels = kvHeads * keyDim;
  for (let i = 0; i < thresholds.length; i += 2) {
    if (Number.isFinite(thresholds[i + 1] - thresholds[i]) && thresholds[i] <= thresholds[i + 1]) continue;
    const row = Math.floor(i / 2 / channels);
    throw new KvzFormatError(
      `Cannot read ${WHAT}: thresholds of layer ${row % layers}, key channel ${i / 2 % channels} are ` +
        `${thresholds[i]} and ${thresholds[i + 1]}, expected finite numbers, the lower first`,
    );
  }
  const begins = new Set([0]);
  for (const bits of KVQUANT_BITS) begins.add([...begins].at(-1)! + (1 << bits));
  codebooks.forEach((entry, i) => {
    const first = begins.has(i % KVQUANT_ENTRIES);
    if (Number.isFinite(entry) && (first || entry >= codebooks[i - 1])) return;
    throw new KvzFormatError(
      `Cannot read ${WHAT}: entry ${i % KVQUANT_ENTRIES} of the codebooks of layer ${
        Math.floor(i / KVQUANT_ENTRIES) % layers
      } is ${entry}, expected finite numbers that do not fall`,
    );
  });
  const wrong = norms.findIndex((number) => !Number.isFinite(number));
  if (wrong >= 0) throw new KvzFormatError(`Cannot read ${WHAT}: number ${wrong} of Q-Norm is not finite`);
}
