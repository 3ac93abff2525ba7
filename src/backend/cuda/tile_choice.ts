/**
 * Which tile a product takes: the largest that still gives every multiprocessor one, else the smallest.
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
}

/** Tiles that cover a product. */
export function tileCount({ rows, columns }: Tile, m: number, n: number): number {
  return Math.ceil(m / rows) * Math.ceil(n / columns);
}

/** The tile for m × n sums; `tiles` go from large to small. */
export function chooseTile(tiles: readonly Tile[], m: number, n: number, multiprocessors: number): Tile {
  return tiles.find((tile) => tileCount(tile, m, n) >= multiprocessors) ?? tiles[tiles.length - 1];
}
