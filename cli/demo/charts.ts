/**
 * The plots of the demo page. {@linkcode drawCharts} runs in the browser: its source text is put into the page, so it
 * uses nothing from outside itself.
 *
 * @module
 */
import type uPlotClass from "uplot";
import type { ChartKit } from "../page/chart_kit.ts";
import type { DemoData } from "./data.ts";

/** Draws all plots into the elements with their ids, again whenever width or colour scheme change. */
export function drawCharts(data: DemoData, kit: ChartKit): void {
  const { runs } = data;
  const { uPlot, css, color, percent, wholePercent, axis, plot } = kit;

  const size = (bytes: number | null) => {
    if (bytes === null) return "–";
    if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(2)} MB`;
    return bytes >= 1000
      ? `${(bytes / 1000).toFixed(bytes >= 1e5 || bytes % 1000 === 0 ? 0 : 1)} kB`
      : `${bytes.toFixed(0)} B`;
  };
  const translucent = (color: string, alpha: string) => color + alpha;

  /** Root mean square over up to nine neighbours of the same region: sinks, coded tokens, raw window. */
  function smooth(values: readonly (number | null)[]): (number | null)[] {
    const ends = [data.sinks, data.sinks + data.coded, values.length];
    return values.map((value, t) => {
      if (value === null) return null;
      const region = ends.findIndex((end) => t < end);
      const begin = Math.max(region === 0 ? 0 : ends[region - 1], t - 4);
      const near = values.slice(begin, Math.min(ends[region], t + 5)).filter((v) => v !== null);
      return Math.sqrt(near.reduce((sum, v) => sum + v * v, 0) / near.length);
    });
  }

  /** One line a ratio. */
  function lines(rest: (i: number) => Partial<uPlotClass.Series>): uPlotClass.Series[] {
    return runs.map((run, i) => ({ label: `${run.ratio}×`, stroke: color(i), width: 2, ...rest(i) }));
  }

  function drawSizes(): void {
    // Stacked: the tallest sum first, so that the smaller ones are painted over it.
    const sums = data.partNames.map((_, part) =>
      runs.map((run) => run.parts.slice(0, part + 1).reduce((sum, bytes) => sum + bytes, 0))
    ).reverse();
    const names = [...data.partNames].reverse();
    const x = runs.map((_, i) => i);
    plot("chart-size", {
      height: 340,
      scales: {
        x: { time: false, range: [-0.6, runs.length - 0.4] },
        y: { range: (_u, _min, max) => [0, max * 1.12] },
      },
      axes: [
        axis("target ratio", {
          splits: () => x,
          values: (_u, splits) => splits.map((i) => runs[i] ? `${runs[i].ratio}×` : ""),
          grid: { show: false },
        }),
        axis("size in the file", { size: 64, values: (_u, splits) => splits.map((v) => size(v)) }),
      ],
      legend: { live: true },
      series: [
        { label: "ratio", value: (_u, i) => i === null || runs[i] === undefined ? "–" : `${runs[i].ratio}×` },
        ...names.map((name, i): uPlotClass.Series => {
          const part = data.partNames.length - 1 - i;
          return {
            label: name,
            stroke: css("--card"),
            width: 1,
            fill: css(`--part-${part}`),
            paths: uPlot.paths.bars!({ size: [0.55, 110] }),
            points: { show: false },
            value: (_u, _v, _s, index) => index === null ? "–" : size(runs[index].parts[part]),
          };
        }),
      ],
      hooks: {
        draw: [(u) => {
          const { ctx } = u;
          ctx.save();
          ctx.fillStyle = css("--text");
          ctx.font = `600 ${12 * devicePixelRatio}px system-ui, sans-serif`;
          ctx.textAlign = "center";
          runs.forEach((run, i) => {
            const at = [u.valToPos(i, "x", true), u.valToPos(run.bytesOut, "y", true) - 7 * devicePixelRatio];
            ctx.fillText(`${size(run.bytesOut)} · ${run.fileRatio.toFixed(1)}×`, at[0], at[1]);
          });
          ctx.restore();
        }],
      },
    }, [x, ...sums]);
  }

  function drawStages(): void {
    const x = data.stageNames.map((_, i) => i);
    plot("chart-stages", {
      height: 340,
      scales: {
        x: { time: false, range: [-0.35, x.length - 0.65] },
        y: { distr: 3, range: (_u, min, max) => [min * 0.6, max * 1.5] },
      },
      axes: [
        axis("stage", {
          splits: () => x,
          values: (_u, splits) => splits.map((i) => data.stageNames[i] ?? ""),
          grid: { show: false },
        }),
        axis("bytes a token (log scale)", {
          splits: (u) => {
            const { min, max } = u.scales.y;
            return [1, 10, 100, 1e3, 1e4, 1e5, 1e6].flatMap((power) => [power, 2 * power, 5 * power])
              .filter((v) => v >= min! && v <= max!);
          },
          size: 64,
          values: (_u, splits) => splits.map((v) => v === null ? "" : size(v)),
        }),
      ],
      series: [
        { label: "stage", value: (_u, i) => i === null ? "–" : data.stageNames[i] },
        ...lines(() => ({ points: { show: true, size: 8, fill: css("--card") }, value: (_u, v) => size(v) })),
      ],
    }, [x, ...runs.map((run) => [...run.stages])]);
  }

  function drawLayers(kind: "key" | "value"): void {
    const x = runs[0].layers[kind].map((_, layer) => layer);
    plot(`chart-layers-${kind}`, {
      scales: { x: { time: false }, y: { range: (_u, _min, max) => [0, Math.max(max * 1.08, 1e-6)] } },
      axes: [
        axis("layer"),
        axis("relative error", { size: 58, values: (_u, splits) => splits.map((v) => wholePercent(v)) }),
      ],
      series: [
        { label: "layer", value: (_u, v) => v === null ? "–" : `${v}` },
        ...lines(() => ({ points: { show: true, size: 4 }, value: (_u, v) => percent(v) })),
      ],
    }, [x, ...runs.map((run) => [...run.layers[kind]])]);
  }

  function drawTokens(kind: "key" | "value"): void {
    const x = runs[0].tokens[kind].map((_, token) => token);
    const windowBegin = data.tokens - data.window;
    plot(`chart-tokens-${kind}`, {
      scales: { x: { time: false }, y: { range: (_u, _min, max) => [0, Math.max(max * 1.08, 1e-6)] } },
      axes: [
        axis("token (position in the prompt)"),
        axis("relative error", { size: 58, values: (_u, splits) => splits.map((v) => wholePercent(v)) }),
      ],
      series: [
        { label: "token", value: (_u, v) => v === null ? "–" : `${v}` },
        ...lines(() => ({ width: 1.75, points: { show: false }, value: (_u, v) => percent(v) })),
      ],
      hooks: {
        drawClear: [(u) => {
          if (data.window === 0) return;
          const { ctx, bbox } = u;
          const left = u.valToPos(windowBegin - 0.5, "x", true);
          ctx.save();
          ctx.fillStyle = translucent(css("--part-0"), "33");
          ctx.fillRect(left, bbox.top, bbox.left + bbox.width - left, bbox.height);
          ctx.restore();
        }],
      },
    }, [x, ...runs.map((run) => smooth(run.tokens[kind]))]);
  }

  function drawBits(kind: "key" | "value"): void {
    // Steps of all ratios on one axis of components, which begins at 1 for the logarithm.
    const last = Math.max(...runs.map((run) => run.bits[kind].at(-1)![0]));
    const x = Array.from({ length: last + 1 }, (_, i) => i + 1);
    const columns = runs.map((run) => {
      const levels = run.bits[kind];
      let level = -1;
      return x.map((component) => {
        while (level + 1 < levels.length && levels[level + 1][0] < component) level++;
        return level < 0 ? 0 : levels[level][1];
      });
    });
    plot(`chart-bits-${kind}`, {
      scales: { x: { time: false, distr: 3, range: [1, last + 1] }, y: { range: (_u, _min, max) => [0, max * 1.08] } },
      axes: [
        axis("principal component (log scale)", {
          values: (_u, splits) => splits.map((v) => v !== null && Number.isInteger(Math.log10(v)) ? `${v}` : ""),
        }),
        axis("bits a token", { size: 46 }),
      ],
      series: [
        { label: "component", value: (_u, v) => v === null ? "–" : `${v}` },
        // Plans share levels: what is drawn first is wider, so that it shows beneath.
        ...lines((i) => ({
          width: 2 + 1.75 * (runs.length - 1 - i),
          paths: uPlot.paths.stepped!({ align: 1 }),
          points: { show: false },
          value: (_u, v) => v === null ? "–" : v.toFixed(2),
        })),
      ],
    }, [x, ...columns]);
  }

  kit.keepDrawn(() => {
    drawSizes();
    drawStages();
    for (const kind of ["key", "value"] as const) {
      drawLayers(kind);
      drawTokens(kind);
      drawBits(kind);
    }
  });
}
