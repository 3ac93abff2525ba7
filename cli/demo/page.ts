/**
 * The demo page: one file without a network, with data, plots and plot library inside.
 *
 * @module
 */
import { createRequire } from "node:module";
import { formatCount, formatError, formatRatio } from "../format.ts";
import { drawCharts } from "./charts.ts";
import type { DemoData } from "./data.ts";
import { STYLE } from "./style.ts";

/** uPlot's files for {@linkcode renderPage}. */
export interface PlotLibrary {
  readonly script: string;
  readonly style: string;
}

/** Marks a page as made by the demo, so that the next demo may replace it. */
export const GENERATOR = '<meta name="generator" content="kvz demo">';

/** Where uPlot's files are installed. */
export async function plotLibraryPaths(): Promise<{ readonly script: string; readonly style: string }> {
  // Packing lists as dependencies what is imported; its files alone are used.
  await import("uplot");
  const { resolve } = createRequire(import.meta.url);
  return { script: resolve("uplot/dist/uPlot.iife.min.js"), style: resolve("uplot/dist/uPlot.min.css") };
}

/** The page as HTML text. */
export function renderPage(data: DemoData, library: PlotLibrary): string {
  const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(2)} MB`;
  const best = data.runs[data.runs.length - 1];
  const first = data.runs[0];
  const rows = data.runs.map((run, i) =>
    `<tr><td><span class="dot" style="background:var(--run-${i % 6})"></span>${run.ratio}×</td>` +
    [
      formatCount(run.bytesOut),
      formatRatio(run.paperRatio),
      formatRatio(run.fileRatio),
      formatError(run.error.key),
      formatError(run.error.value),
      formatCount(run.compressTokensPerSecond),
      formatCount(run.decompressTokensPerSecond),
    ].map((cell) => `<td>${cell}</td>`).join("") + "</tr>"
  ).join("\n");
  const pair = (id: string) =>
    `<div class="pair"><div><h3>Keys</h3><div id="${id}-key"></div></div>` +
    `<div><h3>Values</h3><div id="${id}-value"></div></div></div>`;
  const model = escapeHtml(data.model);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
${GENERATOR}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>kvz: the KV cache of ${model}, compressed</title>
<style>${library.style}${STYLE}</style>
</head>
<body>
<main>
<header>
<h1>${data.tokens} tokens of ${model}: ${megabytes(data.fp16Bytes)} of KV cache
in ${megabytes(best.bytesOut)} at ${best.ratio}×</h1>
<p class="note">A language model keeps a key and a value vector for every token, layer and head it has read: the KV cache.
Storing it saves reading the prompt again. kvz makes it small with the KVTC method and gives it back, nearly the same.
This page shows what that costs and what it loses, at ${data.runs.length} compression ratios. Move over a plot to read its
values.</p>
<ul class="facts">
<li>Model <b>${escapeHtml(data.geometry)}</b></li>
<li>Cache <b>${data.tokens} tokens, ${escapeHtml(data.dtype)}</b></li>
<li>Profile <b>${data.profile.fingerprint.slice(0, 12)}</b>, calibrated on
<b>${formatCount(data.profile.tokens)} tokens</b> of ${formatCount(data.profile.sequences)} other texts</li>
<li>Computed by <b>${escapeHtml(data.backend)}</b></li>
</ul>
</header>

<section>
<h2>Results</h2>
<div class="scroll"><table class="results">
<thead><tr>
<th class="col">target<br>ratio</th><th class="col">file,<br>bytes</th><th class="col">paper<br>ratio</th>
<th class="col">file<br>ratio</th><th class="col">K error,<br>relative</th><th class="col">V error,<br>relative</th>
<th class="col">compress,<br>tokens/s</th><th class="col">restore,<br>tokens/s</th>
</tr></thead>
<tbody>
${rows}
</tbody></table></div>
<dl>
<dt>target ratio</dt><dd>the bit budget asked for, before DEFLATE</dd>
<dt>paper ratio</dt><dd>16-bit size of the tokens before the raw window ÷ their bytes in the file, as the KVTC paper
reports it</dd>
<dt>file ratio</dt><dd>16-bit size of the whole cache ÷ the whole file; a cache of only ${data.tokens} tokens is held back
by the ${data.window} newest, which are kept exactly</dd>
<dt>relative error</dt><dd>‖restored − original‖ ÷ ‖original‖ over the ${data.coded} coded tokens</dd>
</dl>
</section>

<section>
<h2>Where the bytes go</h2>
<p class="note">The cache takes ${
    megabytes(data.fp16Bytes)
  } as 16-bit numbers. Left: what the file holds at each ratio. The
${data.window} newest tokens stay as they are (raw window) and the ${data.sinks} oldest go to 8-bit floats (sinks); these
do not shrink with the ratio. All others are transform-coded: codes are the quantized numbers, scales their ranges.
Right: what one of those coded tokens takes after each stage, that is as 16-bit numbers of the cache, as 16-bit numbers
of the principal components kept, quantized, and after DEFLATE.</p>
<div class="pair">
<div><h3>Size of the file by what it holds</h3><div id="chart-size"></div></div>
<div><h3>A coded token, stage by stage</h3><div id="chart-stages"></div></div>
</div>
</section>

<section>
<h2>Error by layer</h2>
<p class="note">Relative error of each layer over all tokens, raw window included. Layer 0 is next to the input.</p>
${pair("chart-layers")}
</section>

<section>
<h2>Error by position</h2>
<p class="note">Relative error over all layers, smoothed over nine neighbouring tokens. The shaded tokens at the right are the raw window, whose error
is zero. An error that grows with the position would be a sign that the keys' rotation (RoPE) was undone wrongly.</p>
${pair("chart-tokens")}
</section>

<section>
<h2>Bits by component</h2>
<p class="note">PCA turns the ${
    formatCount(data.components.key)
  } strongest directions of all layers together into components, by
falling variance. Dynamic programming decides how many bits each component gets: none, 2, 4 or 8, plus its share of
the 32 bits of shift and scale that its group of 1, 16, 64, 256 or 1024 components carries a token. A lower line is a
smaller file. Where plans agree, the lower ratio shows as the wider line beneath.</p>
${pair("chart-bits")}
</section>

<footer>kvz ${data.version}. Plots by uPlot (MIT). Speeds were measured after one run to warm up; this page was made by
<code>kvz demo</code> from ${first.ratio}× to ${best.ratio}×.</footer>
</main>
<script>${inlineScript(library.script)}</script>
<script id="data" type="application/json">${JSON.stringify(data, shortNumber).replaceAll("<", "\\u003c")}</script>
<script>(${
    inlineScript(drawCharts.toString())
  })(JSON.parse(document.getElementById("data").textContent), uPlot);</script>
</body>
</html>
`;
}

/** Five digits are more than a plot can show. */
function shortNumber(_key: string, value: unknown): unknown {
  return typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(5)) : value;
}

/** Text inside a script element must not end it. */
function inlineScript(text: string): string {
  return text.replace(/<\/(script)/gi, "<\\/$1");
}

function escapeHtml(text: string): string {
  const names: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (character) => names[character]);
}
