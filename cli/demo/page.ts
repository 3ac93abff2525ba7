/**
 * The demo page: one file without a network, with data, plots and plot library inside.
 *
 * @module
 */
import { formatCount, formatError, formatRatio } from "../format.ts";
import { chartKit } from "../page/chart_kit.ts";
import { escapeHtml } from "../page/html.ts";
import type { PlotLibrary } from "../page/library.ts";
import { framePage, pairOfPlots } from "../page/page.ts";
import { drawCharts } from "./charts.ts";
import type { DemoData } from "./data.ts";
import { STYLE } from "./style.ts";

/** What makes the page; it may replace one that it made. */
export const DEMO_COMMAND = "kvz demo";

/** The page as HTML text. */
export function renderPage(data: DemoData, library: PlotLibrary): string {
  const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(2)} MB`;
  const best = data.runs[data.runs.length - 1];
  const first = data.runs[0];
  const rows = data.runs.map((run, i) =>
    `<tr><td><span class="dot" style="background:var(--run-${i % 10})"></span>${run.ratio}×</td>` +
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
  const model = escapeHtml(data.model);
  const main = `<header>
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

${qualitySection(data)}
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
${pairOfPlots("chart-layers")}
</section>

<section>
<h2>Error by position</h2>
<p class="note">Relative error over all layers, smoothed over nine neighbouring tokens. The shaded tokens at the right are the raw window, whose error
is zero. An error that grows with the position would be a sign that the keys' rotation (RoPE) was undone wrongly.</p>
${pairOfPlots("chart-tokens")}
</section>

<section>
<h2>Bits by component</h2>
<p class="note">PCA turns the ${
    formatCount(data.components.key)
  } strongest directions of all layers together into components, by
falling variance. Dynamic programming decides how many bits each component gets: none, 2, 4 or 8, plus its share of
the 32 bits of shift and scale that its group of 1, 16, 64, 256 or 1024 components carries a token. A lower line is a
smaller file. Where plans agree, the lower ratio shows as the wider line beneath.</p>
${pairOfPlots("chart-bits")}
</section>

<footer>kvz ${data.version}. Plots by uPlot (MIT). Speeds were measured after one run to warm up; this page was made by
<code>kvz demo</code> from ${first.ratio}× to ${best.ratio}×.</footer>`;
  return framePage({
    command: DEMO_COMMAND,
    title: `kvz: the KV cache of ${data.model}, compressed`,
    style: STYLE,
    main,
    data,
    script: `(${drawCharts})(data, (${chartKit})(uPlot));`,
  }, library);
}

/** Recipe kvz on the same cache. */
function qualitySection({ qualities }: DemoData): string {
  if (qualities.length === 0) return "";
  const rows = qualities.map((run) =>
    `<tr><td>${run.quality}</td>` +
    [
      formatCount(run.bytesOut),
      formatRatio(run.fileRatio),
      run.predictedKl === null ? "not measured" : `${run.predictedKl}`,
      formatCount(run.compressTokensPerSecond),
      formatCount(run.decompressTokensPerSecond),
    ].map((cell) => `<td>${cell}</td>`).join("") + "</tr>"
  ).join("\n");
  return `<section>
<h2>Recipe kvz on the same cache</h2>
<p class="note">kvz's own recipe measures errors by what they cost the model instead of by their size, keeps no tokens raw
and one sink. Its qualities stand for a KL of the model's next-token distributions, measured on texts when the profile
was made.</p>
<div class="scroll"><table class="results">
<thead><tr>
<th class="col">quality</th><th class="col">file,<br>bytes</th><th class="col">file<br>ratio</th>
<th class="col">KL on texts,<br>nats</th><th class="col">compress,<br>tokens/s</th><th class="col">restore,<br>tokens/s</th>
</tr></thead>
<tbody>
${rows}
</tbody></table></div>
</section>
`;
}
