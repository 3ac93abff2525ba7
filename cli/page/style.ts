/**
 * Style sheet of all pages, light and dark.
 *
 * @module
 */

/** CSS text. `--run-N` are the colours of lines. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --page: #f4f5f7; --card: #ffffff; --text: #1b1f27; --muted: #5c6573; --grid: #e4e7ec; --line: #dde1e7; --link: #1d4ed8;
  --run-0: #0f766e; --run-1: #2563eb; --run-2: #b45309; --run-3: #be185d; --run-4: #6d28d9; --run-5: #4d7c0f;
  --run-6: #0891b2; --run-7: #dc2626; --run-8: #7c5a3c; --run-9: #475569; --shade: #94a3b8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #101318; --card: #191e26; --text: #e8ebf0; --muted: #98a2b3; --grid: #2a313c; --line: #2a313c; --link: #8ab4ff;
    --run-0: #2dd4bf; --run-1: #60a5fa; --run-2: #fbbf24; --run-3: #f472b6; --run-4: #a78bfa; --run-5: #a3e635;
    --run-6: #22d3ee; --run-7: #f87171; --run-8: #d6b28a; --run-9: #cbd5e1; --shade: #64748b;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 1160px; margin: 0 auto; padding: 28px 20px 48px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 0 0 4px; }
h3 { font-size: 14px; margin: 10px 0 2px; font-weight: 600; }
p { margin: 0 0 10px; }
p.note { color: var(--muted); max-width: 112ch; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; margin-top: 18px; }
.facts { display: flex; flex-wrap: wrap; gap: 4px 22px; margin: 12px 0 0; padding: 0; list-style: none; color: var(--muted); }
.facts b { color: var(--text); font-weight: 600; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 8px 28px; }
.pair > div { min-width: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
section td, section th.col { padding: 7px 10px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
section th.col { color: var(--muted); font-weight: 500; vertical-align: bottom; }
section td:first-child, section th.col:first-child { text-align: left; }
section table.results tr:last-child td { border-bottom: 0; }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 8px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 14px 0 0; }
dt { font-weight: 600; }
dd { margin: 0; color: var(--muted); }
footer { color: var(--muted); margin-top: 18px; font-size: 13px; }
.u-legend { font: inherit; font-size: 12px; color: var(--muted); text-align: left; width: auto; margin-top: 4px; }
.u-legend td, .u-legend th { border: 0; padding: 1px 4px; }
.u-legend .u-series > * { padding: 1px 2px; border: 0; }
.u-legend .u-value { min-width: 3.4em; display: inline-block; text-align: left; }
.u-inline tr { margin-right: 4px; }
.u-legend .u-marker { margin-right: 2px; }
.u-legend .u-label { font-weight: 500; }
@media (max-width: 820px) { .pair { grid-template-columns: 1fr; } dl { grid-template-columns: 1fr; } }
`;
