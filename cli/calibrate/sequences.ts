/**
 * Texts of a calibration: sequences to fit on, and parts that are kept from the fit to measure the curve on.
 *
 * @module
 */
import type { CurveText } from "../../src/eval/kl_curve.ts";
import type { LanguageModel } from "../../src/eval/language_model.ts";
import { shingleHashes, ShingleSet } from "../../src/profile/shingles.ts";
import { cutWindows, readText, textNames, type TextSpec } from "../eval/texts.ts";
import { UsageError } from "../exit_codes.ts";

/** How texts are cut. */
export interface SequenceOptions {
  /** Tokens of a sequence. */
  readonly length: number;
  /** Sequences of each text at most. */
  readonly sequences: number;
  /** Tokens of the part of each text that is kept from the fit; 0 for none. */
  readonly heldOut: number;
}

/** What texts were cut into. */
export interface CalibrationTexts {
  /** To fit on. */
  readonly training: readonly CurveText[];
  /** One of each text; none where nothing was to be kept. */
  readonly heldOut: readonly CurveText[];
  /** Sequences left out because they share tokens with a part that is kept. */
  readonly leftOut: readonly string[];
}

/**
 * Cuts every text into sequences, evenly spread and not overlapping. The middle one is kept from the fit.
 *
 * @throws {RangeError} a text is too short
 * @throws {UsageError} nothing is left to fit on
 */
export async function cutTexts(
  specs: readonly TextSpec[],
  model: LanguageModel,
  { length, sequences, heldOut }: SequenceOptions,
): Promise<CalibrationTexts> {
  const training: CurveText[] = [];
  const kept: CurveText[] = [];
  const names = textNames(specs);
  const part = Math.max(length, heldOut);
  for (const [i, spec] of specs.entries()) {
    const name = names[i];
    const ids = model.tokenize(await readText(spec));
    const least = heldOut > 0 ? 2 : 1;
    const available = Math.floor(ids.length / part);
    if (available < least) {
      throw new RangeError(
        `Cannot calibrate on ${name}: it has ${ids.length} tokens, expected at least ${least * part}` +
          (least === 2 ? `, ${part} to fit on and as many to measure the curve on` : ""),
      );
    }
    const count = Math.min(available, sequences + least - 1);
    const windows = cutWindows(name, ids, part, count);
    const middle = heldOut > 0 ? count >> 1 : -1;
    windows.forEach((window, n) => {
      if (n === middle) kept.push({ name, ids: window.ids.subarray(0, heldOut) });
      else training.push({ name: window.name, ids: window.ids.subarray(0, length) });
    });
  }
  // Texts repeat themselves, and each other: a part that is measured on must be unknown.
  const known = new ShingleSet(kept.flatMap(({ ids }) => [...shingleHashes(ids)]));
  const overlaps = ({ ids }: CurveText) => known.size > 0 && known.find(ids) >= 0;
  const left = training.filter((text) => !overlaps(text));
  if (left.length === 0) {
    throw new UsageError(
      "Cannot calibrate: every sequence shares tokens with the parts kept for the curve; --no-curve keeps none",
    );
  }
  return { training: left, heldOut: kept, leftOut: training.filter(overlaps).map(({ name }) => name) };
}

/**
 * Cuts all texts together into `count` sentences, pieces of `length` tokens, evenly spread; fewer where texts are short.
 *
 * @throws {RangeError} a text has not one
 */
export async function cutSentences(
  specs: readonly TextSpec[],
  model: LanguageModel,
  length: number,
  count: number,
): Promise<CurveText[]> {
  const names = textNames(specs);
  const all: CurveText[] = [];
  for (const [i, spec] of specs.entries()) {
    const ids = model.tokenize(await readText(spec));
    const available = Math.max(1, Math.floor(ids.length / length));
    all.push(...cutWindows(names[i], ids, length, Math.min(available, Math.ceil(count / specs.length))));
  }
  const taken = Math.min(count, all.length);
  return Array.from({ length: taken }, (_, i) => all[Math.floor((i + 0.5) * all.length / taken)]);
}
