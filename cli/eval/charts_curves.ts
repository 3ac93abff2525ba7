/**
 * Plots of where the errors are: a curve a setting over layers, positions or components. {@linkcode curveCharts} runs in
 * the browser: its source text is put into the page, so it uses nothing from outside itself.
 *
 * @module
 */
import type uPlotClass from "uplot";
import type { ChartKit } from "../page/chart_kit.ts";
import type { ChartScales, Column, PlotScale } from "./charts_scales.ts";

/** A curve. */
export interface Curve extends Column {
  /** In the legend. */
  readonly label: string;
  /** Number of its colour. */
  readonly color: number;
}

/** A plot of curves. */
export interface CurvePlot {
  /** Id of its element. */
  readonly id: string;
  readonly xLabel: string;
  /** Name of x in the legend. */
  readonly xName: string;
  readonly yLabel: string;
  /** Makes the scale of x for all values. */
  readonly xScale: (values: readonly number[]) => PlotScale;
  /** Makes the upright scale for all values. */
  readonly yScale: (values: readonly (number | null)[]) => PlotScale;
  /** A value in the legend. */
  readonly format: (value: number) => string;
  /** Whether each value gets a point. */
  readonly points: boolean;
  readonly curves: readonly Curve[];
}

/** Draws {@linkcode CurvePlot}s. */
export interface CurveCharts {
  draw(plot: CurvePlot): void;
}

/** Makes the drawer. */
export function curveCharts(kit: ChartKit, scales: ChartScales): CurveCharts {
  function draw(plot: CurvePlot): void {
    const element = kit.byId(plot.id);
    element.replaceChildren();
    // What JSON or a method cannot give (infinite, not a number) is a gap.
    const curves = plot.curves.map((curve) => ({
      ...curve,
      y: curve.y.map((value) => value === null || !Number.isFinite(value) ? null : value),
    })).filter((curve) => curve.y.some((value) => value !== null));
    if (curves.length === 0) {
      element.textContent = "Nothing to plot here: these curves have no values at this context.";
      return;
    }
    const x = plot.xScale(curves.flatMap((curve) => [...curve.x]));
    const y = plot.yScale(curves.flatMap((curve) => curve.y));
    const columns = curves.map((curve) => ({
      x: curve.x,
      y: curve.y.map((value) => value === null ? null : y.place(value)),
    }));
    const data = scales.align(columns);
    const values = scales.align(curves);
    const axis = (label: string, scale: PlotScale, rest: uPlotClass.Axis) =>
      kit.axis(label, {
        splits: () => [...scale.ticks],
        values: (_u, splits) => splits.map((tick) => scale.label(tick)),
        filter: (_u, splits) => splits,
        ...rest,
      });
    kit.plot(plot.id, {
      height: 290,
      scales: { x: x.scale, y: y.scale },
      axes: [axis(plot.xLabel, x, {}), axis(plot.yLabel, y, { size: 66 })],
      series: [
        {
          label: plot.xName,
          value: (_u, value) => value === null ? "–" : Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, ","),
        },
        ...curves.map((curve, i): uPlotClass.Series => ({
          label: curve.label,
          stroke: kit.color(curve.color),
          width: 1.75,
          // Colours repeat after ten.
          dash: curve.color < 10 ? [] : [7, 4],
          points: { show: plot.points, size: 4 },
          // The value itself: what is drawn may have been moved into the scale.
          value: (_u, _v, _s, index) => {
            const value = index === null ? null : values[i + 1][index] ?? null;
            return value === null ? "–" : plot.format(value);
          },
        })),
      ],
    }, data);
  }

  return { draw };
}
