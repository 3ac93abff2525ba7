/**
 * What the evaluation's page adds to the style sheet of all pages.
 *
 * @module
 */

/** CSS text. */
export const STYLE = `
:root { --good: #15803d; --bad: #c01c1c; --before: #94a3b8; }
@media (prefers-color-scheme: dark) { :root { --good: #4ade80; --bad: #f87171; --before: #64748b; } }
.good, .facts b.good { color: var(--good); } .bad, .facts b.bad { color: var(--bad); font-weight: 600; }
.bar {
  position: sticky; top: 0; z-index: 200; display: flex; flex-wrap: wrap; gap: 8px 24px; align-items: center;
  margin-top: 18px; padding: 9px 20px; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  color: var(--muted); font-size: 13.5px; box-shadow: 0 2px 8px #0000000d;
}
.bar label { display: inline-flex; gap: 7px; align-items: center; }
.bar select {
  font: inherit; color: var(--text); background: var(--page); border: 1px solid var(--line); border-radius: 6px;
  padding: 3px 6px; max-width: 260px;
}
.bar fieldset { display: inline-flex; gap: 12px; align-items: center; border: 0; margin: 0; padding: 0; }
.bar input { margin: 0; accent-color: var(--link); }
table.results { font-size: 13px; }
table.results td, table.results th.col { padding: 6px 7px; }
table.results td.text, table.results th.text { text-align: left; }
table.results td.text {
  max-width: 170px; overflow: hidden; text-overflow: ellipsis;
}
table.results tbody th { text-align: left; padding: 12px 7px 5px; font-weight: 600; border-bottom: 1px solid var(--line); }
table.results tbody tr.ends td { border-bottom-color: var(--muted); }
table.results small { color: var(--muted); font-size: inherit; }
.tall { max-height: 460px; overflow: auto; }
.tall .scroll { overflow: visible; }
.tall thead th { position: sticky; top: 0; background: var(--card); z-index: 1; }
.hits { display: inline-block; width: 150px; vertical-align: middle; background: var(--grid); border-radius: 2px; }
.hits i { display: block; height: 6px; border-radius: 2px; background: var(--before); min-width: 1px; }
.hits i + i { margin-top: 2px; }
.box {
  position: absolute; pointer-events: none; white-space: pre; padding: 7px 10px; border-radius: 7px; z-index: 110;
  font-size: 12px; line-height: 1.45; color: var(--text); background: var(--card); border: 1px solid var(--line);
  box-shadow: 0 3px 12px #0003;
}
.box::first-line { font-weight: 600; }
.box[hidden] { display: none; }
`;
