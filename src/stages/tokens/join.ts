/**
 * Joining what was coded for two neighbouring ranges of tokens.
 *
 * @module
 */

/** [blocks][tokens][bytes] of two ranges of tokens as those of both. */
export function joinRows(before: Uint8Array, after: Uint8Array, blocks: number): Uint8Array {
  const [m, n] = [before.length / blocks, after.length / blocks];
  const out = new Uint8Array(before.length + after.length);
  for (let block = 0; block < blocks; block++) {
    out.set(before.subarray(block * m, (block + 1) * m), block * (m + n));
    out.set(after.subarray(block * n, (block + 1) * n), block * (m + n) + m);
  }
  return out;
}
