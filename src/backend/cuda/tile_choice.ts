/**
 * Which tile a product takes: the one with which the multiprocessor that has most to do has least.
 *
 * @module
 */

/** A tile of the kernels in cuda/gemm.cu and cuda/integer.cu. */
export interface Tile {
  /** Columns, by which kernels are named. */
  readonly columns: number;
  readonly rows: number;
  readonly threads: number;
  /** Bytes of dynamic shared memory. */
  readonly shared: number;
  /** Sums a second of a busy multiprocessor, relative to those of the largest tile; an estimate. */
  readonly speed: number;
}

/** Tiles that cover a product. */
export function tileCount({ rows, columns }: Tile, m: number, n: number): number {
  return Math.ceil(m / rows) * Math.ceil(n / columns);
}

/** The tile for m × n sums; `columns` names one instead. */
export function chooseTile(
  tiles: readonly Tile[],
  m: number,
  n: number,
  multiprocessors: number,
  columns: number | null,
): Tile {
  const named = tiles.find((tile) => tile.columns === columns);
  if (named !== undefined) return named;
  const time = (tile: Tile) =>
    Math.ceil(tileCount(tile, m, n) / multiprocessors) * tile.rows * tile.columns / tile.speed;
  return tiles.reduce((best, tile) => time(tile) < time(best) ? tile : best);
}
