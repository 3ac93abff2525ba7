/**
 * Sentences about how fast something was.
 *
 * @module
 */
import type { WorkReport } from "../src/codec/options.ts";
import { formatCount, formatSeconds } from "./format.ts";

/** "443 tokens/s: 1,024 tokens in 2.31 s (wasm relaxed, 2 threads; before that 0.41 s for loading and set-up)". */
export function speedText(report: WorkReport & { readonly secondsLoad: number; readonly streamed: boolean }): string {
  const { tokens, seconds, secondsSetup, tokensPerSecond, backend, build, threads, secondsLoad, streamed } = report;
  return `${formatCount(tokensPerSecond)} tokens/s: ${formatCount(tokens)} tokens in ${formatSeconds(seconds)}` +
    `${streamed ? " with reading and writing" : ""} (${backend} ${build}, ${threads} ${
      threads === 1 ? "thread" : "threads"
    }; before that ${formatSeconds(secondsLoad + secondsSetup)} for loading and set-up)`;
}
