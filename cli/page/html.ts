/**
 * Text, scripts and data inside HTML.
 *
 * @module
 */

/** Text as it may stand in an element or an attribute. */
export function escapeHtml(text: string): string {
  const names: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (character) => names[character]);
}

/** A script as it may stand in a script element: its text must not end the element. */
export function inlineScript(text: string): string {
  return text.replace(/<\/(script)/gi, "<\\/$1");
}

/** Data as JSON that may stand in a script element; numbers with five digits, more than a plot can show. */
export function inlineJson(data: unknown): string {
  return JSON.stringify(data, shortNumber).replaceAll("<", "\\u003c");
}

function shortNumber(_key: string, value: unknown): unknown {
  return typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(5)) : value;
}
