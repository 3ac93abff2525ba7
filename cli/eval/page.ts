/**
 * The page of `kvz eval`: one file without a network, with results, plots and plot library inside.
 *
 * @module
 */
import type { EvalResult } from "../../src/eval/point.ts";
import { formatCount } from "../format.ts";
import { chartKit } from "../page/chart_kit.ts";
import { isPageOf } from "../page/generator.ts";
import { escapeHtml } from "../page/html.ts";
import type { PlotLibrary } from "../page/library.ts";
import { framePage, pairOfPlots } from "../page/page.ts";
import { drawEvalPage, type EvalPageData } from "./charts.ts";
import { curveCharts } from "./charts_curves.ts";
import { ratioCharts } from "./charts_ratio.ts";
import { chartScales } from "./charts_scales.ts";
import { STYLE } from "./page_style.ts";
import {
  contextsOf,
  controlRows,
  controlsTable,
  controlVerdict,
  resultsTable,
  retrievalTable,
  textsTable,
} from "./page_tables.ts";
import { firstCurveSet, groupSettings, listCurveSets } from "./settings.ts";

const COMMAND = "kvz eval";

/** Whether a file is a page that {@linkcode renderEvalPage} made; false where there is no such file. */
export function isEvalPage(path: string): Promise<boolean> {
  return isPageOf(COMMAND, path);
}

/** The page as HTML text. */
export function renderEvalPage(result: EvalResult, library: PlotLibrary): string {
  const groups = groupSettings(result);
  const data: EvalPageData = { result, groups, curveSets: listCurveSets(groups) };
  return framePage({
    command: COMMAND,
    title: `kvz: ${result.model} after its cache was compressed`,
    style: STYLE,
    main: [
      header(result),
      bar(data),
      results(data),
      ratioSections(result),
      retrieval(data),
      errorSections(),
      controls(result),
      texts(data),
      `<footer>kvz ${
        escapeHtml(result.version)
      }. Plots by uPlot (MIT). This page was made by <code>kvz eval</code>.</footer>`,
    ].join("\n"),
    data,
    script: `const kit = (${chartKit})(uPlot);
const scales = (${chartScales})();
const ratios = (${ratioCharts})(kit, scales);
const curves = (${curveCharts})(kit, scales);
(${drawEvalPage})(data, { kit, scales, ratios, curves });`,
  }, library);
}

/** "a", "a and b", "a, b and c", "a, b, c and 4 more". */
function listOf(names: readonly string[]): string {
  const shown = names.length > 6 ? [...names.slice(0, 5), `${names.length - 5} more`] : names;
  return shown.length < 2 ? shown.join("") : `${shown.slice(0, -1).join(", ")} and ${shown[shown.length - 1]}`;
}

function header(result: EvalResult): string {
  const contexts = listOf(contextsOf(result).map(formatCount));
  const { profile } = result;
  const names = listOf(result.texts.map(({ name }) => name));
  const failed = controlRows(result).filter((row) => !controlVerdict(row).holds).length;
  const verdict = controlRows(result).length === 0
    ? "<b>not run</b>"
    : failed === 0
    ? '<b class="good">hold</b>'
    : `<b class="bad">${failed} ${failed === 1 ? "does" : "do"} not hold</b>`;
  return `<header>
<h1>What ${escapeHtml(result.model)} says after its KV cache was compressed</h1>
<p class="note">A language model keeps a key and a value vector for every token, layer and head it has read: the KV cache.
Here it read the beginning of a text, its cache was made small, restored, and the model went on reading the rest of the
text from the restored cache. This page compares what it then predicts with what it predicts from the original cache, and
shows where the restored cache differs. Move over a plot to read its values; click a name under a plot to hide its line.</p>
<ul class="facts">
<li>Model <b>${escapeHtml(result.model)}</b>, <b>${escapeHtml(result.geometry)}</b></li>
<li>Texts <b>${result.texts.length}</b>: ${escapeHtml(names)}</li>
<li>Caches of <b>${contexts || "no"} tokens, ${escapeHtml(result.dtype)}</b></li>
${
    profile === null
      ? "<li>Profile <b>none</b></li>"
      : `<li>Profile <b>${escapeHtml(profile.fingerprint.slice(0, 12))}</b>,
calibrated on <b>${formatCount(profile.tokens)} tokens</b> of ${formatCount(profile.sequences)} ${
        profile.heldOut ? "other texts" : "texts; whether these are among them is not known"
      }</li>`
  }
<li>Computed by <b>${escapeHtml(result.backend)}</b></li>
<li>Controls ${verdict}</li>
</ul>
<noscript><p class="bad">The plots and the choice of a context need JavaScript; the tables do not.</p></noscript>
</header>`;
}

/** The selects; the largest context with the most measurements is chosen. */
function bar({ result, groups, curveSets }: EvalPageData): string {
  const contexts = contextsOf(result);
  const measured = (context: number) => result.points.filter((point) => point.context === context).length;
  const chosen = contexts.reduce((best, next) => measured(next) >= measured(best) ? next : best, contexts[0]);
  const option = (value: string, label: string, selected = false) =>
    `<option value="${escapeHtml(value)}"${selected ? " selected" : ""}>${escapeHtml(label)}</option>`;
  const has = (name: "file" | "paper") => result.summaries.some(({ ratios }) => ratios[name] !== null);
  const paper = has("paper") && !has("file");
  return `<form class="bar" autocomplete="off">
<label>Context <select id="context">${
    contexts.map((context) => option(`${context}`, `${formatCount(context)} tokens`, context === chosen)).join("")
  }</select></label>
<fieldset>Ratio <label><input type="radio" name="ratio" id="ratio-file"${paper ? "" : " checked"}> file</label>
<label><input type="radio" name="ratio" id="ratio-paper"${paper ? " checked" : ""}> paper</label></fieldset>
<label>Error curves of <select id="curves">${
    curveSets.map(({ name }, i) => option(`${i}`, name, i === firstCurveSet(groups, curveSets))).join("")
  }</select></label>
<label>over <select id="text">${option("", "the mean of all texts", true)}${
    result.texts.map(({ name }) => option(name, name)).join("")
  }</select></label>
</form>`;
}

function section(title: string, note: string, content: string): string {
  return `<section>
<h2>${title}</h2>
<p class="note">${note}</p>
${content}
</section>`;
}

function results({ result, groups }: EvalPageData): string {
  const table = resultsTable(result, groups);
  return section(
    "Results",
    `Each row is one way to compress, averaged over the texts. A mean can hide a text that fares badly, so the worst one
is named.`,
    `${table || "<p>No method was measured, only controls.</p>"}
<dl>
<dt>target ratio</dt><dd>the bit budget asked for, before DEFLATE</dd>
<dt>paper ratio</dt><dd>16-bit size of the tokens before the raw window ÷ their bytes in the file, as the KVTC paper
reports it</dd>
<dt>file ratio</dt><dd>16-bit size of the whole cache ÷ the whole file: what a disk or a network sees</dd>
<dt>perplexity</dt><dd>how many tokens the model is, in effect, choosing between when it predicts the next; before: from
the original cache, after: from the restored one; smaller is better</dd>
<dt>KL</dt><dd>Kullback–Leibler divergence of the next-token distribution after the restored cache from that after the
original, in nats a token: 0 when both say the same</dd>
<dt>same top token</dt><dd>how often the most likely next token is the same</dd>
<dt>K and V error</dt><dd>‖restored − original‖ ÷ ‖original‖ of keys and values over the coded tokens, that is without
sinks and raw window</dd>
</dl>`,
  );
}

function ratioSections(result: EvalResult): string {
  const several = result.texts.length > 1 ? " Faint points are the single texts." : "";
  return section(
    "Divergence by ratio",
    `How much the predictions change (KL, lower is better) against how small the cache becomes (further right is smaller).
Of two lines the lower one is the better method: it says more of the same at the same size. Numbers at the points are
target ratios.${several} The file ratio counts every byte; the paper ratio leaves out the newest tokens, which are kept
exactly and weigh most in short caches.`,
    `<div id="chart-kl"></div>`,
  ) + section(
    "Perplexity and top token by ratio",
    `Left: by how much the restored cache raises perplexity; the dashed line is the original cache. The scale is linear
within ±1 % and logarithmic outside. Perplexity can stay the same, or even fall, while the predictions change: KL is the
stricter measure. Right: how often the most likely next token stays the same.`,
    `<div class="pair"><div><h3>Increase of perplexity</h3><div id="chart-perplexity"></div></div>
<div><h3>Same top token</h3><div id="chart-top"></div></div></div>`,
  );
}

function retrieval({ result, groups }: EvalPageData): string {
  if (result.retrieval.length === 0) return "";
  const tasks = new Map(
    result.retrieval.map(({ task, context }) => [
      JSON.stringify([task, context]),
      `${task}, ${formatCount(context)} tokens`,
    ]),
  );
  const plots = [...tasks.values()].map((title, i) =>
    `<div><h3>${escapeHtml(title)}</h3><div id="chart-retrieval-${i}"></div></div>`
  );
  return section(
    "Retrieval",
    `Whether the model still finds a fact that stands somewhere in its context: the value of a key (key–value), or a
sentence hidden in a text (needle). Most tokens of a text can be predicted from the few before them, so perplexity
hardly shows such a loss. Grey bars are the original cache, coloured ones the restored cache.`,
    `<div class="pair">${plots.join("\n")}</div>
${retrievalTable(result, groups)}`,
  );
}

function errorSections(): string {
  const plot = (title: string, note: string, id: string) => section(title, note, pairOfPlots(id));
  return [
    plot(
      "Error by layer",
      `Relative error of each layer over all tokens, raw window included. Layer 0 is next to the input.`,
      "chart-layers",
    ),
    plot(
      "Error by position in the context",
      `Relative error over all layers, along the tokens that were compressed. Methods that keep the oldest tokens (sinks)
well or the newest exactly (raw window) have little or no error there. An error of the keys that grows with the position
would be a sign that their rotation (RoPE) was undone wrongly.`,
      "chart-positions",
    ),
    plot(
      "Error by principal component",
      `Relative error along the principal components of the profile, from the strongest direction of the calibration
texts to the weakest, over the coded tokens. 100 % means that a component was dropped; what is more was made worse than
dropping it. Methods that do not use the profile have no curve.`,
      "chart-components",
    ),
    section(
      "Divergence by position in the continuation",
      `KL of the tokens that were predicted after the cache was restored, first to last. As the model goes on, exact new
tokens join the restored ones: a falling curve says that the loss fades, a rising one that errors build up.`,
      `<div id="chart-continuation"></div>`,
    ),
  ].join("\n");
}

function controls(result: EvalResult): string {
  const note = `Two caches whose outcome is known, measured like all others: one that was not touched, from which the
model must say the same, and one full of zeros, from which it must not. If either does not hold, the measurement is
wrong, and so may be everything above.`;
  return section(
    "Controls",
    note,
    controlRows(result).length === 0 ? "<p>No controls were run.</p>" : controlsTable(result),
  );
}

function texts({ result, groups }: EvalPageData): string {
  return section(
    "Every text",
    "All measurements at the chosen context, text by text. The KL in brackets is that of the worst single token.",
    textsTable(result, groups),
  );
}
