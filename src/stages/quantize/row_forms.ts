/**
 * KVTC's streams as rows of symbols, for coders that choose a table by the row.
 *
 * @module
 */
import { type QuantGroup, TYPE_BITS } from "../../backend/backend.ts";

/** Form of one of the five streams: int2, int4 and fp8 codes, low and high bytes of shifts and scales. */
export interface RowForm {
  readonly rows: number;
  /** Bits of a symbol. Rows are padded to whole bytes. */
  readonly bits: number;
  /** What 8 bits are, of which some symbols are never written. */
  readonly of?: "fp8" | "high bytes";
}

/** The forms of a plan's streams. */
export function rowForms(groups: readonly QuantGroup[]): RowForm[] {
  const components = (wanted: number) => groups.reduce((sum, { size, type }) => type === wanted ? sum + size : sum, 0);
  const [int2, int4, fp8] = [1, 2, 3].map((type): RowForm => ({ rows: components(type), bits: TYPE_BITS[type] }));
  const params = { rows: 2 * groups.length, bits: 8 };
  return [int2, int4, { ...fp8, of: "fp8" }, params, { ...params, of: "high bytes" }];
}

/** What is wrong with a symbol that no encoder writes in a form; null where one may. */
export function faultOf({ bits, of }: RowForm, symbol: number): string | null {
  if (symbol >> bits !== 0) return `a symbol has more than ${bits} bits`;
  // E4M3 has two NaN codes; binary16's exponent of ones, infinity or NaN, shows in its high byte.
  if (of === "fp8" && (symbol & 0x7f) === 0x7f) return "a fp8 code is NaN";
  return of === "high bytes" && (symbol & 0x7c) === 0x7c ? "a shift or scale is not finite" : null;
}
