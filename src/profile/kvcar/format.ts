/**
 * Profiles of recipe kvcar as files (.kvzp, docs/format.md): the frame of every profile, with the records
 *
 * | tag | contents |
 * | --- | --- |
 * | `KSRC`, `VSRC` | reuse map, i32 [layers][kvHeads] |
 * | `KAES`, `VAES` | parameters of the autoencoders, one after the other by rising layer, float32 |
 * | `SHNG` | shingle hashes of the training texts, u64, ascending |
 *
 * @module
 */
import { type Kind, KINDS } from "../../cache/types.ts";
import type { ByteSink } from "../../container/bytes.ts";
import { Fields } from "../../container/fields.ts";
import type { FrameReader } from "../../container/frame_reader.ts";
import { FrameWriter } from "../../container/frame_writer.ts";
import { modelToJson, parseModel } from "../../container/model_json.ts";
import { readSection, requireKnownTags, writeSection } from "../sections.ts";
import { readTrainingFacts } from "../training_facts.ts";
import { checkAutoencoders, checkSources, MAX_WIDTH } from "./check.ts";
import { type Autoencoder, type KvcarKind, type KvcarProfile, parameterCount } from "./types.ts";

const WHAT = "profile";
const PREFIX: Readonly<Record<Kind, string>> = { key: "K", value: "V" };
const TAGS = ["SHNG", "KSRC", "VSRC", "KAES", "VAES"];
const MAX_SHINGLES = 2 ** 31;

/** Writes a profile to a sink, front to back. */
export async function writeKvcarProfile(profile: KvcarProfile, sink: ByteSink): Promise<void> {
  const { method, model, fingerprint, calibration, shingles, preRope, slope, kinds } = profile;
  const autoencoders = (kind: Kind) =>
    kinds[kind].autoencoders.map(({ layer, inputs, hidden, latent }) => ({ layer, inputs, hidden, latent }));
  const writer = new FrameWriter(sink, "profile", {
    method,
    model: modelToJson(model),
    fingerprint,
    calibration: { ...calibration },
    shingles: shingles.length,
    preRope,
    slope,
    autoencoders: { key: autoencoders("key"), value: autoencoders("value") },
  });
  await writer.start();
  await writeSection(writer, "SHNG", shingles);
  for (const kind of KINDS) {
    const { sources, autoencoders } = kinds[kind];
    await writeSection(writer, `${PREFIX[kind]}SRC`, sources, true);
    const all = new Float32Array(autoencoders.reduce((sum, { parameters }) => sum + parameters.length, 0));
    let at = 0;
    for (const { parameters } of autoencoders) {
      all.set(parameters, at);
      at += parameters.length;
    }
    await writeSection(writer, `${PREFIX[kind]}AES`, all);
  }
  await writer.finish();
}

/**
 * Reads a profile whose header says method kvcar. Every byte that is used has been checked.
 *
 * @throws {KvzFormatError} when it is damaged, or holds impossible sizes, maps or numbers.
 */
export async function readKvcarProfile(reader: FrameReader): Promise<KvcarProfile> {
  requireKnownTags(reader, WHAT, TAGS);
  const fields = new Fields(reader.header, WHAT);
  const method = fields.oneOf("method", ["kvcar"]);
  const model = parseModel(fields.value("model"), WHAT, "model");
  const fingerprint = fields.sha256("fingerprint");
  const facts = fields.fields("calibration");
  const calibration = readTrainingFacts(facts);
  facts.done();
  const shingles = fields.integer("shingles", 0, MAX_SHINGLES);
  const preRope = fields.boolean("preRope");
  const slope = fields.number("slope", 0);
  const lists = fields.fields("autoencoders");
  const shapes = { key: readShapes(lists, "key", model.layers), value: readShapes(lists, "value", model.layers) };
  lists.done();
  fields.done();

  const section = (tag: string, byteLength: number) => readSection(reader, WHAT, tag, byteLength);
  const readKind = async (kind: Kind): Promise<KvcarKind> => {
    const sources = new Int32Array(await section(`${PREFIX[kind]}SRC`, model.layers * model.kvHeads * 4));
    checkSources(sources, kind, model);
    const counts = shapes[kind].map(parameterCount);
    const all = new Float32Array(
      await section(`${PREFIX[kind]}AES`, 4 * counts.reduce((sum, count) => sum + count, 0)),
    );
    let at = 0;
    const autoencoders = shapes[kind].map((shape, i): Autoencoder => {
      const parameters = all.subarray(at, at + counts[i]);
      at += counts[i];
      return { ...shape, parameters };
    });
    const read = { sources, autoencoders };
    checkAutoencoders(read, kind, model);
    return read;
  };
  return {
    method,
    model,
    fingerprint,
    calibration,
    preRope,
    slope,
    kinds: { key: await readKind("key"), value: await readKind("value") },
    shingles: new BigUint64Array(await section("SHNG", shingles * 8)),
  };
}

function readShapes(lists: Fields, kind: Kind, layers: number): Omit<Autoencoder, "parameters">[] {
  const list = lists.value(kind);
  if (!Array.isArray(list) || list.length > layers) throw lists.fault(kind, `an array of up to ${layers} objects`);
  return list.map((entry, i) => {
    const fields = new Fields(entry, WHAT, `autoencoders.${kind}[${i}]`);
    const shape = {
      layer: fields.integer("layer", 0, layers - 1),
      inputs: fields.integer("inputs", 1, MAX_WIDTH * 16),
      hidden: fields.integer("hidden", 1, MAX_WIDTH),
      latent: fields.integer("latent", 1, MAX_WIDTH),
    };
    fields.done();
    return shape;
  });
}
