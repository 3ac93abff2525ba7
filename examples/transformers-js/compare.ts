/**
 * Two continuations beside each other: the same question, the same greedy decoding, another cache.
 *
 * @module
 */
import type { Tokenizer } from "./runtime.ts";

/** Index of the first token that differs; null when both are the same. */
export function firstDifference(a: readonly number[], b: readonly number[]): number | null {
  const length = Math.max(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return i;
  return null;
}

/** A text with `»` before the token at `mark`. */
export function markedText(tokenizer: Tokenizer, ids: readonly number[], mark: number | null): string {
  // decode() takes no empty lists.
  const text = (part: readonly number[]) =>
    part.length === 0 ? "" : tokenizer.decode(part, { skip_special_tokens: true }).trimEnd();
  if (mark === null || mark === ids.length) return text(ids) + (mark === null ? "" : "»");
  const before = text(ids.slice(0, mark));
  return `${before}»${text(ids).slice(before.length)}`;
}

/** Two texts in columns. */
export function columns(titles: readonly [string, string], texts: readonly [string, string], width: number): string {
  const each = Math.max(20, Math.floor((width - 3) / 2));
  const [left, right] = texts.map((text) => wrap(text, each));
  const row = (a: string, b: string) => `${a.padEnd(each)} | ${b}`.trimEnd();
  const rows = Array.from(
    { length: Math.max(left.length, right.length) },
    (_, i) => row(left[i] ?? "", right[i] ?? ""),
  );
  return [row(...titles), `${"-".repeat(each)}-+-${"-".repeat(each)}`, ...rows].join("\n");
}

/** Lines of at most `width` characters, broken at spaces where there are any. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const paragraph of text.split("\n")) {
    let line = "";
    for (const word of paragraph.split(" ")) {
      let rest = word;
      if (line !== "" && line.length + 1 + rest.length > width) {
        lines.push(line);
        line = "";
      }
      for (; rest.length > width; rest = rest.slice(width)) lines.push(rest.slice(0, width));
      line = line === "" ? rest : `${line} ${rest}`;
    }
    lines.push(line);
  }
  return lines;
}
