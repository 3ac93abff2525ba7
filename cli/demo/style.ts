/**
 * What the demo page adds to the style sheet of all pages.
 *
 * @module
 */

/** CSS text. `--part-N` are the colours of what a file consists of. */
export const STYLE = `
:root {
  --part-0: #94a3b8; --part-1: #1d4ed8; --part-2: #93b4f8; --part-3: #b45309; --part-4: #f0b775; --part-5: #0f766e;
  --part-6: #334155;
}
@media (prefers-color-scheme: dark) {
  :root {
    --part-0: #64748b; --part-1: #3b82f6; --part-2: #a9c7fb; --part-3: #d97706; --part-4: #f8d196; --part-5: #14b8a6;
    --part-6: #cbd5e1;
  }
}
`;
