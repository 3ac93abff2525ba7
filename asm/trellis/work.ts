// What the encoder's kernels work on: counts and addresses, written by the host as 32-bit words in this order.

// @ts-ignore: decorator
@unmanaged
export class Work {
  /** Components of a token. */
  components: u32;
  /** Tokens, coded prefix included. */
  tokens: u32;
  /** λ in 1/256. */
  weight: i32;
  /** u16 [128][256], 1/256 bit. */
  bits: u32;
  /** u8 [128]. */
  limits: u32;
  /** i8 [5][components]. */
  rho32: u32;
  /** u8 [5][components]. */
  base: u32;
  /** i32 [64][160]. */
  costs: u32;
  /** Coefficients in sixteenths, i32 [tokens][components]. */
  rows: u32;
  /** Reconstruction in quarters, i16 [tokens][components]. */
  reconstruction: u32;
  /** i32 [tokens][components]. */
  levels: u32;
  /** Trellis state before each level, u8 [tokens][components]. */
  states: u32;
  /** i16 [tokens]. */
  refs: u32;
  /** u8 [tokens]. */
  modes: u32;
  /** u8 [tokens]. */
  energies: u32;
  /** i8 [components]. */
  offsets: u32;
  /** Scratch: candidates of the trellis, i32 [components][4]. */
  candidates: u32;
  /** Scratch: decisions of the trellis, u8 [components]. */
  decisions: u32;
  /** Scratch: prediction in quarters, i32 [components]. */
  predicted: u32;
}

/** Next state by 2 · state + parity. */
// @ts-ignore: decorator
@inline
export function nextState(state: u32, parity: u32): u32 {
  // 0:{0,4} 1:{6,2} 2:{4,0} 3:{2,6} 4:{1,5} 5:{7,3} 6:{5,1} 7:{3,7}, a nibble each.
  const at = (state << 1 | parity) << 2;
  return <u32> (<u64> 0x7315375162042640 >> at) & 7;
}

/** Class of a component in a token. */
// @ts-ignore: decorator
@inline
export function tokenClass(base: i32, offset: i32, energy: i32): i32 {
  return min(63, max(0, base + offset + 2 * (energy - 1)));
}

/** Cost of a level in 1/256 bit, its escape included. */
// @ts-ignore: decorator
@inline
export function levelBits(bits: usize, limits: usize, table: i32, level: i32): i32 {
  const z = level > 0 ? 2 * level - 1 : -2 * level;
  const limit = <i32> load<u8>(limits + table);
  const row = bits + (<usize> table << 9);
  if (z < limit) return <i32> load<u16>(row + (z << 1));
  let bytes = 1;
  for (let rest = z - limit; rest >= 0x80; rest >>= 7) bytes++;
  return <i32> load<u16>(row + ((255 - (level & 1)) << 1)) + 2048 * bytes;
}

/** Reconstruction of a level in steps. */
// @ts-ignore: decorator
@inline
export function reconstruct(level: i32, quantizer: i32): i32 {
  return 2 * level - (quantizer == 0 ? 0 : i32(level > 0) - i32(level < 0));
}

/** Prediction of a component in quarters. */
// @ts-ignore: decorator
@inline
export function predict(rho32: i32, reference: i32): i32 {
  return (rho32 * reference + 16) >> 5;
}
