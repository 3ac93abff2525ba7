/**
 * The page of `kvz compare`: one table, one plot, in one file without a network.
 *
 * @module
 */
import { chartScales } from "../eval/charts_scales.ts";
import { ratioCharts } from "../eval/charts_ratio.ts";
import { STYLE } from "../eval/page_style.ts";
import { controlRows, controlsTable, controlVerdict } from "../eval/page_tables.ts";
import { isControl } from "../eval/settings.ts";
import { formatCount } from "../format.ts";
import { chartKit } from "../page/chart_kit.ts";
import { isPageOf } from "../page/generator.ts";
import { escapeHtml } from "../page/html.ts";
import type { PlotLibrary } from "../page/library.ts";
import { framePage } from "../page/page.ts";
import { type ComparePageData, drawComparePage } from "./charts.ts";
import type { CompareResult } from "./result.ts";
import { columnOf, compareTable, contextsOf } from "./tables.ts";

const COMMAND = "kvz compare";

/** Whether a file is a page that {@linkcode renderComparePage} made; false where there is no such file. */
export function isComparePage(path: string): Promise<boolean> {
  return isPageOf(COMMAND, path);
}

/** The page as HTML text. */
export function renderComparePage(result: CompareResult, library: PlotLibrary): string {
  const methods = [...new Set(result.summaries.map(({ method }) => method))].filter((method) => !isControl(method));
  const { points: _, ...shown } = result;
  const data: ComparePageData = { result: shown, methods };
  return framePage({
    command: COMMAND,
    title: `kvz: ways to compress the cache of ${result.model}`,
    style: STYLE,
    main: [
      header(result),
      bar(result),
      section(
        "How much is lost at which size",
        `Of two points at one file ratio the one that loses less is the better method; to the right is smaller. Move over
a point to read its values; click a name under the plot to hide its line.`,
        '<div id="chart-compare"></div>',
      ),
      section("All settings", NOTE, compareTable(result, (method) => methods.indexOf(method))),
      leftOut(result),
      section(
        "Controls",
        `An untouched cache, from which the model must say the same, and one full of zeros, from which it must not.`,
        controlRows(result).length === 0 ? "<p>No controls were run.</p>" : controlsTable(result),
      ),
      `<footer>kvz ${
        escapeHtml(result.version)
      }. Plots by uPlot (MIT). This page was made by <code>kvz compare</code>.</footer>`,
    ].join("\n"),
    data,
    script: `const kit = (${chartKit})(uPlot);
const scales = (${chartScales})();
const ratios = (${ratioCharts})(kit, scales);
(${drawComparePage})(data, { kit, scales, ratios });`,
  }, library);
}

const NOTE =
  `needs: what a method must be given beside the cache. artefact: bytes of what was fitted for it on the model,
which are in no ratio. paper: ratio of the tokens before the raw window, without headers; file: of the whole cache and the
whole file; decoded: of what a method held after the continuation, where its rule for decoding acted. ppl and + %: perplexity after the restored cache, and its increase. KL: divergence from the original cache,
nats a token. encode, decode: wall time of one cache.`;

function header(result: CompareResult): string {
  const failed = controlRows(result).filter((row) => !controlVerdict(row).holds).length;
  const verdict = controlRows(result).length === 0
    ? "<b>not run</b>"
    : failed === 0
    ? '<b class="good">hold</b>'
    : `<b class="bad">${failed} ${failed === 1 ? "does" : "do"} not hold</b>`;
  return `<header>
<h1>Ways to compress the KV cache of ${escapeHtml(result.model)}</h1>
<p class="note">Every method got the same caches: the model read the beginning of a text, its cache was made small and
restored, and the model read on. All bytes of a file are counted.</p>
<ul class="facts">
<li>Model <b>${escapeHtml(result.geometry)}</b></li>
<li>Texts <b>${result.texts.length}</b>: ${escapeHtml(result.texts.map(({ name }) => name).join(", "))}</li>
<li>Caches of <b>${contextsOf(result).map(formatCount).join(", ")} tokens, ${escapeHtml(result.dtype)}</b></li>
<li>Computed by <b>${escapeHtml(result.backend)}</b></li>
<li>Controls ${verdict}</li>
</ul>
<noscript><p class="bad">The plot needs JavaScript; the tables do not.</p></noscript>
</header>`;
}

function bar(result: CompareResult): string {
  const contexts = contextsOf(result);
  const option = (value: string, label: string, selected = false) =>
    `<option value="${escapeHtml(value)}"${selected ? " selected" : ""}>${escapeHtml(label)}</option>`;
  const measures = [
    option("kl", "KL", true),
    option("perplexity", "increase of perplexity"),
    option("top", "same top token"),
    ...[...new Set(result.retrieval.map(columnOf))].map((name) =>
      option(`retrieval ${name}`, `retrieval: ${name} tokens`)
    ),
    option("encode", "time to encode"),
    option("decode", "time to decode"),
  ];
  return `<form class="bar" autocomplete="off">
<label>Context <select id="context">${
    contexts.map((context, i) => option(`${context}`, `${formatCount(context)} tokens`, i === contexts.length - 1))
      .join("")
  }</select></label>
<label>Plot <select id="measure">${measures.join("")}</select></label>
</form>`;
}

function section(title: string, note: string, content: string): string {
  return `<section>\n<h2>${title}</h2>\n<p class="note">${note}</p>\n${content}\n</section>`;
}

function leftOut(result: CompareResult): string {
  if (result.leftOut.length === 0) return "";
  const lines = result.leftOut.map(({ method, setting, reason }) =>
    `<dt>${escapeHtml(`${method} ${setting}`.trim())}</dt><dd>${escapeHtml(reason)}</dd>`
  );
  return section("Left out", "Recipes and settings that could not be compared.", `<dl>${lines.join("\n")}</dl>`);
}
