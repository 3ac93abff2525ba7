// count, normalize, denormalize: the map of symbols that makes rows of different scales and signs alike, and its inverse.
// Models are bytes for each of 16 phases of a row; phase 0 stands for all tokens where phases is null. The map turns the
// sign by flips and takes four times `octaves` from the rest modulo 128.

/** From counts to those that every second symbol is counted in: one that comes twice need not wait for itself. */
const OTHER: usize = 65536 + 1088;
/** Tokens that are counted together: a line of the core's cache. */
const GROUP: usize = 64;
/** Ranges of the classes of a row by phase, in four vectors. */
const RANGES: usize = memory.data(64, 16);

/**
 * Counts what symbols of rows [begin, end) are mapped to, by classes, into counts u32 [64][256], of which there are two,
 * OTHER bytes apart: those of every `step`th group of tokens, from another one on in each row, and of tokens that fill no
 * group. `step` is a power of two.
 */
export function count(
  symbols: usize,
  tokens: usize,
  begin: usize,
  end: usize,
  phases: usize,
  classes: usize,
  flips: usize,
  octaves: usize,
  counts: usize,
  step: usize,
): void {
  const whole = tokens & ~(GROUP - 1);
  for (let row = begin; row < end; row++) {
    const model = row << 4, shift = <u32>load<u8>(octaves + row) << 2;
    for (let t = ((<usize>0 - row) & (step - 1)) * GROUP; t < whole; t += step * GROUP) {
      countRange(symbols + row * tokens, t, t + GROUP, phases, classes + model, flips + model, shift, counts);
    }
    countRange(symbols + row * tokens, whole, tokens, phases, classes + model, flips + model, shift, counts);
  }
}

/** Tokens [t, end) of a row. */
// @ts-ignore: decorator
@inline
function countRange(
  row: usize,
  t: usize,
  end: usize,
  phases: usize,
  classes: usize,
  flips: usize,
  shift: u32,
  counts: usize,
): void {
  if (ASC_FEATURE_SIMD) {
    const flip = v128.load(flips), table = v128.load(classes), zero = i8x16.splat(0), shifts = i8x16.splat(<i8>shift);
    for (; t + 16 <= end; t += 16) {
      const phase = phases ? v128.load(phases + t) : zero;
      const s = mapped16(v128.load(row + t), ofPhases(true, flip, phase), shifts), c = ofPhases(true, table, phase);
      const first = v128.shuffle<u8>(s, c, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      const last = v128.shuffle<u8>(s, c, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
      countFour(counts, i64x2.extract_lane(first, 0)), countFour(counts, i64x2.extract_lane(first, 1));
      countFour(counts, i64x2.extract_lane(last, 0)), countFour(counts, i64x2.extract_lane(last, 1));
    }
  }
  for (; t < end; t++) {
    const phase = phases ? <usize>load<u8>(phases + t) : 0;
    const s = mapped1(<u32>load<u8>(row + t), <u32>load<u8>(flips + phase), shift);
    countOne(counts, ((<usize>load<u8>(classes + phase)) << 8) | s);
  }
}

/**
 * Maps rows [begin, end) in place. Unless `ranges` is null, marks by a 1 in seen, u8 [64][256], at least what is then
 * outside the ranges of its class, u8 [64][4]: the first symbol without a sign and how many follow it, 127 by 0, then the
 * first one with a sign and how many.
 */
export function normalize(
  symbols: usize,
  tokens: usize,
  begin: usize,
  end: usize,
  phases: usize,
  classes: usize,
  flips: usize,
  octaves: usize,
  ranges: usize,
  seen: usize,
): void {
  for (let row = begin; row < end; row++) {
    const at = symbols + row * tokens, model = row << 4;
    const shift = <u32>load<u8>(octaves + row) << 2;
    let t: usize = 0;
    if (ASC_FEATURE_SIMD) {
      if (ranges) placeRanges(ranges, classes + model);
      t = phases
        ? normalizeWhole(true, at, tokens, phases, classes + model, flips + model, shift, ranges, seen)
        : normalizeWhole(false, at, tokens, 0, classes + model, flips + model, shift, ranges, seen);
    }
    const rest = t;
    for (; t < tokens; t++) {
      const phase = phases ? <usize>load<u8>(phases + t) : 0;
      store<u8>(at + t, mapped1(<u32>load<u8>(at + t), <u32>load<u8>(flips + model + phase), shift));
    }
    if (ranges) mark(at, rest, tokens, phases, classes + model, seen);
  }
}

/** All tokens of a row but the last, incomplete sixteen. Returns how many. */
// @ts-ignore: decorator
@inline
function normalizeWhole(
  turning: bool,
  row: usize,
  tokens: usize,
  phases: usize,
  classes: usize,
  flips: usize,
  shift: u32,
  ranges: usize,
  seen: usize,
): usize {
  const first = byPhase(turning, RANGES), size = byPhase(turning, RANGES + 16);
  const firstSigned = byPhase(turning, RANGES + 32), sizeSigned = byPhase(turning, RANGES + 48);
  const flip = byPhase(turning, flips), shifts = i8x16.splat(<i8>shift), zero = i8x16.splat(0), rest = i8x16.splat(127);
  let t: usize = 0;
  for (; t + 16 <= tokens; t += 16) {
    const phase = turning ? v128.load(phases + t) : zero;
    const s = mapped16(v128.load(row + t), ofPhases(turning, flip, phase), shifts);
    v128.store(row + t, s);
    if (ranges) {
      const signed = i8x16.gt_s(zero, s);
      const from = v128.bitselect(ofPhases(turning, firstSigned, phase), ofPhases(turning, first, phase), signed);
      const count = v128.bitselect(ofPhases(turning, sizeSigned, phase), ofPhases(turning, size, phase), signed);
      const inside = i8x16.sub_sat_u(count, v128.and(i8x16.sub(s, from), rest));
      if (!i8x16.all_true(inside)) mark(row, t, t + 16, phases, classes, seen);
    }
  }
  return t;
}

/** Values by phase; of a row that does not turn that of phase 0, sixteen times. */
// @ts-ignore: decorator
@inline
function byPhase(turning: bool, values: usize): v128 {
  return turning ? v128.load(values) : v128.load8_splat(values);
}

/** Values of sixteen tokens. */
// @ts-ignore: decorator
@inline
function ofPhases(turning: bool, values: v128, phases: v128): v128 {
  if (!turning) return values;
  if (ASC_FEATURE_RELAXED_SIMD) return i8x16.relaxed_swizzle(values, phases);
  return i8x16.swizzle(values, phases);
}

/** Puts the ranges of a row's classes into RANGES. */
// @ts-ignore: decorator
@inline
function placeRanges(ranges: usize, classes: usize): void {
  for (let phase: usize = 0; phase < 16; phase++) {
    const range = load<u32>(ranges + (<usize>load<u8>(classes + phase) << 2));
    store<u8>(RANGES + phase, range), store<u8>(RANGES + phase, range >> 8, 16);
    store<u8>(RANGES + phase, range >> 16, 32), store<u8>(RANGES + phase, range >> 24, 48);
  }
}

/** Marks tokens [t, end) of a row. */
function mark(row: usize, t: usize, end: usize, phases: usize, classes: usize, seen: usize): void {
  for (; t < end; t++) {
    const table = <usize>load<u8>(classes + (phases ? <usize>load<u8>(phases + t) : 0));
    store<u8>(seen + ((table << 8) | <usize>load<u8>(row + t)), 1);
  }
}

// @ts-ignore: decorator
@inline
function mapped16(s: v128, flips: v128, shifts: v128): v128 {
  return v128.bitselect(v128.xor(s, flips), i8x16.sub(s, shifts), i8x16.splat(-128));
}

// @ts-ignore: decorator
@inline
function mapped1(s: u32, flip: u32, shift: u32): u32 {
  return ((s ^ flip) & 128) | ((s - shift) & 127);
}

/** Inverse of normalize. */
export function denormalize(
  symbols: usize,
  tokens: usize,
  begin: usize,
  end: usize,
  phases: usize,
  flips: usize,
  octaves: usize,
): void {
  for (let row = begin; row < end; row++) {
    const at = symbols + row * tokens;
    const model = row << 4;
    const shift = <u32>load<u8>(octaves + row) << 2;
    let t: usize = 0;
    if (ASC_FEATURE_SIMD) {
      const shifts = i8x16.splat(<i8>shift);
      const rowFlips = v128.load(flips + model), flip0 = i8x16.splat(load<i8>(flips + model));
      for (; t + 16 <= tokens; t += 16) {
        const flip = phases ? i8x16.swizzle(rowFlips, v128.load(phases + t)) : flip0;
        const s = v128.load(at + t);
        v128.store(at + t, v128.bitselect(v128.xor(s, flip), i8x16.add(s, shifts), i8x16.splat(-128)));
      }
    }
    for (; t < tokens; t++) {
      const entry = model + (phases ? <usize>load<u8>(phases + t) : 0);
      const s = <u32>load<u8>(at + t);
      store<u8>(at + t, ((s ^ <u32>load<u8>(flips + entry)) & 128) | ((s + shift) & 127));
    }
  }
}

/** Counts four indices of 16 bits in turns: shifts of a word are cheaper than taking lanes out of a vector. */
// @ts-ignore: decorator
@inline
function countFour(counts: usize, indices: u64): void {
  countOne(counts, <usize>(<u32>indices & 0xffff));
  countOne(counts + OTHER, <usize>(<u32>indices >> 16));
  const high = <u32>(indices >> 32);
  countOne(counts, <usize>(high & 0xffff));
  countOne(counts + OTHER, <usize>(high >> 16));
}

// @ts-ignore: decorator
@inline
function countOne(counts: usize, index: usize): void {
  const at = counts + (index << 2);
  store<u32>(at, load<u32>(at) + 1);
}
