/**
 * The figures of a file: the three ratios, always the same three (docs/recipes.md).
 *
 * @module
 */
import { BYTES_PER_ELEMENT, type DType, type ModelSpec } from "../cache/types.ts";
import type { RecordHead } from "../container/frame.ts";
import { FILE_CHUNK, TAG_IDS, TAG_POSITIONS, WINDOW_CHUNK } from "./regions.ts";

/** What figures are computed from. */
export type StoredRecord = Pick<RecordHead, "tag" | "chunk" | "tokens"> & { readonly storedLength: number };

/** Bytes of `tokens` tokens at 16 bits an element. */
export function fp16Bytes(model: ModelSpec, tokens: number): number {
  return model.layers * model.kvHeads * (model.keyDim + model.valueDim) * 2 * tokens;
}

/** Stored payload bytes by tag. */
export function streamBytes(records: readonly StoredRecord[]): Record<string, number> {
  const streams: Record<string, number> = {};
  for (const { tag, storedLength } of records) streams[tag] = (streams[tag] ?? 0) + storedLength;
  return streams;
}

/** Raw tokens in chunks, which the method's paper leaves out of its ratio: recipe kvcomp. */
const RAW_TAGS: ReadonlySet<string> = new Set(["KTAI", "VTAI"]);
/** Side information that the method's paper does not count: kvcomp's codes, packkv's order of tokens. */
const UNCOUNTED_TAGS: ReadonlySet<string> = new Set(["KHUF", "VHUF", "JORD", TAG_IDS, TAG_POSITIONS]);

/**
 * The ratio as the method's paper reports it. KVTC's: 16-bit bytes of the tokens before the window ÷ bytes of their streams:
 * sinks, codes, scales. No header, plan, token ids or positions. null when no token lies before the window.
 */
export function paperRatio(
  model: ModelSpec,
  dtype: DType,
  records: readonly StoredRecord[],
  tokens: number,
): number | null {
  let window = 0;
  let bytes = 0;
  let raw = 0;
  for (const { chunk, tag, tokens, storedLength } of records) {
    if (chunk === WINDOW_CHUNK) window = tokens;
    else if (RAW_TAGS.has(tag)) raw += storedLength;
    else if (chunk !== FILE_CHUNK && !UNCOUNTED_TAGS.has(tag)) bytes += storedLength;
  }
  const told = fp16Bytes(model, tokens - window) - raw * 2 / BYTES_PER_ELEMENT[dtype];
  return told > 0 && bytes > 0 ? told / bytes : null;
}
