/**
 * The sums that `deno test` prints at its end.
 *
 * @module
 */

/** Tests counted; steps inside tests are not tests. */
export interface DenoSummary {
  readonly passed: number;
  readonly failed: number;
}

// Colours of a terminal.
// deno-lint-ignore no-control-regex
const ESCAPES = /\x1b\[[0-9;]*m/g;
const SUMMARY = /^(?:ok|FAILED) \| (\d+) passed(?: \([^)]*\))? \| (\d+) failed/gm;

/** Adds up the summary lines of a log: 0 and 0 when the run broke off before it printed one. */
export function parseDenoSummary(log: string): DenoSummary {
  let passed = 0;
  let failed = 0;
  for (const [, p, f] of log.replace(ESCAPES, "").matchAll(SUMMARY)) {
    passed += Number(p);
    failed += Number(f);
  }
  return { passed, failed };
}

// As a program: reads a log from standard input and prints "PASSED FAILED". For .ci/run.
if (import.meta.main) {
  const { passed, failed } = parseDenoSummary(await new Response(Deno.stdin.readable).text());
  console.log(passed, failed);
}
