/**
 * The plots of the evaluation's page and what its selects do. {@linkcode drawEvalPage} runs in the browser: its source
 * text is put into the page, so it uses nothing from outside itself.
 *
 * @module
 */
import type { EvalPoint, EvalResult, EvalSummary, RetrievalPoint } from "../../src/eval/point.ts";
import type { ChartKit } from "../page/chart_kit.ts";
import type { Curve, CurveCharts } from "./charts_curves.ts";
import type { Dot, Mark, RatioCharts, RatioLine } from "./charts_ratio.ts";
import type { ChartScales } from "./charts_scales.ts";
import type { CurveSet, SettingGroup } from "./settings.ts";

/** What the page hands over. */
export interface EvalPageData {
  readonly result: EvalResult;
  /** Lines of plots over the ratio. */
  readonly groups: readonly SettingGroup[];
  /** What the select of error curves offers. */
  readonly curveSets: readonly CurveSet[];
}

/** What other functions of the page made. */
export interface EvalPageTools {
  readonly kit: ChartKit;
  readonly scales: ChartScales;
  readonly ratios: RatioCharts;
  readonly curves: CurveCharts;
}

/** Draws all plots into the elements with their ids, again whenever a select, the width or the colour scheme changes. */
export function drawEvalPage(
  { result, groups, curveSets }: EvalPageData,
  { kit, scales, ratios, curves }: EvalPageTools,
): void {
  const select = (id: string) => kit.byId(id) as HTMLSelectElement;
  // JSON has no infinity: what was infinite or not a number comes as null.
  const float = (value: number | null) =>
    value === null
      ? "–"
      : value === 0
      ? "0"
      : Math.abs(value) >= 1e-3
      ? `${Number(value.toPrecision(3))}`
      : value.toExponential(1);
  const kl = (value: number | null) => value === null ? "–" : `${float(value)} nats`;
  const perplexity = (value: number | null) => value === null || value >= 1e4 ? float(value) : value.toFixed(2);
  const round = (value: number) => value >= 1e-3 ? `${Number(value.toPrecision(2))}` : value.toExponential(0);
  const logKl = (values: readonly (number | null)[]) => scales.log(values, 1e-6, round);

  const context = () => Number(select("context").value);
  const ratioName = () => (kit.byId("ratio-paper") as HTMLInputElement).checked ? "paper" : "file";

  /** The points of a setting at the chosen context. */
  function pointsOf(method: string, setting: string): EvalPoint[] {
    return result.points.filter((point) =>
      point.context === context() && point.method === method && point.setting === setting
    );
  }

  /** A line a group for a plot of `measure` over the ratio. */
  function ratioLines(measure: (of: EvalSummary | EvalPoint["agreement"]) => number): RatioLine[] {
    const describe = (
      title: string,
      { paper, file }: EvalSummary["ratios"],
      of: EvalSummary | EvalPoint["agreement"],
    ) =>
      [
        title,
        `file ${file === null ? "–" : `${file.toFixed(2)}×`}, paper ${paper === null ? "–" : `${paper.toFixed(2)}×`}`,
        `KL ${kl(of.kl)}`,
        `perplexity ${perplexity(of.perplexityBefore)} → ${perplexity(of.perplexityAfter)}`,
        `same top token ${kit.percent(of.topOne)}`,
      ].join("\n");
    return groups.map((group) => ({
      label: group.name,
      color: group.color,
      marks: group.members.flatMap(({ method, setting, label }): Mark[] => {
        const summary = result.summaries.find((summary) =>
          summary.context === context() && summary.method === method && summary.setting === setting
        );
        const x = summary?.ratios[ratioName()] ?? null;
        if (summary === undefined || x === null) return [];
        const points = pointsOf(method, setting);
        const each = points.flatMap((point): Dot[] => {
          const x = point.ratios[ratioName()];
          const hover = describe(`${method} ${setting}: ${point.text}`, point.ratios, point.agreement);
          return x === null ? [] : [{ x, y: measure(point.agreement), hover }];
        });
        const texts = `mean of ${summary.texts} ${summary.texts === 1 ? "text" : "texts"}`;
        const hover = describe(`${method} ${setting}: ${texts}`, summary.ratios, summary);
        return [{
          x,
          y: measure(summary),
          label,
          each: each.length > 1 ? each : [],
          hover,
        }];
      }),
    }));
  }

  function drawRatioPlots(): void {
    const xLabel = ratioName() === "file"
      ? "file ratio: 16-bit cache ÷ whole file (log scale)"
      : "paper ratio: without the raw window (log scale)";
    ratios.draw({
      id: "chart-kl",
      height: 460,
      xLabel,
      yLabel: "KL, nats a token (log scale)",
      scale: logKl,
      lines: ratioLines(({ kl }) => kl),
    });
    ratios.draw({
      id: "chart-perplexity",
      height: 340,
      xLabel,
      yLabel: "increase of perplexity",
      scale: scales.signed,
      lines: ratioLines((
        { perplexityBefore, perplexityAfter }: { perplexityBefore: number; perplexityAfter: number | null },
      ) => perplexityAfter === null ? NaN : perplexityAfter / perplexityBefore - 1),
      level: { y: 0, label: "original cache" },
    });
    ratios.draw({
      id: "chart-top",
      height: 340,
      xLabel,
      yLabel: "same top token",
      scale: (values) => scales.share(values, false),
      lines: ratioLines(({ topOne }) => topOne),
    });
  }

  /** Mean of lists, place by place, over what is known. */
  function meanOf(lists: readonly (readonly (number | null)[])[]): (number | null)[] {
    const length = lists.reduce((most, list) => Math.max(most, list.length), 0);
    return Array.from({ length }, (_, i) => {
      const known = lists.map((list) => list[i] ?? null).filter((value) => value !== null);
      return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
    });
  }

  /** The middles of `count` equal stretches of `length`. */
  const middles = (count: number, length: number) =>
    Array.from({ length: count }, (_, i) => (i + 0.5) * length / count);

  /** Curves of the chosen set and text: x and y of a point, y averaged over the points. */
  function curvesOf(
    x: (point: EvalPoint, count: number) => readonly number[],
    y: (point: EvalPoint) => readonly (number | null)[] | null,
  ): Curve[] {
    const text = select("text").value;
    const set = curveSets[Number(select("curves").value)];
    return (set?.members ?? []).flatMap(({ method, setting, curve, color }): Curve[] => {
      const points = pointsOf(method, setting).filter((point) => text === "" || point.text === text);
      const lists = points.map(y).filter((list) => list !== null);
      if (lists.length === 0) return [];
      const mean = meanOf(lists);
      return [{ label: curve, color, x: x(points[0], mean.length), y: mean }];
    });
  }

  function drawErrorPlots(kind: "key" | "value"): void {
    const common = { yLabel: "relative error", format: kit.percent };
    const fromZero = (values: readonly (number | null)[]) => scales.share(values, true);
    curves.draw({
      ...common,
      id: `chart-layers-${kind}`,
      xLabel: "layer",
      xName: "layer",
      xScale: scales.linear,
      yScale: fromZero,
      points: true,
      curves: curvesOf((_, count) => Array.from({ length: count }, (_, i) => i), (point) => point.errors[kind].layers),
    });
    curves.draw({
      ...common,
      id: `chart-positions-${kind}`,
      xLabel: "position in the context, tokens",
      xName: "token",
      xScale: (values) => scales.linear([...values, 0, context()]),
      yScale: fromZero,
      points: false,
      curves: curvesOf((point, count) => middles(count, point.context), (point) => point.errors[kind].positions),
    });
    const components = curvesOf(
      (point) => point.errors[kind].components!.first.map((first) => first + 1),
      (point) => point.errors[kind].components?.errors ?? null,
    );
    const last = (values: readonly number[]) => values.reduce((a, b) => Math.max(a, b), 10);
    curves.draw({
      ...common,
      id: `chart-components-${kind}`,
      xLabel: "principal component (log scale)",
      xName: "component from",
      xScale: (values) => ({
        scale: { time: false, distr: 3, range: [1, last(values)] },
        ticks: [1, 10, 100, 1000, 10_000, 100_000].filter((tick) => tick <= last(values)),
        label: (tick) => `${tick}`,
        place: (value) => value,
      }),
      yScale: (values) => scales.log(values, 1e-4, kit.wholePercent),
      points: true,
      curves: components,
    });
  }

  function drawContinuation(): void {
    curves.draw({
      id: "chart-continuation",
      xLabel: "position in the continuation, tokens",
      xName: "token",
      yLabel: "KL, nats a token (log scale)",
      xScale: (values) => scales.linear([...values, 0]),
      yScale: logKl,
      format: kl,
      points: false,
      curves: curvesOf(
        (point, count) => middles(count, point.agreement.tokens),
        (point) => point.agreement.klByPosition,
      ),
    });
  }

  /** A plot a task and context; their ids count up as the page's do. */
  function drawRetrieval(): void {
    const tasks = new Map<string, RetrievalPoint[]>();
    for (const point of result.retrieval) {
      const key = JSON.stringify([point.task, point.context]);
      tasks.set(key, [...tasks.get(key) ?? [], point]);
    }
    [...tasks.values()].forEach((points, i) => {
      ratios.draw({
        id: `chart-retrieval-${i}`,
        height: 300,
        xLabel: "file ratio (log scale)",
        yLabel: "answers found",
        scale: (values) => scales.share(values, true),
        level: { y: points[0].before, label: "original cache" },
        lines: groups.map(({ name, color, members }) => ({
          label: name,
          color,
          marks: members.flatMap(({ method, setting, label }): Mark[] => {
            const point = points.find((point) => point.method === method && point.setting === setting);
            if (point === undefined || point.fileRatio === null) return [];
            const found = `${kit.percent(point.before)} → ${kit.percent(point.after)}`;
            const hover = `${method} ${setting}\n${found} of ${point.questions} answers found`;
            return [{ x: point.fileRatio, y: point.after, label, each: [], hover }];
          }),
        })),
      });
    });
  }

  const drawAgain = kit.keepDrawn(() => {
    for (const element of document.querySelectorAll<HTMLElement>("[data-context]")) {
      element.hidden = element.dataset.context !== `${context()}`;
    }
    drawRatioPlots();
    for (const kind of ["key", "value"] as const) drawErrorPlots(kind);
    drawContinuation();
    drawRetrieval();
  });
  for (const id of ["context", "curves", "text", "ratio-file", "ratio-paper"]) {
    kit.byId(id).addEventListener("change", drawAgain);
  }
}
