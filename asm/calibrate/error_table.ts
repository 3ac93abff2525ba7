// Quantization errors of every group that KVTC's bit allocation can choose: what Backend.quantize and dequantize make
// of the coefficients, operation by operation in f32, without storing codes.
//
// Four rows go through together, one a lane, transposed to [component][4] so that a whole block stays in the L1 cache.
// The minimum, maximum and peak over the last `size` components come from block prefixes and suffixes (van Herk 1992,
// Gil and Werman 1993), three operations a component whatever the size.

/** Group sizes in table order. */
const SIZES: StaticArray<u32> = [1, 16, 64, 256, 1024];
const SIZE_COUNT: usize = 5;
const TYPE_COUNT: usize = 3;

/** Bytes of work memory for a rank: one transposed block and six running extrema, 16 bytes a component each. */
export function errorTableScratchBytes(rank: usize): usize {
  return rank * 16 * 7;
}

/**
 * Adds the errors of 4 rows to `errors` f64 [rank][5 sizes][3 types][2] (two partial sums each) and their energies to
 * `energy` f64 [rank][2]. coefficients: f32 [4][stride]. Groups that would begin before component 0 are not touched.
 */
export function errorTableRows(
  coefficients: usize,
  stride: usize,
  rank: usize,
  errors: usize,
  energy: usize,
  work: usize,
): void {
  const block = work, bytes = rank * 16;
  for (let i: usize = 0; i < rank; i++) {
    for (let lane: usize = 0; lane < 4; lane++) {
      const x = load<f32>(coefficients + (lane * stride + i) * 4);
      store<f32>(block + i * 16 + lane * 4, x);
      const at = energy + i * 16 + (lane & 1) * 8;
      store<f64>(at, load<f64>(at) + <f64>x * <f64>x);
    }
  }
  for (let s: usize = 0; s < SIZE_COUNT; s++) {
    const size = <usize>unchecked(SIZES[<i32>s]);
    if (size > rank) break;
    if (ASC_FEATURE_SIMD) {
      extrema(block, rank, size, work + bytes);
      for (let i = size - 1; i < rank; i++) {
        groupErrors(block, i, size, work + bytes, bytes, errors + (i * SIZE_COUNT + s) * TYPE_COUNT * 16);
      }
    } else {
      for (let i = size - 1; i < rank; i++) {
        for (let lane: usize = 0; lane < 4; lane++) {
          laneErrors(block + lane * 4, i, size, errors + (i * SIZE_COUNT + s) * TYPE_COUNT * 16 + (lane & 1) * 8);
        }
      }
    }
  }
}

/** Prefix and suffix extrema within blocks of `size` components: [prefix, suffix] of min, max and peak magnitude. */
function extrema(block: usize, rank: usize, size: usize, to: usize): void {
  const bytes = rank * 16;
  for (let begin: usize = 0; begin < rank; begin += size) {
    const end = min(begin + size, rank);
    let low = v128.load(block + begin * 16), high = low;
    for (let i = begin; i < end; i++) {
      const at = i * 16;
      const x = v128.load(block + at);
      low = f32x4.min(low, x), high = f32x4.max(high, x);
      v128.store(to + at, low), v128.store(to + bytes + at, high);
    }
    low = v128.load(block + (end - 1) * 16), high = low;
    for (let i = end; i > begin; i--) {
      const at = (i - 1) * 16;
      const x = v128.load(block + at);
      low = f32x4.min(low, x), high = f32x4.max(high, x);
      v128.store(to + 2 * bytes + at, low), v128.store(to + 3 * bytes + at, high);
    }
  }
}

/**
 * Rounds magnitudes to a float with `fraction` bits of fraction and least exponent `lowest` (biased), ties to even:
 * adding and subtracting a power of two whose last bit weighs one unit of the result.
 */
// @ts-ignore: decorator
@inline
function roundMagnitude(a: v128, fraction: i32, lowest: i32): v128 {
  const exponent = i32x4.max_s(v128.and(a, i32x4.splat(0x7f800000)), i32x4.splat(lowest << 23));
  const magic = i32x4.add(exponent, i32x4.splat((23 - fraction) << 23));
  return f32x4.sub(f32x4.add(a, magic), magic);
}

/** Rounds to binary16, to infinity beyond its range. */
// @ts-ignore: decorator
@inline
function toHalf(x: v128): v128 {
  const rounded = roundMagnitude(f32x4.abs(x), 10, 127 - 14);
  const infinite = f32x4.gt(rounded, f32x4.splat(65504));
  const magnitude = v128.bitselect(f32x4.splat(Infinity), rounded, infinite);
  return v128.or(magnitude, v128.and(x, i32x4.splat(0x80000000)));
}

/** The scale to divide by: infinity for 0, which makes every code 0. */
// @ts-ignore: decorator
@inline
function divisor(scale: v128): v128 {
  return v128.bitselect(f32x4.splat(Infinity), scale, f32x4.eq(scale, f32x4.splat(0)));
}

/** f32 code of an integer type. */
// @ts-ignore: decorator
@inline
function integerCode(offset: v128, by: v128, top: f32): v128 {
  return f32x4.pmin(f32x4.splat(top), f32x4.pmax(f32x4.splat(0), f32x4.nearest(f32x4.div(offset, by))));
}

// @ts-ignore: decorator
@inline
function accumulate(at: usize, sums: v128): void {
  const high = v128.shuffle<u32>(sums, sums, 2, 3, 2, 3);
  const both = f64x2.add(f64x2.promote_low_f32x4(sums), f64x2.promote_low_f32x4(high));
  v128.store(at, f64x2.add(v128.load(at), both));
}

/** Errors of the group of `size` components that ends at component i, all types, 4 rows. */
function groupErrors(block: usize, i: usize, size: usize, ext: usize, bytes: usize, errors: usize): void {
  const first = i + 1 - size;
  const low = f32x4.min(v128.load(ext + i * 16), v128.load(ext + 2 * bytes + first * 16));
  const high = f32x4.max(v128.load(ext + bytes + i * 16), v128.load(ext + 3 * bytes + first * 16));
  const range = f32x4.sub(high, low);
  const peak = f32x4.max(f32x4.abs(low), f32x4.abs(high));
  const shift = toHalf(low);
  const scale2 = toHalf(f32x4.div(range, f32x4.splat(3)));
  const scale4 = toHalf(f32x4.div(range, f32x4.splat(15)));
  const scale8 = toHalf(f32x4.div(peak, f32x4.splat(448)));
  const by2 = divisor(scale2), by4 = divisor(scale4), by8 = divisor(scale8);
  let sum2 = f32x4.splat(0), sum4 = sum2, sum8 = sum2;
  for (let at = block + first * 16, end = block + i * 16; at <= end; at += 16) {
    const x = v128.load(at);
    const offset = f32x4.sub(x, shift);
    const y2 = f32x4.add(f32x4.mul(integerCode(offset, by2, 3), scale2), shift);
    const e2 = f32x4.sub(x, y2);
    sum2 = f32x4.add(sum2, f32x4.mul(e2, e2));
    const y4 = f32x4.add(f32x4.mul(integerCode(offset, by4, 15), scale4), shift);
    const e4 = f32x4.sub(x, y4);
    sum4 = f32x4.add(sum4, f32x4.mul(e4, e4));
    // E4M3 is symmetric: magnitudes do.
    const a = f32x4.abs(x);
    const code = roundMagnitude(f32x4.pmin(f32x4.splat(448), f32x4.div(a, by8)), 3, 127 - 6);
    const e8 = f32x4.sub(a, f32x4.mul(code, scale8));
    sum8 = f32x4.add(sum8, f32x4.mul(e8, e8));
  }
  accumulate(errors, sum2);
  accumulate(errors + 16, sum4);
  accumulate(errors + 32, sum8);
}

function roundMagnitude1(a: f32, fraction: i32, lowest: i32): f32 {
  const exponent = max(reinterpret<i32>(a) & 0x7f800000, lowest << 23);
  const magic = reinterpret<f32>(exponent + ((23 - fraction) << 23));
  return a + magic - magic;
}

function toHalf1(x: f32): f32 {
  const rounded = roundMagnitude1(abs(x), 10, 127 - 14);
  return copysign<f32>(rounded > 65504 ? <f32>Infinity : rounded, x);
}

/** The same for one row, for engines without SIMD. */
function laneErrors(block: usize, i: usize, size: usize, errors: usize): void {
  const first = i + 1 - size;
  let low = load<f32>(block + i * 16), high = low;
  for (let k = first; k < i; k++) {
    const x = load<f32>(block + k * 16);
    low = min(low, x), high = max(high, x);
  }
  const shift = toHalf1(low);
  const scale2 = toHalf1((high - low) / 3), scale4 = toHalf1((high - low) / 15);
  const scale8 = toHalf1(max(abs(low), abs(high)) / 448);
  const by2: f32 = scale2 == 0 ? <f32>Infinity : scale2;
  const by4: f32 = scale4 == 0 ? <f32>Infinity : scale4;
  const by8: f32 = scale8 == 0 ? <f32>Infinity : scale8;
  let sum2: f32 = 0, sum4: f32 = 0, sum8: f32 = 0;
  for (let k = first; k <= i; k++) {
    const x = load<f32>(block + k * 16);
    const offset = x - shift;
    const e2 = x - (min<f32>(3, max<f32>(0, nearest(offset / by2))) * scale2 + shift);
    sum2 += e2 * e2;
    const e4 = x - (min<f32>(15, max<f32>(0, nearest(offset / by4))) * scale4 + shift);
    sum4 += e4 * e4;
    const e8 = abs(x) - roundMagnitude1(min<f32>(448, abs(x) / by8), 3, 127 - 6) * scale8;
    sum8 += e8 * e8;
  }
  store<f64>(errors, load<f64>(errors) + <f64>sum2);
  store<f64>(errors, load<f64>(errors, 16) + <f64>sum4, 16);
  store<f64>(errors, load<f64>(errors, 32) + <f64>sum8, 32);
}
