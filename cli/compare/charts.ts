/**
 * The plot of a comparison's page and what its selects do. {@linkcode drawComparePage} runs in the browser: its source
 * text is put into the page, so it uses nothing from outside itself.
 *
 * @module
 */
import type { EvalSummary } from "../../src/eval/point.ts";
import type { Mark, RatioCharts } from "../eval/charts_ratio.ts";
import type { ChartScales } from "../eval/charts_scales.ts";
import type { ChartKit } from "../page/chart_kit.ts";
import type { CompareResult } from "./result.ts";

/** What the page hands over. */
export interface ComparePageData {
  readonly result: Omit<CompareResult, "points">;
  /** Methods by the number of their colour. */
  readonly methods: readonly string[];
}

/** Draws the plot into "chart-compare", again whenever a select, the width or the colour scheme changes. */
export function drawComparePage(
  { result, methods }: ComparePageData,
  { kit, scales, ratios }: { readonly kit: ChartKit; readonly scales: ChartScales; readonly ratios: RatioCharts },
): void {
  const select = (id: string) => kit.byId(id) as HTMLSelectElement;
  const context = () => Number(select("context").value);
  // JSON has no infinity: what was infinite or not a number comes as null.
  const round = (value: number | null) =>
    value === null ? "–" : value >= 1e-3 || value === 0 ? `${Number(value.toPrecision(3))}` : value.toExponential(1);
  const times = (value: number | null) => value === null ? "–" : `${value.toFixed(2)}×`;
  const time = (value: number | null) => value === null ? "–" : `${round(value)} s`;
  const hover = (row: EvalSummary) =>
    [
      `${row.method} ${row.setting}`.trim(),
      `file ${times(row.ratios.file)}, paper ${times(row.ratios.paper)}` +
      (row.decodedRatio === undefined ? "" : `, decoded ${times(row.decodedRatio)}`),
      `KL ${round(row.kl)} nats`,
      `perplexity ${round(row.perplexityBefore)} → ${round(row.perplexityAfter)}`,
      `same top token ${kit.percent(row.topOne)}`,
      `encode ${time(row.seconds.compress)}, decode ${time(row.seconds.restore)}`,
    ].join("\n");

  /** Lines of summaries of the chosen context. */
  const lines = (measure: (row: EvalSummary) => number) =>
    methods.map((method, color) => ({
      label: method,
      color,
      marks: result.summaries.filter((row) => row.context === context() && row.method === method).flatMap(
        (row): Mark[] =>
          row.ratios.file === null
            ? []
            : [{ x: row.ratios.file, y: measure(row), label: method, each: [], hover: hover(row) }],
      ),
    }));

  /** Lines of a retrieval task, whose caches have a length of their own. */
  const retrievalLines = (column: string) =>
    methods.map((method, color) => ({
      label: method,
      color,
      marks: result.retrieval.filter((point) => `${point.task} ${point.context}` === column && point.method === method)
        .flatMap((point): Mark[] =>
          point.fileRatio === null ? [] : [{
            x: point.fileRatio,
            y: point.after,
            label: method,
            each: [],
            hover: `${method} ${point.setting}\n${kit.percent(point.before)} → ${kit.percent(point.after)} of ` +
              `${point.questions} answers found`,
          }]
        ),
    }));

  const drawAgain = kit.keepDrawn(() => {
    for (const element of document.querySelectorAll<HTMLElement>("[data-context]")) {
      element.hidden = element.dataset.context !== `${context()}`;
    }
    const common = { id: "chart-compare", height: 560, xLabel: "file ratio: 16-bit cache ÷ whole file (log scale)" };
    const measure = select("measure").value;
    if (measure === "kl") {
      ratios.draw({
        ...common,
        yLabel: "KL, nats a token (log scale)",
        scale: (values) => scales.log(values, 1e-6, round),
        lines: lines(({ kl }) => kl),
      });
    } else if (measure === "perplexity") {
      ratios.draw({
        ...common,
        yLabel: "increase of perplexity",
        scale: scales.signed,
        lines: lines(({ perplexityBefore, perplexityAfter }) =>
          perplexityAfter === null ? NaN : perplexityAfter / perplexityBefore - 1
        ),
        level: { y: 0, label: "original cache" },
      });
    } else if (measure === "top") {
      ratios.draw({
        ...common,
        yLabel: "same top token",
        scale: (values) => scales.share(values, false),
        lines: lines(({ topOne }) => topOne),
      });
    } else if (measure === "encode" || measure === "decode") {
      ratios.draw({
        ...common,
        yLabel: `seconds to ${measure} (log scale)`,
        scale: (values) => scales.log(values, 1e-4, round),
        lines: lines(({ seconds }) => (measure === "encode" ? seconds.compress : seconds.restore) ?? NaN),
      });
    } else {
      const column = measure.slice("retrieval ".length);
      const before = result.retrieval.find((point) => `${point.task} ${point.context}` === column)?.before ?? 0;
      ratios.draw({
        ...common,
        yLabel: "answers found",
        scale: (values) => scales.share(values, true),
        level: { y: before, label: "original cache" },
        lines: retrievalLines(column),
      });
    }
  });
  for (const id of ["context", "measure"]) kit.byId(id).addEventListener("change", drawAgain);
}
