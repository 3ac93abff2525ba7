/**
 * Numbers and tables for readers.
 *
 * @module
 */

/** 1234567 → "1,234,567". */
export function formatCount(n: number): string {
  return Math.round(n).toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

/** Bytes with a binary unit beside them where that helps: "1,474,560 bytes (1.41 MiB)". */
export function formatBytes(n: number): string {
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let value = n;
  let unit = -1;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit < 0 ? `${n} bytes` : `${formatCount(n)} bytes (${value.toFixed(2)} ${units[unit]})`;
}

/** "0.42 s", "12 s", "3 min 20 s", "1 h 5 min". */
export function formatSeconds(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor(whole % 3600 / 60)} min`;
}

/** "17.62×", "–" for null. */
export function formatRatio(ratio: number | null): string {
  return ratio === null ? "–" : `${ratio.toFixed(2)}×`;
}

/** Four significant digits: "0.1234", "1.234e-7", "0". */
export function formatError(value: number | null): string {
  if (value === null) return "–";
  if (value === 0) return "0";
  return value >= 1e-4 ? value.toFixed(4) : value.toExponential(3);
}

/** A table with a rule under its head; columns after the first are aligned to the right. */
export function formatTable(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const widths = head.map((cell, i) => Math.max(cell.length, ...rows.map((row) => row[i].length)));
  const line = (row: readonly string[]) =>
    row.map((cell, i) => i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join("  ").trimEnd();
  return [line(head), widths.map((width) => "─".repeat(width)).join("──"), ...rows.map(line)];
}

/** Label and value on a line each, values under each other. */
export function formatFacts(facts: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...facts.map(([label]) => label.length));
  return facts.map(([label, value]) => `${label.padEnd(width)}  ${value}`);
}
