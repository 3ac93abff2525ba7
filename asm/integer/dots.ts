// How a relaxed build multiplies: with sums of 32 bits where the engine has one instruction for the products of four bytes
// and their addition (AVX-VNNI, ARM's SDOT), otherwise with sums of pairs in 16 bits as far as they hold.
//
// Relaxed SIMD leaves open what the products give where the second operand is beyond 7 bits, and what an engine gives tells
// which instructions it has: pairs saturate at 16 bits. Sums are the same either way: the basis stays within 7 bits.

/** Tokens of a tile with sums of 32 bits. */
const DOT_TOKENS: u32 = 5;
/** And with sums of pairs. */
const PAIR_TOKENS: u32 = 4;
/** And without relaxed SIMD. */
const WIDE_TOKENS: u32 = ASC_FEATURE_SIMD ? 3 : 1;

const SATURATED: i32 = 2 * 32767;
/** 127, then 255: loaded, so that no compiler works the products out by itself. */
const OPERANDS: usize = memory.data<u64>([0x7f7f7f7f7f7f7f7f, 0x7f7f7f7f7f7f7f7f, -1, -1]);

let dots = ASC_FEATURE_RELAXED_SIMD ? hasDots() : false;

function hasDots(): bool {
  const sum = v128.relaxed_dot_add<i32>(v128.load(OPERANDS), v128.load(OPERANDS, 16), i32x4.splat(0));
  return i32x4.extract_lane(sum, 0) != SATURATED;
}

/** Whether sums of 32 bits are used. */
// @ts-ignore: decorator
@inline
export function useDots(): bool {
  return ASC_FEATURE_RELAXED_SIMD ? dots : false;
}

/** Has a relaxed build multiply one way or the other, whatever the engine; not between packLevels and multiply. */
export function setDots(on: bool): void {
  dots = on;
}

/** Tokens of a tile, which the number of tokens is padded to a multiple of. */
export function tokensAtOnce(): u32 {
  if (!ASC_FEATURE_RELAXED_SIMD) return WIDE_TOKENS;
  return useDots() ? DOT_TOKENS : PAIR_TOKENS;
}
