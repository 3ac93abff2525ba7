/**
 * What codes the streams of the Table 5 point.
 *
 * @module
 */
import type { Backend, DeviceBuffer, QuantGroup } from "../../src/backend/backend.ts";
import type { DeviceStreams } from "../../src/backend/gpu/code_streams.ts";
import type { DeviceContexts, DeviceTables, GpuEntropy, StreamBatch } from "../../src/backend/gpu/entropy.ts";
import { frequenciesOf } from "../../src/stages/entropy/packed_tables.ts";

/** Tokens of a chunk, and so of a stream. */
export const CHUNK = 256;
/** Rows of one kind, coded as one stream a chunk. */
export interface Form {
  readonly of: keyof DeviceStreams;
  /** First component. */
  readonly first: number;
  readonly rows: number;
  readonly tableOf: Uint16Array;
  readonly alphabet: number;
}

/** Codes of a type lie side by side; two groups share a table. */
export function formsOf(groups: readonly QuantGroup[]): Form[] {
  return [3, 2, 1].map((type): Form => {
    const own = groups.filter((group) => group.type === type);
    const tableOf = Uint16Array.from(own.flatMap(({ size }, g) => new Array<number>(size).fill(g >> 1)));
    const of = ([, "int2", "int4", "fp8"] as const)[type]!;
    return { of, first: own[0]?.first ?? 0, rows: tableOf.length, tableOf, alphabet: [0, 4, 16, 256][type] };
  }).filter(({ rows }) => rows > 0);
}

/** Low and high bytes of shifts and scales [shift, scale][groups], a stream each, a table for shifts and one for scales. */
export function paramForms(groups: readonly QuantGroup[]): { low: Form; high: Form } {
  const rows = 2 * groups.length;
  const form = {
    first: 0,
    rows,
    tableOf: Uint16Array.from({ length: rows }, (_, row) => Number(row >= groups.length)),
    alphabet: 256,
  };
  return { low: { ...form, of: "low" }, high: { ...form, of: "high" } };
}

/** Tables that fit the first chunk of `symbols`, which hold for all. */
export async function fitTables(
  backend: Backend,
  entropy: GpuEntropy,
  symbols: DeviceBuffer,
  { rows, tableOf, alphabet }: Form,
  batch: StreamBatch,
): Promise<{ tables: DeviceTables; contexts: DeviceContexts }> {
  const counts = backend.alloc(rows * alphabet * 4);
  entropy.histogram(symbols, rows, CHUNK, alphabet, counts);
  const found = new Uint32Array((await backend.read(counts, 0, rows * alphabet * 4)).buffer);
  counts.free();
  const count = Math.max(...tableOf) + 1;
  const sums = Array.from({ length: count }, () => {
    // Every symbol of the alphabet can be coded, whatever later chunks hold.
    return new Uint32Array(256).fill(1, 0, alphabet);
  });
  for (let row = 0; row < rows; row++) {
    for (let s = 0; s < alphabet; s++) sums[tableOf[row]][s] += 16 * found[row * alphabet + s];
  }
  const frequencies = new Uint16Array(count * 256);
  sums.forEach((own, table) => frequencies.set(frequenciesOf(own, 11), table * 256));
  const tables = entropy.uploadTables({ bits: 11, frequencies });
  return { tables, contexts: entropy.uploadContexts([{ variant: "plain", tableOf }], batch, count) };
}
