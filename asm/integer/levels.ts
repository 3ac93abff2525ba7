// Levels i16 [components][tokens] → what the product reads, k padded to 4 with zeros.
//
// Relaxed SIMD: level = low + 256 · high in planes of i8 [groups][depth][tokens of a group][4 k], tokens padded with zeros to
// whole groups (tokensAtOnce). Otherwise: i16 [tokens][depth · 4] in the place of the low plane, tokens padded likewise.
//
// How far a group's plane goes, runBytes(depth) apart: with sums of 32 bits (dots.ts) the depth that is not zero, u16.
// With sums of pairs runs, u16 lengths in units of four k, ended by a zero: within a run no sum of pairs of products with
// 0 … 127 leaves 16 bits, whatever the basis. What is zero to its end has no run there.

import { tokensAtOnce, useDots } from "./dots";

/** Largest sum of positive levels of a run, and of negative ones: 258 · 127 is below 2¹⁵. */
const RUN_LIMIT: i16 = 258;

/** Bytes of the runs of a group. */
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
  const group = tokensAtOnce();
  const groups = (tokens + group - 1) / group;
  if (!ASC_FEATURE_RELAXED_SIMD) {
    const width = depth << 2;
    memory.fill(low, 0, (groups * group * width) << 1);
    for (let c: u32 = 0; c < components; c++) {
      for (let t: u32 = 0; t < tokens; t++) {
        store<i16>(low + ((t * width + c) << 1), load<i16>(levels + ((c * tokens + t) << 1)));
      }
    }
    return;
  }
  // From step to step of the depth, and from group to group.
  const step = group << 2, bytes = depth * step;
  memory.fill(sums, 0, groups * step);
  memory.fill(low, 0, groups * bytes);
  memory.fill(high, 0, groups * bytes);
  for (let c: u32 = 0; c < components; c++) {
    const row = levels + ((c * tokens) << 1);
    for (let t: u32 = 0, begin = (c >> 2) * step + (c & 3); t < tokens; begin += bytes) {
      for (let at = begin, end = min(t + group, tokens); t < end; t++, at += 4) {
        const level = <i32> load<i16>(row + (t << 1));
        const l = <i32> <i8> level;
        store<i8>(low + at, <i8> l);
        store<i8>(high + at, <i8> ((level - l) >> 8));
        store<i32>(sums + (t << 2), load<i32>(sums + (t << 2)) + level);
      }
    }
  }
  for (let g: u32 = 0; g < groups; g++) {
    const plane = g * bytes, runs = g * runBytes(depth);
    findRuns(low + plane, depth, step, lowRuns + runs);
    findRuns(high + plane, depth, step, highRuns + runs);
  }
}

/** The depth of a group's plane, or the longest runs of it, one after another. */
function findRuns(plane: usize, depth: u32, step: u32, to: usize): void {
  while (depth > 0 && isZero(plane + (depth - 1) * step, step)) depth--;
  if (useDots()) {
    store<u16>(to, <u16> depth);
    return;
  }
  const zero = i16x8.splat(0), limit = i16x8.splat(RUN_LIMIT);
  // Of the sums that the kernel keeps apart, four tokens' even and odd pairs: what positive levels come to, and negative ones.
  let up = zero, down = zero;
  let length: u32 = 0;
  for (let k: u32 = 0; k < depth; k++, plane += step) {
    const l = v128.load(plane);
    const rise = i16x8.extadd_pairwise_i8x16_s(i8x16.max_s(l, zero));
    const fall = i16x8.extadd_pairwise_i8x16_s(i8x16.min_s(l, zero));
    up = i16x8.add(up, rise), down = i16x8.sub(down, fall);
    if (v128.any_true(i16x8.gt_s(i16x8.max_s(up, down), limit))) {
      store<u16>(to, <u16> length);
      to += 2;
      length = 0;
      up = rise, down = i16x8.neg(fall);
    }
    length++;
  }
  if (length > 0) {
    store<u16>(to, <u16> length);
    to += 2;
  }
  store<u16>(to, 0);
}

/** Whether `bytes`, a multiple of four, are all zero. */
function isZero(at: usize, bytes: u32): bool {
  let any: u32 = 0;
  for (let i: u32 = 0; i < bytes; i += 4) any |= load<u32>(at + i);
  return any == 0;
}
