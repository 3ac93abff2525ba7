/**
 * The table of a comparison, for the terminal and for the page.
 *
 * @module
 */
import type { EvalSummary, RetrievalPoint } from "../../src/eval/point.ts";
import { isControl } from "../eval/settings.ts";
import { formatCount, formatError, formatRatio, formatSeconds } from "../format.ts";
import { escapeHtml } from "../page/html.ts";
import type { CompareResult } from "./result.ts";

/** One setting at one context. */
export interface CompareRow {
  readonly method: string;
  readonly cells: readonly string[];
}

/** Heads of the columns, the first three of text. */
export function heads(result: CompareResult): string[] {
  const tasks = [...new Set(result.retrieval.map(columnOf))];
  const sizes = ["artefact", "paper", "file", ...decodes(result) ? ["decoded"] : []];
  return ["method", "setting", "needs", ...sizes, "ppl", "+ %", "KL", "top-1", ...tasks, "encode", "decode"];
}

/** Contexts of the summaries, ascending. */
export function contextsOf({ summaries }: CompareResult): number[] {
  return [...new Set(summaries.map(({ context }) => context))].sort((a, b) => a - b);
}

/** Rows of a context, in the order of the summaries. */
export function rowsOf(result: CompareResult, context: number): CompareRow[] {
  const tasks = [...new Set(result.retrieval.map(columnOf))];
  return result.summaries.filter((row) => row.context === context && !isControl(row.method)).map((row) => {
    const recipe = result.recipes.find(({ name }) => name === row.method);
    const found = (task: string) =>
      result.retrieval.find((point) =>
        columnOf(point) === task && point.method === row.method && point.setting === row.setting
      );
    return {
      method: row.method,
      cells: [
        row.method,
        row.setting,
        recipe?.needs.join(", ") || "nothing",
        megabytes(recipe?.artefactBytes ?? null),
        formatRatio(row.ratios.paper),
        formatRatio(row.ratios.file),
        ...decodes(result) ? [formatRatio(row.decodedRatio ?? null)] : [],
        number(row.perplexityAfter, 2),
        increase(row),
        formatError(row.kl),
        percent(row.topOne),
        ...tasks.map((task) => percent(found(task)?.after ?? null)),
        seconds(row.seconds.compress),
        seconds(row.seconds.restore),
      ],
    };
  });
}

/** What stands above a context's rows. */
export function titleOf({ summaries, texts }: CompareResult, context: number): string {
  const row = summaries.find((summary) => summary.context === context)!;
  return `Cache of ${formatCount(context)} tokens, means over ${texts.length} ` +
    `${texts.length === 1 ? "text" : "texts"}; perplexity of the original cache ${number(row.perplexityBefore, 2)}`;
}

/** The table as HTML, a body of rows a context. */
export function compareTable(result: CompareResult, colorOf: (method: string) => number): string {
  const names = heads(result);
  const head = names.map((name, i) => `<th class="col${i < 3 ? " text" : ""}">${escapeHtml(name)}</th>`).join("");
  const bodies = contextsOf(result).map((context) => {
    const rows = rowsOf(result, context);
    const lines = rows.map(({ method, cells }, i) => {
      const dot = `<span class="dot" style="background:var(--run-${colorOf(method) % 10})"></span>`;
      const tds = cells.map((cell, column) =>
        `<td${column < 3 ? ' class="text"' : ""}>${column === 0 ? dot : ""}${escapeHtml(cell)}</td>`
      );
      const ends = i + 1 < rows.length && rows[i + 1].method !== method;
      return `<tr${ends ? ' class="ends"' : ""}>${tds.join("")}</tr>`;
    });
    return `<tbody data-context="${context}"><tr><th colspan="${names.length}">${
      escapeHtml(titleOf(result, context))
    }</th></tr>
${lines.join("\n")}</tbody>`;
  });
  return `<div class="scroll"><table class="results"><thead><tr>${head}</tr></thead>
${bodies.join("\n")}</table></div>`;
}

/** The column of a retrieval score. */
export function columnOf({ task, context }: Pick<RetrievalPoint, "task" | "context">): string {
  return `${task} ${context}`;
}

/** Whether a method acted on the cache while the model read on. */
function decodes({ summaries }: CompareResult): boolean {
  return summaries.some(({ decodedRatio }) => decodedRatio !== undefined);
}

function increase({ perplexityBefore, perplexityAfter }: EvalSummary): string {
  return number(100 * (perplexityAfter / perplexityBefore - 1), 1);
}

function number(value: number, digits: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "–" : "∞";
  return value < 1e4 ? value.toFixed(digits) : value.toExponential(1);
}

function percent(share: number | null): string {
  return share === null ? "–" : `${(100 * share).toFixed(1)} %`;
}

function seconds(value: number | null): string {
  return value === null ? "–" : formatSeconds(value);
}

function megabytes(bytes: number | null): string {
  if (bytes === null) return "–";
  return bytes < 1e5 ? `${formatCount(bytes)} B` : `${(bytes / 1e6).toFixed(1)} MB`;
}
