/**
 * Shingles: hashes of runs of 32 token ids, by which calibration and held-out texts are kept apart.
 *
 * The hash is a polynomial in the token values modulo 2³², twice with different multipliers, over token ids mixed
 * beforehand (so that small ids fill all bits). It can be rolled: one side is hashed in blocks that do not overlap, the
 * other is looked up at every offset, so that any common run of 63 tokens is found wherever it stands.
 *
 * @module
 */
import { mix32 } from "./random.ts";

/** Tokens of a shingle. */
export const SHINGLE_TOKENS = 32;

const MULTIPLIERS = [0x9e3779b1, 0x85ebca77] as const;
const SALTS = [0x27d4eb2f, 0x165667b1] as const;

/** One of the two polynomials, rolled over a sequence. */
class RollingHash {
  readonly #multiplier: number;
  readonly #salt: number;
  /** multiplier ^ SHINGLE_TOKENS, the weight with which a token leaves. */
  readonly #leaving: number;
  #hash = 0;

  constructor(which: 0 | 1) {
    this.#multiplier = MULTIPLIERS[which];
    this.#salt = SALTS[which];
    let power = 1;
    for (let i = 0; i < SHINGLE_TOKENS; i++) power = Math.imul(power, this.#multiplier);
    this.#leaving = power;
  }

  push(id: number): void {
    this.#hash = (Math.imul(this.#hash, this.#multiplier) + mix32(id ^ this.#salt)) | 0;
  }

  pop(id: number): void {
    this.#hash = (this.#hash - Math.imul(mix32(id ^ this.#salt), this.#leaving)) | 0;
  }

  get value(): number {
    return mix32(this.#hash);
  }
}

/** The hash of every run of 32 ids: calls `visit` with the index of its first token and both halves of the hash. */
function roll(ids: ArrayLike<number>, visit: (first: number, high: number, low: number) => void): void {
  const high = new RollingHash(0);
  const low = new RollingHash(1);
  for (let t = 0; t < ids.length; t++) {
    high.push(ids[t]);
    low.push(ids[t]);
    if (t >= SHINGLE_TOKENS) {
      high.pop(ids[t - SHINGLE_TOKENS]);
      low.pop(ids[t - SHINGLE_TOKENS]);
    }
    if (t >= SHINGLE_TOKENS - 1) visit(t + 1 - SHINGLE_TOKENS, high.value, low.value);
  }
}

function join(high: number, low: number): bigint {
  return (BigInt(high) << 32n) | BigInt(low);
}

/** 64-bit hashes of the blocks [0, 32), [32, 64), … of a sequence; what is left at its end is not hashed. */
export function shingleHashes(ids: ArrayLike<number>): BigUint64Array {
  const hashes = new BigUint64Array(Math.floor(ids.length / SHINGLE_TOKENS));
  roll(ids, (first, high, low) => {
    if (first % SHINGLE_TOKENS === 0) hashes[first / SHINGLE_TOKENS] = join(high, low);
  });
  return hashes;
}

/** Shingles to look sequences up in. */
export class ShingleSet {
  readonly #hashes: Set<bigint>;

  constructor(hashes: Iterable<bigint>) {
    this.#hashes = new Set(hashes);
  }

  get size(): number {
    return this.#hashes.size;
  }

  /** The first token of the first run of 32 ids that is in the set, or −1. All offsets are looked at. */
  find(ids: ArrayLike<number>): number {
    let found = -1;
    if (this.#hashes.size === 0) return found;
    roll(ids, (first, high, low) => {
      if (found < 0 && this.#hashes.has(join(high, low))) found = first;
    });
    return found;
  }
}

/** Where a sequence overlaps with shingles: the first token of the first common run of 32 ids, or −1. */
export function overlaps(ids: ArrayLike<number>, hashes: Iterable<bigint> | ShingleSet): number {
  return (hashes instanceof ShingleSet ? hashes : new ShingleSet(hashes)).find(ids);
}

/** 64-bit hash of a whole sequence of integers. */
export function sequenceHash(values: ArrayLike<number>): bigint {
  let high = mix32(values.length ^ SALTS[0]);
  let low = mix32(values.length ^ SALTS[1]);
  for (let i = 0; i < values.length; i++) {
    high = mix32(Math.imul(high, MULTIPLIERS[0]) + values[i]);
    low = mix32(Math.imul(low, MULTIPLIERS[1]) ^ values[i]);
  }
  return join(high, low);
}
