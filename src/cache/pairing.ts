/**
 * The two orders of RoPE's coordinate pairs in a head: half-split (i, i + dim/2), as Hugging Face models and this
 * library have it, and adjacent (2i, 2i + 1), as llama.cpp has it for many architectures.
 *
 * @module
 */
import { asUint16, asUint32 } from "./elements.ts";
import { BYTES_PER_ELEMENT, type DType, type RopePairing } from "./types.ts";

/** Shape of the rows whose pairing is changed. */
export interface PairingShape {
  /** Element type. */
  readonly dtype: DType;
  /** Elements of a row. */
  readonly dim: number;
  /** Leading elements that are paired; the rest stays where it is. */
  readonly rotaryDim: number;
}

/** order[i] = index in the adjacent order of element i in the half-split order. */
function adjacentIndex(rotaryDim: number): Int32Array {
  const half = rotaryDim / 2;
  return Int32Array.from({ length: rotaryDim }, (_, i) => i < half ? 2 * i : 2 * (i - half) + 1);
}

/**
 * Reorders the leading `rotaryDim` elements of every row of little-endian bytes [rows][dim].
 *
 * @returns New bytes; a copy also where nothing changes (`from` equals `to`).
 * @throws {RangeError} The rotated dimension is odd or larger than the row, or the bytes are no whole rows.
 */
export function convertPairing(bytes: Uint8Array, shape: PairingShape, from: RopePairing, to: RopePairing): Uint8Array {
  const { dtype, dim, rotaryDim } = shape;
  if (!(Number.isSafeInteger(rotaryDim) && rotaryDim >= 0 && rotaryDim % 2 === 0 && rotaryDim <= dim)) {
    throw new RangeError(
      `Cannot convert pairing: rotated dimension is ${rotaryDim}, expected an even number up to ${dim}`,
    );
  }
  const rowBytes = dim * BYTES_PER_ELEMENT[dtype];
  if (rowBytes === 0 || bytes.length % rowBytes !== 0) {
    throw new RangeError(`Cannot convert pairing: ${bytes.length} bytes are not a multiple of the row's ${rowBytes}`);
  }
  // Not slice(): that of a Node Buffer is a view, and what follows writes into it.
  const out = new Uint8Array(bytes);
  if (from === to) return out;
  const source = dtype === "f32" ? asUint32(bytes) : asUint16(bytes);
  const target = dtype === "f32" ? asUint32(out) : asUint16(out);
  const adjacent = adjacentIndex(rotaryDim);
  for (let row = 0; row < target.length; row += dim) {
    if (to === "half-split") { for (let i = 0; i < rotaryDim; i++) target[row + i] = source[row + adjacent[i]]; }
    else for (let i = 0; i < rotaryDim; i++) target[row + adjacent[i]] = source[row + i];
  }
  return out;
}
