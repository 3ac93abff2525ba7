/**
 * What is wanted of the Table 5 point.
 *
 * @module
 */
import type { ProductTimes } from "./table5_products.ts";

/** Each way takes at most so many times the products alone, and so many milliseconds more. */
const PRODUCTS = 1.25;
const MORE_MILLISECONDS = 10;
/** What either way may take with few components. */
export const MOST_MILLISECONDS = 165;
/** So many of a kind are few. */
export const FEW_COMPONENTS = 8000;

/** One way, beside what is wanted. */
export interface WayVerdict {
  readonly milliseconds: number;
  /** Share of the time of the products alone. */
  readonly ofProducts: number;
  /** 1.25 times the products, + 10 ms. */
  readonly boundMilliseconds: number;
  /** null where the products are not cuBLASLt's, or a processor plays the device. */
  readonly withinBound: boolean | null;
  /** At most 165 ms; null with more than 8,000 components, or on a processor. */
  readonly within165: boolean | null;
}

/** Both ways. `kept` are components of keys and of values; `software`: a processor plays the device. */
export function table5Goals(
  times: { readonly compressMilliseconds: number; readonly decompressMilliseconds: number },
  products: ProductTimes,
  kept: readonly number[],
  software: boolean,
): { compress: WayVerdict; decompress: WayVerdict } {
  const way = (milliseconds: number, product: number): WayVerdict => {
    const boundMilliseconds = PRODUCTS * product + MORE_MILLISECONDS;
    const few = Math.max(...kept) <= FEW_COMPONENTS;
    return {
      milliseconds,
      ofProducts: milliseconds / product,
      boundMilliseconds,
      withinBound: software || products.by !== "cuBLASLt" ? null : milliseconds <= boundMilliseconds,
      within165: software || !few ? null : milliseconds <= MOST_MILLISECONDS,
    };
  };
  return {
    compress: way(times.compressMilliseconds, products.projectMilliseconds),
    decompress: way(times.decompressMilliseconds, products.reconstructMilliseconds),
  };
}
