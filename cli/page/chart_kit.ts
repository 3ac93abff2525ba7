/**
 * What the plots of all pages share. {@linkcode chartKit} runs in the browser: its source text is put into the page, so
 * it uses nothing from outside itself.
 *
 * @module
 */
import type uPlotClass from "uplot";

/** Tools of a page's plots. */
export interface ChartKit {
  /** The plot library. */
  readonly uPlot: typeof uPlotClass;
  /** Value of a CSS variable of the page in the current colour scheme. */
  css(name: string): string;
  /** The element with an id. */
  byId(id: string): HTMLElement;
  /** Colour of the line with a number; they repeat after ten. */
  color(line: number): string;
  /** 0.1234 → "12.3 %", "–" for null. */
  percent(value: number | null): string;
  /** For axis labels, which are round. */
  wholePercent(value: number | null): string;
  /** Grid, ticks and fonts of an axis. */
  axis(label: string, rest?: uPlotClass.Axis): uPlotClass.Axis;
  /** Draws a plot into the element with an id. */
  plot(id: string, options: Partial<uPlotClass.Options>, columns: uPlotClass.AlignedData): uPlotClass;
  /**
   * Calls back now and whenever width or colour scheme have changed, each time after all plots were removed.
   *
   * @returns does so at any other time
   */
  keepDrawn(draw: () => void): () => void;
}

/** Makes the tools. */
export function chartKit(uPlot: typeof uPlotClass): ChartKit {
  const css = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const byId = (id: string) => document.getElementById(id)!;
  let drawn: uPlotClass[] = [];

  function axis(label: string, rest: uPlotClass.Axis = {}): uPlotClass.Axis {
    return {
      stroke: css("--muted"),
      font: "12px system-ui, sans-serif",
      labelFont: "12px system-ui, sans-serif",
      label,
      labelSize: 18,
      labelGap: 0,
      size: 30,
      gap: 4,
      grid: { stroke: css("--grid"), width: 1 },
      ticks: { stroke: css("--grid"), width: 1, size: 4 },
      ...rest,
    };
  }

  function plot(id: string, options: Partial<uPlotClass.Options>, columns: uPlotClass.AlignedData): uPlotClass {
    const element = byId(id);
    const chart = new uPlot(
      {
        width: element.clientWidth,
        height: 280,
        cursor: { points: { size: 7 }, drag: { x: false, y: false } },
        series: [],
        ...options,
      },
      columns,
      element,
    );
    drawn.push(chart);
    return chart;
  }

  function keepDrawn(draw: () => void): () => void {
    const drawAgain = () => {
      for (const chart of drawn) chart.destroy();
      drawn = [];
      draw();
    };
    drawAgain();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAgain);
    let waiting: ReturnType<typeof setTimeout> | undefined;
    let width = innerWidth;
    addEventListener("resize", () => {
      if (innerWidth === width) return;
      width = innerWidth;
      clearTimeout(waiting);
      waiting = setTimeout(drawAgain, 100);
    });
    return drawAgain;
  }

  return {
    uPlot,
    css,
    byId,
    color: (line) => css(`--run-${line % 10}`),
    percent: (value) => value === null ? "–" : `${(100 * value).toFixed(1)} %`,
    wholePercent: (value) => value === null ? "" : `${Number((100 * value).toPrecision(6))} %`,
    axis,
    plot,
    keepDrawn,
  };
}
