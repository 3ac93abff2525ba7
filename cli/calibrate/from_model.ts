/**
 * From a model and texts to a profile for recipe kvz: sensitivity by forward passes, the fit on caches that are made as
 * they are read, the curve of KL by step on parts of the texts that the fit has not seen. What is measured is kept in a
 * journal, the fit beside it, so that an interrupted run goes on where it stopped.
 *
 * @module
 */
import { rm } from "node:fs/promises";
import type { DType } from "../../src/cache/types.ts";
import type { LaneOptions } from "../../src/codec/lanes.ts";
import type { ByteSource } from "../../src/container/bytes.ts";
import {
  measureSensitivity,
  type PartMeasurement,
  type SensitivityPart,
  sensitivityParts,
} from "../../src/eval/forward_sensitivity.ts";
import { forwardBlocks } from "../../src/eval/forward_weights.ts";
import type { CurveText } from "../../src/eval/kl_curve.ts";
import type { LanguageModel } from "../../src/eval/language_model.ts";
import { modelCaches } from "../../src/eval/model_caches.ts";
import { calibrateKvz, type CalibrateKvzOptions } from "../../src/profile/kvz/calibrate.ts";
import type { SensitivityBlocks } from "../../src/profile/kvz/sensitivity.ts";
import type { KvzProfile } from "../../src/profile/kvz/types.ts";
import { serializeProfile } from "../../src/profile/profile_format.ts";
import { sequenceHash } from "../../src/profile/shingles.ts";
import { type Journal, resultKey } from "../eval/journal.ts";
import { FileSystemError } from "../exit_codes.ts";
import { writeOutput } from "../files.ts";
import { readProfile } from "../profile_input.ts";
import type { ProgressUpdate } from "../progress.ts";
import { VERSION } from "../version.ts";
import { measureCurve } from "./curve.ts";
import type { CalibrationTexts } from "./sequences.ts";

/** What a profile is made of. */
export interface ModelCalibration {
  readonly model: LanguageModel;
  /** Changes with the model's files. */
  readonly identity: string;
  readonly texts: CalibrationTexts;
  /** A file of tools/sensitivity.py, or what to do without one. */
  readonly sensitivity: ByteSource | "forward" | "none";
  /** Bands of the keys' rotary frequencies that forward passes tell apart. */
  readonly bands: number;
  /** Tokens of a cache and after it that the curve is measured with. */
  readonly context: number;
  readonly continuation: number;
  readonly dtype: DType;
  readonly fit: Pick<CalibrateKvzOptions, "seed" | "sinks" | "rank" | "ratio" | "svd" | "keyWeight">;
  readonly lanes: LaneOptions;
  readonly journal: Journal;
  /** Where the fit is kept until the curve has been measured. */
  readonly fitFile: string;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: ProgressUpdate) => void;
}

/** Texts that sensitivity is measured on at least, where there are so many sequences. */
const SENSITIVITY_TEXTS = 3;

/** Makes the profile; what the journal holds is not done again. */
export async function calibrateOnModel(request: ModelCalibration): Promise<KvzProfile> {
  const { texts } = request;
  const fitted = await fitOrRead(request);
  const { profile } = texts.heldOut.length === 0
    ? { profile: fitted }
    : await measureCurve({ ...request, profile: fitted, texts: texts.heldOut, steps: null });
  await rm(request.fitFile, { force: true });
  return profile;
}

async function fitOrRead(request: ModelCalibration): Promise<KvzProfile> {
  const { model, identity, texts, dtype, fit, lanes, journal, fitFile, signal, onProgress } = request;
  const given = await sensitivityOf(request);
  const key = resultKey({
    version: VERSION,
    what: "fit",
    identity,
    texts: texts.training.map(({ ids }) => sequenceHash(ids).toString(16)),
    sensitivity: given?.facts ?? null,
    dtype,
    ...fit,
  });
  const known = journal.get(key) as { readonly fingerprint: string } | undefined;
  if (known !== undefined) {
    const kept = await readKept(fitFile);
    if (kept?.fingerprint === known.fingerprint) return kept;
  }
  const total = texts.training.reduce((sum, { ids }) => sum + Math.max(0, ids.length - (fit.sinks ?? 4)), 0);
  const { threads: _, createWorker: _c, ...backend } = lanes;
  const profile = await calibrateKvz(modelCaches(model, texts.training, { dtype, signal }), {
    ...fit,
    ...(given === null ? {} : { sensitivity: given.blocks }),
    backend,
    signal,
    onProgress: ({ phase, fraction, tokens }) =>
      onProgress(
        phase === "read"
          ? { done: tokens, total, stage: "prefill" }
          : { done: Math.round(1000 * fraction!), total: 1000, stage: "fitting" },
      ),
  });
  const bytes = await serializeProfile(profile);
  await writeOutput(fitFile, true, async (sink) => await sink.write(bytes));
  await journal.add(key, { fit: fitFile, sensitivity: profile.sensitivity, fingerprint: profile.fingerprint });
  return profile;
}

/** The sensitivity, and what tells it from another. */
async function sensitivityOf(
  { model, identity, texts, sensitivity, bands, fit, journal, signal, onProgress }: ModelCalibration,
): Promise<{ readonly blocks: SensitivityBlocks | ByteSource; readonly facts: unknown } | null> {
  if (sensitivity === "none") return null;
  if (sensitivity !== "forward") {
    const bytes = await sensitivity.read(0, sensitivity.size);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as BufferSource));
    return { blocks: sensitivity, facts: Array.from(digest) };
  }
  const chosen = spread(texts.training, SENSITIVITY_TEXTS);
  const shortest = Math.min(...chosen.map(({ ids }) => ids.length)) - 1;
  const continuation = Math.max(1, Math.min(64, Math.floor(shortest / 5)));
  const options = {
    context: Math.min(512, shortest - continuation),
    continuation,
    bands,
    sinks: fit.sinks ?? 4,
    seed: fit.seed ?? 0,
  };
  const hashes = new Map(chosen.map(({ name, ids }) => {
    const used = ids.subarray(0, options.context + continuation + 1);
    return [name, sequenceHash(used).toString(16)];
  }));
  const keyOf = (text: string, { layer, kind, head, band }: SensitivityPart) =>
    resultKey({
      version: VERSION,
      what: "sensitivity",
      identity,
      ids: hashes.get(text),
      ...options,
      part: [layer, kind, head, band],
    });
  const parts = sensitivityParts(model.spec, { bands });
  const known = chosen.flatMap(({ name }) =>
    parts.flatMap((part): PartMeasurement[] => {
      const result = journal.get(keyOf(name, part)) as PartMeasurement | undefined;
      return result === undefined ? [] : [{ ...result, text: name }];
    })
  );
  const measurements = await measureSensitivity(model, chosen, {
    ...options,
    known,
    signal,
    onMeasured: (one) => journal.add(keyOf(one.text, one), one),
    onPart: (done, total) => onProgress({ done, total, stage: "sensitivity" }),
  });
  return {
    blocks: forwardBlocks(model.spec, measurements, { bands }),
    facts: measurements.map(({ weight }) => weight),
  };
}

/** Some of the sequences, evenly spread, so that they are of different texts. */
function spread(sequences: readonly CurveText[], wanted: number): CurveText[] {
  const count = Math.min(wanted, sequences.length);
  return Array.from({ length: count }, (_, i) => sequences[Math.floor((i + 0.5) * sequences.length / count)]);
}

/** The fit of an earlier run; null where there is none. */
async function readKept(path: string): Promise<KvzProfile | null> {
  try {
    const profile = await readProfile(path);
    return profile.method === "kvz" ? profile : null;
  } catch (error) {
    // It is made again when it was never made, or removed.
    if (error instanceof FileSystemError) return null;
    throw error;
  }
}
