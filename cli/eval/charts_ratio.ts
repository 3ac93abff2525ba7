/**
 * Plots over the ratio: a line a method, its texts as faint points, a box with the values of the nearest point.
 * {@linkcode ratioCharts} runs in the browser: its source text is put into the page, so it uses nothing from outside
 * itself.
 *
 * @module
 */
import type uPlotClass from "uplot";
import type { ChartKit } from "../page/chart_kit.ts";
import type { ChartScales, PlotScale } from "./charts_scales.ts";

/** A point of a plot. */
export interface Dot {
  /** The ratio. */
  readonly x: number;
  /** What is plotted over it. */
  readonly y: number;
  /** What the box shows, line by line. */
  readonly hover: string;
}

/** A setting: the mean over its texts, and the texts. */
export interface Mark extends Dot {
  /** Stands beside the point. */
  readonly label: string;
  /** A point a text. */
  readonly each: readonly Dot[];
}

/** A method. */
export interface RatioLine {
  /** In the legend. */
  readonly label: string;
  /** Number of its colour. */
  readonly color: number;
  /** Its settings, in any order. */
  readonly marks: readonly Mark[];
}

/** A plot over the ratio. */
export interface RatioPlot {
  /** Id of its element. */
  readonly id: string;
  /** CSS pixels. */
  readonly height: number;
  readonly xLabel: string;
  readonly yLabel: string;
  /** Makes the upright scale for all values. */
  readonly scale: (values: readonly number[]) => PlotScale;
  readonly lines: readonly RatioLine[];
  /** Where a dashed line goes across, with a word above it. */
  readonly level?: { readonly y: number; readonly label: string };
}

/** Draws {@linkcode RatioPlot}s. */
export interface RatioCharts {
  draw(plot: RatioPlot): void;
}

/** Makes the drawer. */
export function ratioCharts(kit: ChartKit, scales: ChartScales): RatioCharts {
  const drawable = (dot: Dot) => Number.isFinite(dot.x) && Number.isFinite(dot.y) && dot.x > 0;

  function draw(plot: RatioPlot): void {
    const element = kit.byId(plot.id);
    element.replaceChildren();
    const lines = plot.lines.map((line) => ({
      ...line,
      marks: line.marks.filter(drawable).map((mark) => ({ ...mark, each: mark.each.filter(drawable) })),
    })).filter((line) => line.marks.length > 0);
    if (lines.length === 0) {
      element.textContent = "Nothing to plot here: no setting has both values.";
      return;
    }
    const marks = lines.flatMap((line) => line.marks);
    const dots = marks.flatMap((mark) => [mark, ...mark.each]);
    const x = scales.ratio(dots.map((dot) => dot.x));
    const y = plot.scale([...dots.map((dot) => dot.y), ...plot.level === undefined ? [] : [plot.level.y]]);
    const columns = lines.map(({ marks }) => {
      const sorted = [...marks].sort((a, b) => a.x - b.x);
      // Two settings of one ratio are two points: the second goes beside the first, by less than a pixel.
      return { x: sorted.map((mark, i) => mark.x * (1 + i * 1e-9)), y: sorted.map((mark) => y.place(mark.y)) };
    });
    const box = document.createElement("div");
    box.className = "box";
    box.hidden = true;
    kit.plot(plot.id, {
      height: plot.height,
      scales: { x: x.scale, y: y.scale },
      cursor: { x: false, y: false, points: { show: false }, drag: { x: false, y: false } },
      legend: { live: false },
      axes: [
        kit.axis(plot.xLabel, {
          splits: () => [...x.ticks],
          values: (_u, splits) => splits.map((tick) => x.label(tick)),
          filter: (_u, splits) => splits,
        }),
        kit.axis(plot.yLabel, {
          size: 66,
          splits: () => [...y.ticks],
          values: (_u, splits) => splits.map((tick) => y.label(tick)),
          filter: (_u, splits) => splits,
        }),
      ],
      series: [
        { label: plot.xLabel },
        ...lines.map((line): uPlotClass.Series => ({
          label: line.label,
          stroke: kit.color(line.color),
          width: 2.25,
          // Colours repeat after ten.
          dash: [[], [7, 4], [2, 3]][Math.floor(line.color / 10) % 3],
          points: { show: true, size: 8, fill: kit.css("--card"), width: 2 },
        })),
      ],
      hooks: {
        init: [(u) => u.over.appendChild(box)],
        drawAxes: [(u) => drawBeneath(u, lines, plot, y)],
        draw: [(u) => drawLabels(u, lines, y)],
        setCursor: [(u) => showNearest(u, lines, y, box)],
      },
    }, scales.align(columns));
  }

  /** Each text as a faint point, and the level. */
  function drawBeneath(u: uPlotClass, lines: readonly RatioLine[], plot: RatioPlot, y: PlotScale): void {
    const { ctx, bbox } = u;
    const scale = devicePixelRatio;
    ctx.save();
    if (plot.level !== undefined) {
      const at = u.valToPos(plot.level.y, "y", true);
      ctx.strokeStyle = ctx.fillStyle = kit.css("--muted");
      ctx.lineWidth = scale;
      ctx.setLineDash([5 * scale, 4 * scale]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, at);
      ctx.lineTo(bbox.left + bbox.width, at);
      ctx.stroke();
      ctx.font = `${11 * scale}px system-ui, sans-serif`;
      ctx.textAlign = "right";
      ctx.fillText(plot.level.label, bbox.left + bbox.width - 4 * scale, at - 5 * scale);
    }
    lines.forEach((line, i) => {
      if (!u.series[i + 1].show) return;
      ctx.fillStyle = `${kit.color(line.color)}55`;
      for (const dot of line.marks.flatMap((mark) => mark.each)) {
        ctx.beginPath();
        ctx.arc(u.valToPos(dot.x, "x", true), u.valToPos(y.place(dot.y), "y", true), 2.5 * scale, 0, 2 * Math.PI);
        ctx.fill();
      }
    });
    ctx.restore();
  }

  /** Labels beside the points, where they cover neither each other nor a point. */
  function drawLabels(u: uPlotClass, lines: readonly RatioLine[], y: PlotScale): void {
    const { ctx, bbox } = u;
    const scale = devicePixelRatio;
    const shown = lines.filter((_, i) => u.series[i + 1].show);
    const at = (mark: Mark) => [u.valToPos(mark.x, "x", true), u.valToPos(y.place(mark.y), "y", true)];
    const taken = shown.flatMap((line) => line.marks).map((mark) => {
      const [left, top] = at(mark);
      return { left: left - 5 * scale, right: left + 5 * scale, top: top - 5 * scale, bottom: top + 5 * scale };
    });
    ctx.save();
    ctx.font = `600 ${11 * scale}px system-ui, sans-serif`;
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    // A rim, so that lines beneath do not strike the label through.
    ctx.strokeStyle = kit.css("--card");
    ctx.lineWidth = 3 * scale;
    ctx.lineJoin = "round";
    for (const line of shown) {
      ctx.fillStyle = kit.color(line.color);
      for (const mark of line.marks) {
        const width = ctx.measureText(mark.label).width;
        const [left, top] = at(mark);
        const side = width / 2 + 9 * scale;
        const up = 14 * scale;
        const places = [[0, -up], [0, up], [side, up / 2], [-side, -up / 2], [side, -up / 2], [-side, up / 2]];
        for (const [dx, dy] of places) {
          const label = {
            left: left + dx - width / 2,
            right: left + dx + width / 2,
            top: top + dy - 6 * scale,
            bottom: top + dy + 6 * scale,
          };
          const inside = label.left >= bbox.left && label.right <= bbox.left + bbox.width && label.top >= bbox.top &&
            label.bottom <= bbox.top + bbox.height;
          const covers = taken.some((other) =>
            label.left < other.right && other.left < label.right && label.top < other.bottom && other.top < label.bottom
          );
          if (!inside || covers) continue;
          ctx.strokeText(mark.label, left + dx, top + dy);
          ctx.fillText(mark.label, left + dx, top + dy);
          taken.push(label);
          break;
        }
      }
    }
    ctx.restore();
  }

  /** Fills the box with what is nearest to the pointer, within 24 pixels. */
  function showNearest(u: uPlotClass, lines: readonly RatioLine[], y: PlotScale, box: HTMLElement): void {
    const { left = -1, top = -1 } = u.cursor;
    let nearest: { readonly dot: Dot; readonly at: readonly [number, number] } | undefined;
    let distance = left < 0 ? 0 : 24;
    lines.forEach((line, i) => {
      if (!u.series[i + 1].show) return;
      for (const dot of line.marks.flatMap((mark) => [mark, ...mark.each])) {
        const at = [u.valToPos(dot.x, "x"), u.valToPos(y.place(dot.y), "y")] as const;
        const away = Math.hypot(at[0] - left, at[1] - top);
        if (away >= distance) continue;
        distance = away;
        nearest = { dot, at };
      }
    });
    box.hidden = nearest === undefined;
    if (nearest === undefined) return;
    box.textContent = nearest.dot.hover;
    const right = nearest.at[0] > u.over.clientWidth / 2;
    box.style.left = `${nearest.at[0] + (right ? -12 : 12)}px`;
    box.style.top = `${nearest.at[1]}px`;
    box.style.transform = `translate(${right ? "-100%" : "0"}, -50%)`;
  }

  return { draw };
}
