/**
 * Scales of the evaluation's plots. {@linkcode chartScales} runs in the browser: its source text is put into the page,
 * so it uses nothing from outside itself.
 *
 * @module
 */
import type uPlotClass from "uplot";

/** One direction of a plot. */
export interface PlotScale {
  /** As uPlot takes it. */
  readonly scale: uPlotClass.Scale;
  /** Where grid lines are. */
  readonly ticks: readonly number[];
  /** What stands at a grid line. */
  label(tick: number): string;
  /** Where a value is drawn: itself, or the nearest that the scale can show. */
  place(value: number): number;
}

/** Values of a line; null leaves a gap. */
export interface Column {
  /** Ascending or not. */
  readonly x: readonly number[];
  /** As many. */
  readonly y: readonly (number | null)[];
}

/** Makes scales for values; those that are null, infinite or not a number do not count. */
export interface ChartScales {
  /** Logarithmic, down to a power of ten: what is smaller, zero included, is drawn there. */
  log(values: readonly (number | null)[], floor: number, format: (value: number) => string): PlotScale;
  /** Logarithmic, for ratios: marks such as 4×, 8×, 16×. */
  ratio(values: readonly (number | null)[]): PlotScale;
  /** Shares from −∞ to ∞: logarithmic on both sides of ±1 %, linear between. */
  signed(values: readonly (number | null)[]): PlotScale;
  /** Shares on a linear axis, from 0 or from the smallest value. */
  share(values: readonly (number | null)[], fromZero: boolean): PlotScale;
  /** Whole numbers on a linear axis. */
  linear(values: readonly (number | null)[]): PlotScale;
  /** Puts lines with x of their own under one sorted x; undefined where a line has no value. */
  align(columns: readonly Column[]): uPlotClass.AlignedData;
}

/** Makes the makers. */
export function chartScales(): ChartScales {
  const itself = (value: number) => value;
  const percentTick = (tick: number) => `${Number((100 * tick).toPrecision(4))} %`;

  /** Smallest and largest of what can be drawn. */
  function extent(values: readonly (number | null)[], none: [number, number]): [min: number, max: number] {
    let min = Infinity;
    let max = -Infinity;
    for (const value of values) {
      if (value === null || !Number.isFinite(value)) continue;
      if (value < min) min = value;
      if (value > max) max = value;
    }
    return min > max ? none : [min, max];
  }

  /** Stretches a range about its middle, in logarithms, to a factor. */
  function atLeast([min, max]: [number, number], factor: number): [min: number, max: number] {
    if (max / min >= factor) return [min, max];
    const middle = Math.sqrt(min * max);
    const half = Math.sqrt(factor);
    return [middle / half, middle * half];
  }

  /** Powers of ten times each of the steps, between two numbers. */
  function decades(min: number, max: number, steps: readonly number[]): number[] {
    const ticks: number[] = [];
    for (let power = Math.floor(Math.log10(min)); power <= Math.ceil(Math.log10(max)); power++) {
      for (const step of steps) ticks.push(Number(`${step}e${power}`));
    }
    return ticks.filter((tick) => tick >= min && tick <= max);
  }

  function log(values: readonly (number | null)[], floor: number, format: (value: number) => string): PlotScale {
    const place = (value: number) => Math.max(value, floor);
    const [low, high] = extent(values.map((value) => value === null ? null : place(value)), [floor, 1]);
    let [min, max] = atLeast([low, high], 10);
    min = low === floor ? floor / 1.5 : min / 1.25;
    max *= 1.25;
    const ticks = decades(min, max, max / min > 2e3 ? [1] : [1, 2, 5]).filter((tick) => tick >= floor);
    return {
      scale: { distr: 3, range: [min, max] },
      ticks,
      label: (tick) => tick === floor ? `≤ ${format(tick)}` : format(tick),
      place,
    };
  }

  function ratio(values: readonly (number | null)[]): PlotScale {
    const [low, high] = atLeast(extent(values, [1, 64]), 1.8);
    const [min, max] = [low / 1.08, high * 1.08];
    const powers = Array.from({ length: 15 }, (_, i) => 2 ** i);
    const candidates = [
      powers,
      powers.flatMap((power) => [power, 1.5 * power]),
      decades(0.1, 2e4, [1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9]),
      decades(0.1, 2e4, Array.from({ length: 18 }, (_, i) => 1 + i / 2)),
    ].map((ticks) => ticks.filter((tick) => tick >= min && tick <= max));
    return {
      scale: { time: false, distr: 3, range: [min, max] },
      ticks: candidates.find((ticks) => ticks.length >= 4) ?? candidates[3],
      label: (tick) => `${tick}×`,
      place: itself,
    };
  }

  function signed(values: readonly (number | null)[]): PlotScale {
    const linear = 0.01;
    const [low, high] = extent(values, [0, linear]);
    const bent = [Math.min(low, 0), Math.max(high, linear)].map((value) => Math.asinh(value / linear));
    const pad = 0.05 * (bent[1] - bent[0]);
    const [min, max] = [linear * Math.sinh(bent[0] - pad), linear * Math.sinh(bent[1] + pad)];
    // Round shares that are not too close to each other on the bent scale.
    const upwards: number[] = [];
    for (const tick of decades(1e-3, Math.max(max, -min), [1, 2, 5])) {
      const gap = Math.asinh(tick / linear) - Math.asinh((upwards.at(-1) ?? 0) / linear);
      if (gap >= 0.075 * (bent[1] - bent[0])) upwards.push(tick);
    }
    return {
      scale: { distr: 4, asinh: linear, range: [min, max] },
      ticks: [...upwards.map((tick) => -tick).reverse(), 0, ...upwards].filter((tick) => tick >= min && tick <= max),
      label: (tick) => tick > 0 ? `+${percentTick(tick)}` : percentTick(tick).replace("-", "−"),
      place: itself,
    };
  }

  /** Round numbers between two, about six of them. */
  function rounds(min: number, max: number, whole: boolean): number[] {
    const rough = (max - min) / 6;
    const power = 10 ** Math.floor(Math.log10(rough));
    let step = power * [1, 2, 5, 10].find((step) => step * power >= rough * 0.999)!;
    if (whole && step < 1) step = 1;
    const first = Math.ceil(min / step - 1e-9);
    const count = Math.floor(max / step + 1e-9) - first + 1;
    return Array.from({ length: count }, (_, i) => Number(((first + i) * step).toPrecision(12)));
  }

  function share(values: readonly (number | null)[], fromZero: boolean): PlotScale {
    const [least, high] = extent(values, [0, 1]);
    // At least a hundredth, so that labels differ.
    const low = Math.min(fromZero ? 0 : least, high - 0.01);
    const pad = 0.06 * (high - low);
    const [min, max] = [fromZero ? Math.min(0, least) : low - pad, Math.max(high, fromZero ? 0.01 : high) + pad];
    return { scale: { range: [min, max] }, ticks: rounds(min, max, false), label: percentTick, place: itself };
  }

  function linear(values: readonly (number | null)[]): PlotScale {
    let [min, max] = extent(values, [0, 1]);
    if (max - min < 1) [min, max] = [min - 0.5, max + 0.5];
    return {
      scale: { time: false, range: [min, max] },
      ticks: rounds(min, max, true),
      label: (tick) => tick.toString().replace(/\B(?=(\d{3})+$)/g, ","),
      place: itself,
    };
  }

  function align(columns: readonly Column[]): uPlotClass.AlignedData {
    const xs = [...new Set(columns.flatMap((column) => [...column.x]))].sort((a, b) => a - b);
    const at = new Map(xs.map((x, i) => [x, i]));
    const ys = columns.map((column) => {
      const y = new Array<number | null | undefined>(xs.length).fill(undefined);
      column.x.forEach((x, i) => y[at.get(x)!] = column.y[i]);
      return y;
    });
    return [xs, ...ys];
  }

  return { log, ratio, signed, share, linear, align };
}
