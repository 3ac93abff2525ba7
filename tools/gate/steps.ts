/**
 * Steps of the gate: each prints one line with its time, all are counted, none stops the others.
 *
 * @module
 */
import { exec, type ExecOptions } from "../exec.ts";
import { parseDenoSummary } from "./deno_summary.ts";

/** Longest run of a command; what hangs has failed. */
const TIMEOUT_MS = 20 * 60_000;

/** Output without colours, for logs and for the sums of `deno test`. */
const PLAIN = { NO_COLOR: "1" };

/** What a step found: one check, or a whole suite of them. */
export interface Outcome {
  readonly passed: number;
  readonly failed: number;
  /** Shown on the step's line. */
  readonly note?: string;
  /** Shown below it when something failed. */
  readonly log?: string;
}

/** A part of the gate. */
export interface Step {
  readonly name: string;
  run(): Promise<Outcome>;
}

/** A command that is right when its exit code is 0. */
export function command(name: string, words: readonly string[], options: ExecOptions = {}): Step {
  return {
    name,
    async run() {
      const { code, log } = await exec(words, { env: PLAIN, signal: AbortSignal.timeout(TIMEOUT_MS), ...options });
      return code === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1, log };
    },
  };
}

/** A run of `deno test`, which counts its own tests. A run without tests, or that breaks off, has failed. */
export function testCommand(name: string, words: readonly string[]): Step {
  return {
    name,
    async run() {
      const { code, log } = await exec(words, { env: PLAIN, signal: AbortSignal.timeout(TIMEOUT_MS) });
      const { passed, failed } = parseDenoSummary(log);
      const broken = failed === 0 && (code !== 0 || passed === 0) ? 1 : 0;
      return { passed, failed: failed + broken, note: `${passed} tests`, ...(failed + broken > 0 ? { log } : {}) };
    },
  };
}

/** Runs steps in order and prints the lines; returns the sums. */
export async function runSteps(steps: readonly Step[]): Promise<{ passed: number; failed: number }> {
  const width = Math.max(...steps.map(({ name }) => name.length));
  const sum = { passed: 0, failed: 0 };
  for (const { name, run } of steps) {
    const begin = performance.now();
    let outcome: Outcome;
    try {
      outcome = await run();
    } catch (error) {
      outcome = { passed: 0, failed: 1, log: error instanceof Error ? error.stack ?? error.message : String(error) };
    }
    const { passed, failed, note, log } = outcome;
    sum.passed += passed;
    sum.failed += failed;
    const seconds = `${((performance.now() - begin) / 1000).toFixed(1)} s`.padStart(8);
    console.log(`${failed > 0 ? "FAILED" : "ok    "} ${name.padEnd(width)} ${seconds}${note ? `  ${note}` : ""}`);
    if (failed > 0 && log) console.log(log.trimEnd().replace(/^/gm, "       | "));
  }
  return sum;
}
