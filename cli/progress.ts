/**
 * One line on a terminal that says how far the work is and how long it will take.
 *
 * @module
 */
import process from "node:process";
import { formatCount, formatSeconds } from "./format.ts";

/** Least time between two drawings, milliseconds. */
const INTERVAL = 100;

/** How far the work is; a new `stage` starts the clock anew. */
export interface ProgressUpdate {
  readonly done: number;
  readonly total?: number;
  readonly stage?: string;
}

/** Draws progress; does nothing where standard error is no terminal. */
export interface ProgressLine {
  /** Takes what the library's `onProgress` gives. */
  update(progress: ProgressUpdate): void;
  /** Removes the line. */
  end(): void;
}

const SILENT: ProgressLine = { update: () => {}, end: () => {} };

/**
 * Begins a progress line.
 *
 * @param label what is being done, for instance "compress"
 * @param unit what is counted, for instance "tokens"; "" shows the share alone
 */
export function progressLine(label: string, unit = "tokens"): ProgressLine {
  if (!process.stderr.isTTY) return SILENT;
  let begin = performance.now();
  let drawn = -Infinity;
  let stage: string | undefined;
  return {
    update({ done, total, stage: now }) {
      const time = performance.now();
      if (now !== stage) {
        // Every stage has a speed of its own.
        begin = time;
        stage = now;
      }
      if (time - drawn < INTERVAL && done !== total) return;
      drawn = time;
      process.stderr.write(`\r\x1b[K${describe(stage ?? label, unit, done, total, (time - begin) / 1000)}`);
    },
    end() {
      if (drawn !== -Infinity) process.stderr.write("\r\x1b[K");
    },
  };
}

/** The text of the line. */
export function describe(
  label: string,
  unit: string,
  done: number,
  total: number | undefined,
  seconds: number,
): string {
  if (total === undefined || total === 0) return `${label}  ${formatCount(done)} ${unit}`.trimEnd();
  const percent = `${Math.floor(100 * done / total)} %`;
  const left = done > 0 && done < total ? `  ${formatSeconds(seconds * (total - done) / done)} left` : "";
  const counts = unit === "" ? "" : `${formatCount(done)} of ${formatCount(total)} ${unit}  `;
  return `${label}  ${counts}${percent}${left}`;
}
