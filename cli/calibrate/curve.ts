/**
 * The measurement of a profile's curve of KL by step, kept in a journal as it is done.
 *
 * @module
 */
import type { DType } from "../../src/cache/types.ts";
import type { LaneOptions } from "../../src/codec/lanes.ts";
import { curveOf, curveSteps, type CurveText, curveTokens, measureSteps } from "../../src/eval/kl_curve.ts";
import type { StepMeasurement } from "../../src/eval/kl_curve.ts";
import type { LanguageModel } from "../../src/eval/language_model.ts";
import type { KvzProfile } from "../../src/profile/kvz/types.ts";
import { sequenceHash } from "../../src/profile/shingles.ts";
import { type Journal, resultKey } from "../eval/journal.ts";
import { VERSION } from "../version.ts";

/** What a curve is measured with. */
export interface CurveRequest {
  readonly model: LanguageModel;
  /** Changes with the model's files. */
  readonly identity: string;
  readonly profile: KvzProfile;
  /** At least context + continuation + 1 tokens each. */
  readonly texts: readonly CurveText[];
  /** Steps, each 2^(−s/60); null for those of the profile's training. */
  readonly steps: readonly number[] | null;
  readonly context: number;
  readonly continuation: number;
  readonly dtype: DType;
  readonly lanes: LaneOptions;
  readonly journal: Journal;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: { readonly done: number; readonly total: number; readonly stage: string }) => void;
}

/** The profile with its curve, and what each text lost at each step. */
export interface MeasuredCurve {
  readonly profile: KvzProfile;
  readonly measurements: readonly StepMeasurement[];
}

/** Measures what the journal does not hold yet. */
export async function measureCurve(request: CurveRequest): Promise<MeasuredCurve> {
  const { model, identity, profile, texts, context, continuation, dtype, lanes, journal, signal, onProgress } = request;
  const steps = request.steps ?? curveSteps(profile);
  const idsOf = new Map(texts.map(({ name, ids }) => {
    const used = ids.subarray(0, context + continuation + 1);
    return [name, sequenceHash(used).toString(16)];
  }));
  const keyOf = (text: string, s: number) =>
    resultKey({
      version: VERSION,
      what: "curve",
      identity,
      profile: profile.fingerprint,
      dtype,
      ids: idsOf.get(text),
      context,
      continuation,
      s,
    });
  const known = texts.flatMap(({ name }) =>
    steps.flatMap((s): StepMeasurement[] => {
      const result = journal.get(keyOf(name, s)) as { kl: number; bits: number } | undefined;
      return result === undefined ? [] : [{ text: name, s, kl: result.kl, bits: result.bits }];
    })
  );
  const options = { context, continuation, steps, dtype, known };
  const total = curveTokens(profile, texts, options);
  let done = 0;
  const measurements = await measureSteps(model, profile, texts, {
    ...options,
    lanes,
    signal,
    onTokens: (tokens) => onProgress({ done: done += tokens, total, stage: "curve of KL by step, tokens:" }),
    onMeasured: ({ text, s, kl, bits }) => journal.add(keyOf(text, s), { text, s, kl, bits }),
  });
  return { profile: { ...profile, curve: curveOf(measurements) }, measurements };
}
