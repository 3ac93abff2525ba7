/**
 * Parts of a chunk that a device can bind: some blocks and tokens, whose elements and feature rows each lie in a range of
 * limited size.
 *
 * @module
 */
import { DeviceLimitError } from "../fallback.ts";
import { type BlockShape, paddedLength } from "../backend.ts";

/** Blocks [blockBegin, blockEnd) and tokens [tokenBegin, tokenEnd) of a chunk. */
export interface ChunkTile {
  readonly blockBegin: number;
  readonly blockEnd: number;
  readonly tokenBegin: number;
  readonly tokenEnd: number;
}

/**
 * Cuts some tokens of a chunk; tokens of the result are counted from the first of them.
 *
 * @param flat the elements of a tile follow one another: a tile of not all tokens has one block
 * @param mostBytes of a range
 * @throws {KvzLimitError} when not even one token fits.
 */
export function chunkTiles(
  { blocks, tokens: allTokens, dim }: BlockShape,
  tokens: number,
  elementBytes: number,
  flat: boolean,
  mostBytes: number,
): ChunkTile[] {
  const rowBytes = paddedLength(blocks * dim) * 4;
  const headBytes = dim * elementBytes;
  if (rowBytes > mostBytes) {
    throw new DeviceLimitError(`Cannot bind a row of ${rowBytes} bytes: this WebGPU device binds at most ${mostBytes}`);
  }
  const tokenStep = Math.min(tokens, Math.floor(mostBytes / rowBytes), Math.floor(mostBytes / headBytes));
  // A tile of n blocks spans all tokens of n − 1 blocks and its own tokens of the last.
  const blockStep = flat && tokenStep < allTokens
    ? 1
    : 1 + Math.floor((mostBytes - tokenStep * headBytes) / (allTokens * headBytes));
  const tiles: ChunkTile[] = [];
  for (let tokenBegin = 0; tokenBegin < tokens; tokenBegin += tokenStep) {
    for (let blockBegin = 0; blockBegin < blocks; blockBegin += blockStep) {
      tiles.push({
        blockBegin,
        blockEnd: Math.min(blocks, blockBegin + blockStep),
        tokenBegin,
        tokenEnd: Math.min(tokens, tokenBegin + tokenStep),
      });
    }
  }
  return tiles;
}
