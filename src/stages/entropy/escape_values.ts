/**
 * Escapes as numbers, for decoders that place them in parallel: the symbol that is the k-th escape of a stream has the k-th
 * value.
 *
 * @module
 */

/** Stands for an escape that no encoder writes, or that is cut off; above all values. */
export const NO_VALUE = 0xffffffff;

/**
 * Values of LEB128 escapes as `unescapeLevels` reads them. The first that is longer than need be or cut off ends the list as
 * {@linkcode NO_VALUE}: it is an error of the symbol that has it, and when there is no such symbol the stream is not read to
 * its end.
 */
export function escapeValues(escapes: Uint8Array): Uint32Array {
  const values = new Uint32Array(escapes.length);
  let count = 0;
  for (let at = 0; at < escapes.length;) {
    let value = 0;
    for (let shift = 0;; shift += 7) {
      // Four bytes hold all that a level can need.
      if (at === escapes.length || shift > 21) return ended(values, count);
      const byte = escapes[at++];
      if (byte === 0 && shift > 0) return ended(values, count);
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    values[count++] = value;
  }
  return values.slice(0, count);
}

function ended(values: Uint32Array, count: number): Uint32Array {
  values[count] = NO_VALUE;
  return values.slice(0, count + 1);
}
