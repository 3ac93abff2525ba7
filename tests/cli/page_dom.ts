/**
 * Runs a page's own script against stand-ins for the browser and uPlot, which check what uPlot asks of its caller and
 * call back as it does. What a page looks like is for a browser to show.
 *
 * @module
 */
import type uPlotClass from "uplot";
import { assert, assertEquals } from "deno-std/assert";

/** An element with an id, as far as the pages use it. */
export interface PageElement {
  readonly id: string;
  value: string;
  checked: boolean;
  hidden: boolean;
  textContent: string;
  readonly dataset: Record<string, string>;
}

/** A plot that stands on the page. */
export interface DrawnChart {
  readonly id: string;
  readonly options: uPlotClass.Options;
  readonly columns: uPlotClass.AlignedData;
  /** Text that hooks drew. */
  readonly texts: readonly string[];
  /** Points that hooks drew. */
  readonly points: number;
  /** Names in the legend, without x. */
  readonly labels: readonly string[];
  /** Grid labels of x and y. */
  readonly ticks: readonly [x: readonly string[], y: readonly string[]];
  /** Moves the pointer to a place in the plot; returns what the plot's box shows then. */
  hover(x: number, y: number): string | null;
}

/** A page whose script has run. */
export interface RunningPage {
  /** The plots, by the id of their element. */
  readonly charts: ReadonlyMap<string, DrawnChart>;
  /** The element with an id. */
  element(id: string): PageElement;
  /** Elements with a `data-context`. */
  readonly bodies: readonly PageElement[];
  /** Sets a select or a radio button and tells the script. */
  change(id: string, value: string | boolean): void;
}

const WIDTH = 600;

class FakeElement implements PageElement {
  value = "";
  checked = false;
  hidden = false;
  textContent = "";
  className = "";
  readonly clientWidth = WIDTH;
  readonly dataset: Record<string, string> = {};
  readonly style: Record<string, string> = {};
  readonly listeners: (() => void)[] = [];
  readonly children: FakeElement[] = [];

  constructor(readonly id: string) {}

  replaceChildren(): void {
    this.textContent = "";
    this.children.length = 0;
  }
  appendChild(child: FakeElement): void {
    this.children.push(child);
  }
  addEventListener(_type: string, listener: () => void): void {
    this.listeners.push(listener);
  }
}

/** Runs the last script of a page in a scope that holds nothing else of the program. */
export function runPage(page: string): RunningPage {
  const scripts = [...page.matchAll(/<script[^>]*>([^]*?)<\/script>/g)].map((match) => match[1]);
  assertEquals(scripts.length, 3);
  const markup = page.replaceAll(/<(script|style)[^>]*>[^]*?<\/\1>/g, "");
  const elements = new Map<string, FakeElement>();
  for (const [tag, id] of markup.matchAll(/<\w+[^>]* id="([\w-]+)"[^>]*>/g)) {
    assert(!elements.has(id), `two elements have the id ${id}`);
    const element = new FakeElement(id);
    element.checked = / checked>/.test(tag);
    elements.set(id, element);
  }
  for (const [, id, options] of markup.matchAll(/<select id="([\w-]+)">([^]*?)<\/select>/g)) {
    const all = [...options.matchAll(/<option value="([^"]*)"( selected)?>/g)];
    elements.get(id)!.value = unescapeHtml((all.find((option) => option[2]) ?? all[0])?.[1] ?? "");
  }
  elements.set("data", Object.assign(new FakeElement("data"), { textContent: scripts[1] }));
  const bodies = [...markup.matchAll(/data-context="(\d+)"/g)].map(([, context]) => {
    const element = new FakeElement("");
    element.dataset.context = context;
    return element;
  });

  const charts = new Map<string, DrawnChart>();
  const document = {
    documentElement: new FakeElement("html"),
    getElementById: (id: string) => elements.get(id) ?? null,
    createElement: (tag: string) => new FakeElement(tag),
    querySelectorAll: (selector: string) => {
      assertEquals(selector, "[data-context]");
      return bodies;
    },
  };
  const globals = {
    document,
    uPlot: fakePlots(charts),
    getComputedStyle: () => ({ getPropertyValue: (name: string) => ` ${name} ` }),
    matchMedia: () => ({ addEventListener: () => {} }),
    addEventListener: () => {},
    innerWidth: 1200,
    devicePixelRatio: 2,
  };
  new Function(...Object.keys(globals), scripts[2])(...Object.values(globals));
  return {
    charts,
    element: (id) => elements.get(id)!,
    bodies,
    change(id, value) {
      const element = elements.get(id)!;
      if (typeof value === "boolean") {
        for (const other of ["ratio-file", "ratio-paper"]) elements.get(other)!.checked = other === id;
      } else element.value = value;
      for (const listener of element.listeners) listener();
    },
  };
}

/** A class that takes the place of uPlot and keeps what was drawn. */
function fakePlots(charts: Map<string, DrawnChart>): unknown {
  return class {
    readonly over = Object.assign(new FakeElement("over"), { clientWidth: WIDTH });
    readonly bbox = { left: 0, top: 0, width: 2 * WIDTH, height: 2 * 300 };
    readonly series: { readonly show: boolean }[];
    cursor: { left?: number; top?: number } = {};
    readonly ctx: unknown;
    readonly #options: uPlotClass.Options;
    readonly #element: FakeElement;

    constructor(options: uPlotClass.Options, columns: uPlotClass.AlignedData, element: FakeElement) {
      this.#options = options;
      this.#element = element;
      this.series = options.series.map(() => ({ show: true }));
      assert(!charts.has(element.id), `${element.id} is drawn twice`);
      checkColumns(options, columns);
      const texts: string[] = [];
      let points = 0;
      const methods: Record<string, unknown> = {
        fillText: (text: string) => texts.push(text),
        arc: (x: number, y: number) => points += Number.isFinite(x) && Number.isFinite(y) ? 1 : NaN,
        measureText: (text: string) => ({ width: 12 * text.length }),
      };
      this.ctx = new Proxy({}, { get: (_t, name: string) => methods[name] ?? (() => {}), set: () => true });
      const u = this as unknown as uPlotClass;
      const { hooks = {}, axes = [], series } = options;
      for (const hook of [...hooks.init ?? []]) (hook as (u: uPlotClass) => void)(u);
      for (const hook of [...hooks.drawAxes ?? [], ...hooks.draw ?? []]) (hook as (u: uPlotClass) => void)(u);
      const ticks = axes.map((axis) => {
        const splits = (axis.splits as (u: uPlotClass) => number[])(u);
        const labels = (axis.values as (u: uPlotClass, splits: number[]) => string[])(u, splits);
        assert(labels.every((label) => label.length > 0));
        assertEquals(new Set(labels).size, labels.length, `labels of ${element.id} differ: ${labels}`);
        return labels;
      }) as [string[], string[]];
      for (const [i, { value }] of series.entries()) {
        if (typeof value !== "function") continue;
        // deno-lint-ignore no-explicit-any
        const show = value as any;
        columns[0].forEach((_x, index) => assert(show(u, columns[i][index] ?? null, i, index).length > 0));
        assertEquals(show(u, null, i, null), "–");
      }
      charts.set(element.id, {
        id: element.id,
        options,
        columns,
        texts,
        points,
        labels: series.slice(1).map(({ label }) => `${label}`),
        ticks,
        hover: (x, y) => {
          this.cursor = { left: this.valToPos(x, "x"), top: this.valToPos(y, "y") };
          for (const hook of hooks.setCursor ?? []) (hook as (u: uPlotClass) => void)(u);
          const [box] = this.over.children;
          return box.hidden ? null : box.textContent;
        },
      });
    }

    valToPos(value: number, scale: string, canvas = false): number {
      const { range, distr = 1, asinh = 1 } = this.#options.scales![scale];
      const bend = (v: number) => distr === 3 ? Math.log(v) : distr === 4 ? Math.asinh(v / asinh) : v;
      const [min, max] = (range as [number, number]).map(bend);
      const share = (bend(value) - min) / (max - min);
      return (scale === "x" ? share * WIDTH : (1 - share) * 300) * (canvas ? 2 : 1);
    }

    destroy(): void {
      charts.delete(this.#element.id);
    }
  };
}

/** What uPlot takes for granted. */
function checkColumns({ series, scales = {} }: uPlotClass.Options, columns: uPlotClass.AlignedData): void {
  assertEquals(columns.length, series.length);
  const [xs, ...ys] = columns;
  assert(xs.length > 0);
  xs.forEach((x, i) => assert(Number.isFinite(x) && (i === 0 || x > xs[i - 1]), "x ascends"));
  for (const name of ["x", "y"]) {
    const { range, distr } = scales[name];
    const [min, max] = range as [number, number];
    assert(min < max && (distr !== 3 || min > 0), `range of ${name}: ${min} to ${max}`);
    for (const value of (name === "x" ? [xs] : ys).flatMap((column) => [...column])) {
      if (value === null || value === undefined) continue;
      assert(value >= min && value <= max, `${value} is outside ${min} to ${max}`);
    }
  }
  for (const column of ys) assertEquals(column.length, xs.length);
}

function unescapeHtml(text: string): string {
  const names: Record<string, string> = { lt: "<", gt: ">", quot: '"', "#39": "'", amp: "&" };
  return text.replace(/&([\w#]+);/g, (_all, name) => names[name]);
}
