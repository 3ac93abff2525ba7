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
}

/** The forms of a plan's streams. */
export function rowForms(groups: readonly QuantGroup[]): RowForm[] {
  const components = (wanted: number) => groups.reduce((sum, { size, type }) => type === wanted ? sum + size : sum, 0);
  const codes = [1, 2, 3].map((type) => ({ rows: components(type), bits: TYPE_BITS[type] }));
  const params = { rows: 2 * groups.length, bits: 8 };
  return [...codes, params, params];
}
