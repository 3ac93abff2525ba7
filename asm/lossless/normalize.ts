// normalize, denormalize: the map of symbols that makes rows of different scales and signs alike, and its inverse.
// Models are bytes for each of 16 phases of a row; phase 0 stands for all tokens where phases is null.

/** From counts to those that every second symbol is counted in: one that comes twice need not wait for itself. */
const OTHER: usize = 65536 + 1088;

/**
 * Maps rows [begin, end) in place: the sign turned by flips, four times `octaves` taken from the rest modulo 128. Counts
 * the results by classes into counts u32 [64][256], of which there are two, OTHER bytes apart.
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
  counts: usize,
): void {
  for (let row = begin; row < end; row++) {
    const at = symbols + row * tokens;
    const model = row << 4;
    const shift = <u32>load<u8>(octaves + row) << 2;
    let t: usize = 0;
    if (ASC_FEATURE_SIMD) {
      const shifts = i8x16.splat(<i8>shift);
      const rowFlips = v128.load(flips + model), rowClasses = v128.load(classes + model);
      const flip0 = i8x16.splat(load<i8>(flips + model)), class0 = i8x16.splat(load<i8>(classes + model));
      for (; t + 16 <= tokens; t += 16) {
        const phase = phases ? v128.load(phases + t) : i8x16.splat(0);
        const flip = phases ? i8x16.swizzle(rowFlips, phase) : flip0;
        const table = phases ? i8x16.swizzle(rowClasses, phase) : class0;
        const s = v128.load(at + t);
        const mapped = v128.bitselect(v128.xor(s, flip), i8x16.sub(s, shifts), i8x16.splat(-128));
        v128.store(at + t, mapped);
        countEight(counts, v128.shuffle<u8>(mapped, table, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
        countEight(counts, v128.shuffle<u8>(mapped, table, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
      }
    }
    for (; t < tokens; t++) {
      const entry = model + (phases ? <usize>load<u8>(phases + t) : 0);
      const s = <u32>load<u8>(at + t);
      const mapped = ((s ^ <u32>load<u8>(flips + entry)) & 128) | ((s - shift) & 127);
      store<u8>(at + t, mapped);
      count(counts, ((<usize>load<u8>(classes + entry)) << 8) | mapped);
    }
  }
}

/** Inverse of normalize, without counts. */
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

/** Counts eight indices of 16 bits. */
// @ts-ignore: decorator
@inline
function countEight(counts: usize, indices: v128): void {
  countFour(counts, i64x2.extract_lane(indices, 0));
  countFour(counts, i64x2.extract_lane(indices, 1));
}

/** Counts four indices of 16 bits in turns: shifts of a word are cheaper than taking lanes out of a vector. */
// @ts-ignore: decorator
@inline
function countFour(counts: usize, indices: u64): void {
  count(counts, <usize>(<u32>indices & 0xffff));
  count(counts + OTHER, <usize>(<u32>indices >> 16));
  const high = <u32>(indices >> 32);
  count(counts, <usize>(high & 0xffff));
  count(counts + OTHER, <usize>(high >> 16));
}

// @ts-ignore: decorator
@inline
function count(counts: usize, index: usize): void {
  const at = counts + (index << 2);
  store<u32>(at, load<u32>(at) + 1);
}
