// Levels i16 [components][tokens] → what the product reads, k padded to 4 and tokens to 2 with zeros.
// Relaxed SIMD: level = low + 256 · high in planes of i8 [tokens][depth · 4]. Otherwise: i16 [tokens][depth · 4] in the
// place of the low plane.
//
// With sums of 32 bits (dots.ts) tokens are padded to 6, planes are [tokens / 6][depth][6][4], and in the place of their runs
// stand the depths that are not zero, u16 [tokens / 6].
//
// Runs of a plane, for every two tokens: u16 lengths in units of four k, ended by a zero. Within a run no sum of pairs of
// products with 0 … 127 leaves 16 bits, whatever the basis. A plane that is zero to its end has no run there.

import { GROUP, useDots } from "./dots";

/** Largest Σ (|level| + |level|) of a run: 258 · 127 is below 2¹⁵. */
const RUN_LIMIT: u32 = 258;

/** Bytes of the runs of two tokens. */
export function runBytes(depth: u32): u32 {
  return (depth + 1) << 1;
}

/** `sums` gets Σ level of each token. */
export function packLevels(
  levels: usize,
  components: u32,
  tokens: u32,
  low: usize,
  high: usize,
  lowRuns: usize,
  highRuns: usize,
  sums: usize,
): void {
  const depth = (components + 3) >> 2;
  const width = depth << 2;
  if (useDots()) {
    packGroups(levels, components, tokens, low, high, lowRuns, highRuns, sums);
    return;
  }
  const padded = (tokens + 1) & ~1;
  memory.fill(sums, 0, padded << 2);
  if (!ASC_FEATURE_RELAXED_SIMD) {
    memory.fill(low, 0, (padded * width) << 1);
    for (let c: u32 = 0; c < components; c++) {
      for (let t: u32 = 0; t < tokens; t++) {
        store<i16>(low + ((t * width + c) << 1), load<i16>(levels + ((c * tokens + t) << 1)));
      }
    }
    return;
  }
  memory.fill(low, 0, padded * width);
  memory.fill(high, 0, padded * width);
  for (let c: u32 = 0; c < components; c++) {
    for (let t: u32 = 0; t < tokens; t++) {
      const level = <i32> load<i16>(levels + ((c * tokens + t) << 1));
      const l = <i32> <i8> level;
      store<i8>(low + t * width + c, <i8> l);
      store<i8>(high + t * width + c, <i8> ((level - l) >> 8));
      store<i32>(sums + (t << 2), load<i32>(sums + (t << 2)) + level);
    }
  }
  for (let t: u32 = 0; t < padded; t += 2) {
    findRuns(low + t * width, depth, lowRuns + (t >> 1) * runBytes(depth));
    findRuns(high + t * width, depth, highRuns + (t >> 1) * runBytes(depth));
  }
}

function packGroups(
  levels: usize,
  components: u32,
  tokens: u32,
  low: usize,
  high: usize,
  lowDepths: usize,
  highDepths: usize,
  sums: usize,
): void {
  const depth = (components + 3) >> 2;
  const groups = (tokens + GROUP - 1) / GROUP;
  const bytes = depth * GROUP * 4;
  memory.fill(sums, 0, groups * GROUP * 4);
  memory.fill(low, 0, groups * bytes);
  memory.fill(high, 0, groups * bytes);
  memory.fill(lowDepths, 0, groups << 1);
  memory.fill(highDepths, 0, groups << 1);
  for (let c: u32 = 0; c < components; c++) {
    const row = levels + ((c * tokens) << 1);
    for (let group: u32 = 0, t: u32 = 0; group < groups; group++) {
      let at = group * bytes + (c >> 2) * (GROUP * 4) + (c & 3);
      const end = min(t + GROUP, tokens);
      let anyLow = 0, anyHigh = 0;
      for (; t < end; t++, at += 4) {
        const level = <i32> load<i16>(row + (t << 1));
        const l = <i32> <i8> level, h = (level - l) >> 8;
        store<i8>(low + at, <i8> l);
        store<i8>(high + at, <i8> h);
        store<i32>(sums + (t << 2), load<i32>(sums + (t << 2)) + level);
        anyLow |= l, anyHigh |= h;
      }
      if (anyLow) store<u16>(lowDepths + (group << 1), <u16> ((c >> 2) + 1));
      if (anyHigh) store<u16>(highDepths + (group << 1), <u16> ((c >> 2) + 1));
    }
  }
}

/** The longest runs of two rows of a plane, one after another. */
function findRuns(row: usize, depth: u32, to: usize): void {
  const width = depth << 2;
  while (depth > 0 && (load<u32>(row + (depth << 2) - 4) | load<u32>(row + width + (depth << 2) - 4)) == 0) depth--;
  let length: u32 = 0;
  // Of the four sums that the kernel keeps apart: two tokens, even and odd pairs.
  let s0: u32 = 0, s1: u32 = 0, s2: u32 = 0, s3: u32 = 0;
  for (let k: u32 = 0; k < depth; k++, row += 4) {
    const w0 = size(row) + size(row + 1), w1 = size(row + 2) + size(row + 3);
    const w2 = size(row + width) + size(row + width + 1), w3 = size(row + width + 2) + size(row + width + 3);
    s0 += w0, s1 += w1, s2 += w2, s3 += w3;
    if (max(max(s0, s1), max(s2, s3)) > RUN_LIMIT) {
      store<u16>(to, <u16> length);
      to += 2;
      length = 0;
      s0 = w0, s1 = w1, s2 = w2, s3 = w3;
    }
    length++;
  }
  if (length > 0) {
    store<u16>(to, <u16> length);
    to += 2;
  }
  store<u16>(to, 0);
}

// @ts-ignore: decorator
@inline
function size(at: usize): u32 {
  return <u32> abs<i32>(<i32> load<i8>(at));
}
