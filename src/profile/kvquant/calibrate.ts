/**
 * Calibration for recipe kvquant: thresholds of key channels and codebooks of layers, on a sample of the caches' tokens.
 *
 * @module
 */
import type { ByteSource } from "../../container/bytes.ts";
import { type CalibrationInputs, checkWhole, type PartialOptions, readAll } from "../calibrate.ts";
import { Gatherer } from "../gatherer.ts";
import { openSensitivity, type SensitivityBlocks } from "../kvz/sensitivity.ts";
import { kvquantFingerprint } from "./fingerprint.ts";
import { fitKvquant } from "./fit.ts";
import { SampleReader } from "./reader.ts";
import type { KvquantProfile } from "./types.ts";

/** Options of {@linkcode calibrateKvquant}. */
export interface CalibrateKvquantOptions
  extends Pick<PartialOptions, "seed" | "sampleRows" | "heldOut" | "onProgress" | "signal"> {
  /** Leading tokens of each sequence left out: those that the recipe keeps as they are. Default 1. */
  readonly sinks?: number;
  /**
   * What errors cost: a file of tools/sensitivity.py, or blocks (forwardBlocks of `@kvz/kvz/eval`), whose diagonals weight
   * the codebooks. Default: all elements weigh the same, and the profile says so.
   */
  readonly sensitivity?: ByteSource | SensitivityBlocks;
}

/**
 * Calibrates a profile for recipe kvquant on caches of one model. Holds a sample of whole tokens (`sampleRows`, default
 * 4096, drawn by `seed`) as float32 beside one run of tokens, whatever the number of caches.
 *
 * @throws what `calibrate` throws, and
 * @throws {KvzFormatError} when the sensitivity file is none, or a block is no matrix of second moments
 * @throws {KvzMismatchError} when it is of another model
 */
export async function calibrateKvquant(
  caches: CalibrationInputs,
  options: CalibrateKvquantOptions = {},
): Promise<KvquantProfile> {
  const { seed = 0, sinks = 1, sampleRows = 4096, sensitivity, onProgress, signal } = options;
  checkWhole([["seed", seed, 0, 2 ** 32 - 1], ["sinks", sinks, 0, 2 ** 20], ["sampleRows", sampleRows, 2, 2 ** 20]]);
  let reader: SampleReader | null = null;
  let blocks: SensitivityBlocks | null = null;
  const gatherer = new Gatherer({
    ...options,
    seed,
    sinks,
    sampleRows,
    threads: 1,
    openEngines: async (model) => {
      // Read before the caches: a file of another model should not be found out after minutes.
      if (sensitivity !== undefined) blocks = await openSensitivity(sensitivity, model);
      reader = new SampleReader(model);
      return reader.engines();
    },
  });
  try {
    await readAll(gatherer, caches, options);
    const { tokens } = gatherer;
    if (reader === null || tokens < 2) {
      throw new RangeError(`Cannot calibrate: ${tokens} tokens are left after ${sinks} sinks a sequence, expected 2`);
    }
    const model = gatherer.model!;
    const used = blocks as SensitivityBlocks | null;
    const profile = {
      method: "kvquant" as const,
      model,
      calibration: { tokens, sinks, sequences: gatherer.sequences, seed },
      shingles: gatherer.shingles(),
      sensitivity: used?.source ?? "none",
      ...fitKvquant(model, reader, used, (fraction) => {
        signal?.throwIfAborted();
        onProgress?.({ phase: "fit", fraction, tokens });
      }),
    };
    return { ...profile, fingerprint: await kvquantFingerprint(profile) };
  } finally {
    gatherer.close();
  }
}
