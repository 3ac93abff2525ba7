/**
 * Means over texts, with the worst text named: a mean alone hides what a user with that text gets.
 *
 * @module
 */
import type { EvalPoint, EvalSummary, Ratios } from "./point.ts";

/** Summarizes points that differ only in the text, in the order in which they first appear. */
export function summarize(points: readonly EvalPoint[]): EvalSummary[] {
  const groups = new Map<string, EvalPoint[]>();
  for (const point of points) {
    const key = JSON.stringify([point.context, point.method, point.setting]);
    const group = groups.get(key);
    if (group) group.push(point);
    else groups.set(key, [point]);
  }
  return [...groups.values()].map(summarizeGroup);
}

function summarizeGroup(points: readonly EvalPoint[]): EvalSummary {
  const [{ context, method, setting }] = points;
  const worst = points.reduce((a, b) => b.agreement.kl > a.agreement.kl ? b : a);
  const ratio = (name: keyof Ratios) => geometricMean(points.map(({ ratios }) => ratios[name]));
  const decoded = geometricMean(points.map((point) => point.decoded?.ratio ?? null));
  return {
    context,
    method,
    setting,
    texts: points.length,
    ratios: { target: ratio("target"), paper: ratio("paper"), file: ratio("file") },
    ...(decoded === null ? {} : { decodedRatio: decoded }),
    perplexityBefore: geometricMean(points.map(({ agreement }) => agreement.perplexityBefore))!,
    perplexityAfter: geometricMean(points.map(({ agreement }) => agreement.perplexityAfter))!,
    kl: mean(points.map(({ agreement }) => agreement.kl))!,
    topOne: mean(points.map(({ agreement }) => agreement.topOne))!,
    errors: {
      key: mean(points.map(({ errors }) => errors.key.coded)),
      value: mean(points.map(({ errors }) => errors.value.coded)),
    },
    worst: { text: worst.text, kl: worst.agreement.kl },
    seconds: {
      compress: mean(points.map(({ seconds }) => seconds.compress)),
      restore: mean(points.map(({ seconds }) => seconds.restore)),
    },
  };
}

function mean(values: readonly (number | null)[]): number | null {
  if (values.some((value) => value === null)) return null;
  return (values as number[]).reduce((sum, value) => sum + value, 0) / values.length;
}

/** null when one of the values is missing. */
export function geometricMean(values: readonly (number | null)[]): number | null {
  const logarithm = mean(values.map((value) => value === null ? null : Math.log(value)));
  return logarithm === null ? null : Math.exp(logarithm);
}
