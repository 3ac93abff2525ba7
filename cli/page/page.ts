/**
 * The frame of every page: one file without a network, with data, plots and plot library inside.
 *
 * @module
 */
import { generatorTag } from "./generator.ts";
import { escapeHtml, inlineJson, inlineScript } from "./html.ts";
import type { PlotLibrary } from "./library.ts";
import { STYLE } from "./style.ts";

/** Parts of a page. */
export interface Page {
  /** The command that made it, for instance "kvz demo". */
  readonly command: string;
  /** Title as text. */
  readonly title: string;
  /** CSS after that of all pages. */
  readonly style: string;
  /** Content of the main element as HTML. */
  readonly main: string;
  /** What the script finds as `data`: anything that JSON can hold. */
  readonly data: unknown;
  /** Statements that draw the plots; they see `data` and `uPlot`. */
  readonly script: string;
}

/** The page as HTML text. */
export function framePage(page: Page, library: PlotLibrary): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
${generatorTag(page.command)}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(page.title)}</title>
<style>${library.style}${STYLE}${page.style}</style>
</head>
<body>
<main>
${page.main}
</main>
<script>${inlineScript(library.script)}</script>
<script id="data" type="application/json">${inlineJson(page.data)}</script>
<script>{
const data = JSON.parse(document.getElementById("data").textContent);
${inlineScript(page.script)}
}</script>
</body>
</html>
`;
}

/** Two plots beside each other, of keys and of values, with ids that end in "-key" and "-value". */
export function pairOfPlots(id: string): string {
  return `<div class="pair"><div><h3>Keys</h3><div id="${id}-key"></div></div>` +
    `<div><h3>Values</h3><div id="${id}-value"></div></div></div>`;
}
