/**
 * Markdown tables of evaluation points.
 *
 * @module
 */
import type { EvalPoint } from "../../src/eval/point.ts";
import { summarize } from "../../src/eval/summary.ts";

/** A number with three significant digits; a dash for none. */
export function digits(value: number | null): string {
  if (value === null) return "–";
  return Math.abs(value) < 1000 ? String(Number(value.toPrecision(3))) : value.toFixed(0);
}

/** Rows and a header, with bars. */
export function markdown(header: readonly string[], rows: readonly (readonly string[])[]): string {
  return [header, header.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** Every point of one text. */
export function pointTable(points: readonly EvalPoint[]): string {
  return markdown(
    ["method", "setting", "KL", "perplexity", "same top token", "K error", "V error", "paper ratio"],
    points.map(({ method, setting, agreement, errors, ratios }) => [
      method,
      setting,
      digits(agreement.kl),
      `${digits(agreement.perplexityBefore)} → ${digits(agreement.perplexityAfter)}`,
      `${(100 * agreement.topOne).toFixed(1)} %`,
      digits(errors.key.coded),
      digits(errors.value.coded),
      digits(ratios.paper),
    ]),
  );
}

/** Means over the texts. */
export function meanTable(points: readonly EvalPoint[]): string {
  return markdown(
    ["method", "setting", "KL", "perplexity", "same top token", "K error", "V error", "paper ratio", "largest KL"],
    summarize(points).map((
      { method, setting, kl, perplexityBefore, perplexityAfter, topOne, errors, ratios, worst },
    ) => [
      method,
      setting,
      digits(kl),
      `${digits(perplexityBefore)} → ${digits(perplexityAfter)}`,
      `${(100 * topOne).toFixed(1)} %`,
      digits(errors.key),
      digits(errors.value),
      digits(ratios.paper),
      `${digits(worst.kl)} (${worst.text})`,
    ]),
  );
}

/** A matrix of rows by ratios, means over the texts: KL, perplexity and the errors of K and V. */
export function ratioMatrix(
  points: readonly EvalPoint[],
  rows: readonly { readonly name: string; readonly has: (point: EvalPoint) => boolean }[],
  ratios: readonly number[],
): string {
  return markdown(
    ["", ...ratios.map((ratio) => `${ratio}×`)],
    rows.map(({ name, has }) => [
      name,
      ...ratios.map((ratio) => {
        const [summary] = summarize(points.filter((point) => has(point) && point.options.ratio === ratio));
        if (summary === undefined) return "–";
        const { kl, perplexityAfter, errors } = summary;
        return `${digits(kl)} / ${digits(perplexityAfter)} / ${digits(errors.key)} / ${digits(errors.value)}`;
      }),
    ]),
  );
}
