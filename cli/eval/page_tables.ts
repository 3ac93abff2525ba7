/**
 * The tables of the evaluation's page.
 *
 * @module
 */
import type { EvalPoint, EvalResult, EvalSummary, RetrievalPoint } from "../../src/eval/point.ts";
import { formatCount, formatError, formatRatio, formatSeconds } from "../format.ts";
import { escapeHtml } from "../page/html.ts";
import { isControl, type SettingGroup } from "./settings.ts";

/** Contexts by size. */
export function contextsOf({ summaries }: EvalResult): number[] {
  return [...new Set(summaries.map(({ context }) => context))].sort((a, b) => a - b);
}

/** Means over the texts, a body of rows a context; empty text when there are only controls. */
export function resultsTable(result: EvalResult, groups: readonly SettingGroup[]): string {
  const bodies = contextsOf(result).map((context) => {
    const rows = result.summaries.filter((row) => row.context === context && !isControl(row.method));
    if (rows.length === 0) return "";
    const title = `Cache of ${formatCount(context)} tokens, means over ${count(rows[0].texts, "text")}`;
    return body(context, title, 14, rows, (row) => [
      method(groups, row),
      text(row.setting),
      cell(formatRatio(row.ratios.target)),
      cell(formatRatio(row.ratios.paper)),
      cell(formatRatio(row.ratios.file)),
      cell(`${perplexity(row.perplexityBefore)} → ${perplexity(row.perplexityAfter)}`),
      cell(increase(row)),
      cell(divergence(row.kl)),
      cell(percent(row.topOne)),
      cell(formatError(row.errors.key)),
      cell(formatError(row.errors.value)),
      text(row.worst.text, ` <small>(${divergence(row.worst.kl)})</small>`, true),
      cell(seconds(row.seconds.compress)),
      cell(seconds(row.seconds.restore)),
    ]);
  });
  if (bodies.every((body) => body === "")) return "";
  const head = [
    "method|",
    "setting|",
    "target<br>ratio",
    "paper<br>ratio",
    "file<br>ratio",
    "perplexity<br>before → after",
  ];
  head.push("in-<br>crease", "KL,<br>nats", "same<br>top token", "K<br>error", "V<br>error", "worst text<br>(its KL)|");
  return table([...head, "com-<br>press", "re-<br>store"], bodies);
}

/** What a control must be, and whether it is. */
export function controlVerdict(row: EvalSummary): { readonly must: string; readonly holds: boolean } {
  return row.method === "untouched"
    ? { must: "KL at most 10⁻⁵", holds: row.kl <= 1e-5 }
    // A model that has lost all content is further off than a nat; one that repeats a fixed guess too.
    : { must: "KL at least 1", holds: row.kl >= 1 };
}

/** The controls that were run, over all contexts. */
export function controlRows({ summaries }: EvalResult): EvalSummary[] {
  return summaries.filter(({ method }) => isControl(method));
}

/** Controls with what they must be. */
export function controlsTable(result: EvalResult): string {
  const rows = controlRows(result).map((row) => {
    const { must, holds } = controlVerdict(row);
    const cells = [
      text(row.method),
      cell(formatCount(row.context)),
      cell(`${row.texts}`),
      cell(must),
      cell(divergence(row.kl)),
      cell(`${perplexity(row.perplexityBefore)} → ${perplexity(row.perplexityAfter)}`),
      cell(percent(row.topOne)),
      cell(formatError(row.errors.key)),
      cell(formatError(row.errors.value)),
      `<td class="${holds ? "good" : "bad"}">${holds ? "✓ holds" : "✗ does not hold"}</td>`,
    ];
    return `<tr>${cells.join("")}</tr>`;
  });
  const head = ["control|", "tokens of<br>cache", "texts", "must be", "KL,<br>nats", "perplexity<br>before → after"];
  head.push("same<br>top token", "K<br>error", "V<br>error", "");
  return table(head, [`<tbody>${rows.join("\n")}</tbody>`]);
}

/** Scores of the retrieval tasks with bars. */
export function retrievalTable(result: EvalResult, groups: readonly SettingGroup[]): string {
  const rows = result.retrieval.map((row, i) => {
    const { before, after } = row.logProbability;
    const next = result.retrieval[i + 1];
    const cells = [
      text(row.task),
      cell(formatCount(row.context)),
      method(groups, row),
      text(row.setting),
      cell(formatRatio(row.fileRatio)),
      cell(formatCount(row.questions)),
      cell(`${percent(row.before)} → ${percent(row.after)}`),
      `<td>${bars(groups, row)}</td>`,
      cell(`${logarithm(before)} → ${logarithm(after)}`),
    ];
    const ends = next !== undefined && (next.task !== row.task || next.context !== row.context);
    return `<tr${ends ? ' class="ends"' : ""}>${cells.join("")}</tr>`;
  });
  const head = ["task|", "tokens of<br>cache", "method|", "setting|", "file<br>ratio", "questions"];
  head.push("answers found,<br>before → after", "", "log-probability of answers,<br>nats a token, before → after");
  return `<div class="tall">${table(head, [`<tbody>${rows.join("\n")}</tbody>`])}</div>`;
}

/** Every text under every setting, a body of rows a context. */
export function textsTable(result: EvalResult, groups: readonly SettingGroup[]): string {
  const bodies = contextsOf(result).map((context) => {
    const order = new Map(result.texts.map(({ name }, i) => [name, i]));
    const place = (point: EvalPoint) => order.get(point.text) ?? order.size;
    const rows = result.points.filter((row) => row.context === context && !isControl(row.method))
      .sort((a, b) => place(a) - place(b));
    if (rows.length === 0) return "";
    return body(context, `Cache of ${formatCount(context)} tokens`, 11, rows, (row) => [
      text(row.text, "", true),
      method(groups, row),
      text(row.setting),
      cell(formatRatio(row.ratios.paper)),
      cell(formatRatio(row.ratios.file)),
      cell(`${perplexity(row.agreement.perplexityBefore)} → ${perplexity(row.agreement.perplexityAfter)}`),
      cell(increase(row.agreement)),
      cell(`${divergence(row.agreement.kl)} <small>(${divergence(row.agreement.klMax)})</small>`),
      cell(percent(row.agreement.topOne)),
      cell(formatError(row.errors.key.coded)),
      cell(formatError(row.errors.value.coded)),
    ], (row, next) => row.text !== next.text);
  });
  const head = ["text|", "method|", "setting|", "paper<br>ratio", "file<br>ratio", "perplexity<br>before → after"];
  head.push("in-<br>crease", "KL, nats<br>(largest token)", "same<br>top token", "K<br>error", "V<br>error");
  return `<div class="tall">${table(head, bodies)}</div>`;
}

/** A table; heads that end in "|" are of text, aligned to the left. */
function table(head: readonly string[], bodies: readonly string[]): string {
  const cells = head.map((title) =>
    title.endsWith("|") ? `<th class="col text">${title.slice(0, -1)}</th>` : `<th class="col">${title}</th>`
  );
  return `<div class="scroll"><table class="results"><thead><tr>${cells.join("")}</tr></thead>
${bodies.join("\n")}</table></div>`;
}

/** Rows of a context under a title; the page's select shows one context. */
function body<T extends { readonly method: string }>(
  context: number,
  title: string,
  columns: number,
  rows: readonly T[],
  cells: (row: T) => readonly string[],
  ends: (row: T, next: T) => boolean = (row, next) => row.method !== next.method,
): string {
  const lines = rows.map((row, i) =>
    `<tr${i + 1 < rows.length && ends(row, rows[i + 1]) ? ' class="ends"' : ""}>${cells(row).join("")}</tr>`
  );
  return `<tbody data-context="${context}"><tr><th colspan="${columns}">${title}</th></tr>
${lines.join("\n")}</tbody>`;
}

/** A share of answers before and after as two bars. */
function bars(groups: readonly SettingGroup[], row: RetrievalPoint): string {
  const width = (share: number) => `width:${(100 * Math.min(1, Math.max(0, share))).toFixed(1)}%`;
  const after = `${width(row.after)};background:${colorOf(groups, row) ?? "var(--muted)"}`;
  return `<span class="hits"><i style="${width(row.before)}"></i><i style="${after}"></i></span>`;
}

/** The colour of a setting's line; controls have none. */
function colorOf(
  groups: readonly SettingGroup[],
  { method, setting }: { readonly method: string; readonly setting: string },
): string | undefined {
  const group = groups.find(({ members }) =>
    members.some((member) => member.method === method && member.setting === setting)
  );
  return group && `var(--run-${group.color % 10})`;
}

function method(
  groups: readonly SettingGroup[],
  row: { readonly method: string; readonly setting: string },
): string {
  const color = colorOf(groups, row) ?? "transparent";
  return `<td class="text"><span class="dot" style="background:${color}"></span>${escapeHtml(row.method)}</td>`;
}

function text(value: string, after = "", muted = false): string {
  const shown = muted ? `<small>${escapeHtml(value)}</small>` : escapeHtml(value);
  return `<td class="text" title="${escapeHtml(value)}">${shown}${after}</td>`;
}

function cell(content: string): string {
  return `<td>${content}</td>`;
}

/** "1 text", "3 texts". */
function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** Nats with three digits. */
function divergence(value: number): string {
  if (!Number.isFinite(value)) return unbounded(value);
  if (value === 0) return "0";
  return value >= 1e-3 ? `${Number(value.toPrecision(3))}` : value.toExponential(1).replace("-", "−");
}

function perplexity(value: number): string {
  if (!Number.isFinite(value)) return unbounded(value);
  return value < 1e4 ? value.toFixed(2) : value.toExponential(1).replace("+", "");
}

function increase(of: { readonly perplexityBefore: number; readonly perplexityAfter: number }): string {
  const share = 100 * (of.perplexityAfter / of.perplexityBefore - 1);
  if (!Number.isFinite(share)) return unbounded(share);
  return `${share < 0 ? "−" : "+"}${
    Math.abs(share).toFixed(Math.abs(share) < 1 ? 2 : Math.abs(share) < 100 ? 1 : 0)
  } %`;
}

function logarithm(value: number): string {
  return Number.isFinite(value) ? value.toFixed(3).replace("-", "−") : unbounded(value);
}

/** What is no finite number. */
function unbounded(value: number): string {
  return Number.isNaN(value) ? "–" : value > 0 ? "∞" : "−∞";
}

function seconds(value: number | null): string {
  return value === null ? "–" : formatSeconds(value);
}
