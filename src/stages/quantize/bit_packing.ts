/**
 * Codes of 1 to 8 bits without gaps: the first code in the lowest bits of the first byte.
 *
 * @module
 */

/** Bytes of `count` codes of `bits` bits. */
export function packedBytes(count: number, bits: number): number {
  return Math.ceil(count * bits / 8);
}

/** Packs codes below 2^bits. */
export function packBits(codes: Uint8Array, bits: number, out = new Uint8Array(packedBytes(codes.length, bits))) {
  if (bits === 8) {
    out.set(codes);
    return out;
  }
  let [at, held, filled] = [0, 0, 0];
  for (let i = 0; i < codes.length; i++) {
    held |= codes[i] << filled;
    filled += bits;
    if (filled >= 8) {
      out[at++] = held & 255;
      held >>= 8;
      filled -= 8;
    }
  }
  if (filled > 0) out[at] = held;
  return out;
}

/** Inverse of {@linkcode packBits}; `bytes` holds at least `count` codes. */
export function unpackBits(bytes: Uint8Array, count: number, bits: number): Uint8Array {
  const out = new Uint8Array(count);
  if (bits === 8) {
    out.set(bytes.subarray(0, count));
    return out;
  }
  const mask = (1 << bits) - 1;
  let [at, held, filled] = [0, 0, 0];
  for (let i = 0; i < count; i++) {
    if (filled < bits) {
      held |= bytes[at++] << filled;
      filled += 8;
    }
    out[i] = held & mask;
    held >>= bits;
    filled -= bits;
  }
  return out;
}

/** Packs rows of `dim` codes into whole bytes each. */
export function packRows(codes: Uint8Array, dim: number, bits: number): Uint8Array {
  const rows = codes.length / dim;
  if (dim * bits % 8 === 0) return packBits(codes, bits);
  const perRow = packedBytes(dim, bits);
  const out = new Uint8Array(rows * perRow);
  for (let r = 0; r < rows; r++) {
    packBits(codes.subarray(r * dim, (r + 1) * dim), bits, out.subarray(r * perRow, (r + 1) * perRow));
  }
  return out;
}

/** Inverse of {@linkcode packRows}. */
export function unpackRows(bytes: Uint8Array, dim: number, bits: number): Uint8Array {
  const perRow = packedBytes(dim, bits);
  const rows = bytes.length / perRow;
  if (dim * bits % 8 === 0) return unpackBits(bytes, rows * dim, bits);
  const out = new Uint8Array(rows * dim);
  for (let r = 0; r < rows; r++) {
    out.set(unpackBits(bytes.subarray(r * perRow, (r + 1) * perRow), dim, bits), r * dim);
  }
  return out;
}
