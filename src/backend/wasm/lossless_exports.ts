/**
 * What the module of the lossless coder's loops exports (asm/lossless.ts).
 *
 * @module
 */
import type { RansExports } from "./entropy_kernels.ts";

/** Exports of the module. Pointers are byte addresses, 0 is null; see asm/lossless/. */
export interface LosslessExports extends RansExports {
  topExponent(data: number, dtype: number, count: number): number;
  rebase(symbols: number, count: number, more: number): number;
  split(
    data: number,
    dtype: number,
    base: number,
    tokens: number,
    dim: number,
    rows: number,
    work: number,
    symbols: number,
    planes: number,
    escapes: number,
  ): number;
  join(
    symbols: number,
    planes: number,
    escapes: number,
    count: number,
    dtype: number,
    base: number,
    tokens: number,
    dim: number,
    rows: number,
    work: number,
    out: number,
  ): number;
  measure(
    symbols: number,
    tokens: number,
    begin: number,
    end: number,
    first: number,
    step: number,
    groups: number,
    cosines: number,
    sines: number,
    sums: number,
  ): void;
  choose(
    sums: number,
    begin: number,
    end: number,
    n: number,
    turning: number,
    cc: number,
    cs: number,
    ss: number,
    scales: number,
    means: number,
  ): void;
  model(
    scales: number,
    means: number,
    begin: number,
    end: number,
    met: number,
    classes: number,
    flips: number,
    octaves: number,
  ): void;
  count(
    symbols: number,
    tokens: number,
    begin: number,
    end: number,
    phases: number,
    classes: number,
    flips: number,
    octaves: number,
    counts: number,
    step: number,
  ): void;
  normalize(
    symbols: number,
    tokens: number,
    begin: number,
    end: number,
    phases: number,
    classes: number,
    flips: number,
    octaves: number,
    ranges: number,
    seen: number,
  ): void;
  denormalize(
    symbols: number,
    tokens: number,
    begin: number,
    end: number,
    phases: number,
    flips: number,
    octaves: number,
  ): void;
}
