/**
 * How lanes share out a file: a chunk that is more than a lane's part of what is left is decoded in several jobs of a few
 * layers each, so that no lane waits long while another decodes the last chunk, or the only one.
 *
 * @module
 */

/**
 * In how many jobs a chunk is decoded. Each of them does the chunk's entropy decoding, which is why chunks are not split
 * finely.
 *
 * @param tokens of the chunk
 * @param left tokens from its first one to the end
 * @param lanes number of lanes
 * @param layers number of layers to restore
 */
export function sharesOf(tokens: number, left: number, lanes: number, layers: number): number {
  return Math.max(1, Math.min(layers, lanes, Math.round(lanes * tokens / left)));
}

/** [begin, end) in ranges that differ by at most one layer. */
export function layerRanges(begin: number, end: number, shares: number): [begin: number, end: number][] {
  const at = (share: number) => begin + Math.round((end - begin) * share / shares);
  return Array.from({ length: shares }, (_, share) => [at(share), at(share + 1)]);
}
