/**
 * The figures of a file: the three ratios, always the same three (docs/recipes.md).
 *
 * @module
 */
import type { ModelSpec } from "../cache/types.ts";
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

/**
 * KVTC's ratio: 16-bit bytes of the tokens before the window ÷ bytes of their streams: sinks, codes, scales. No header,
 * plan, token ids or positions. null when no token lies before the window.
 */
export function paperRatio(model: ModelSpec, records: readonly StoredRecord[], tokens: number): number | null {
  let window = 0;
  let bytes = 0;
  for (const record of records) {
    if (record.chunk === WINDOW_CHUNK) window = record.tokens;
    else if (record.chunk !== FILE_CHUNK && record.tag !== TAG_IDS && record.tag !== TAG_POSITIONS) {
      bytes += record.storedLength;
    }
  }
  return tokens > window && bytes > 0 ? fp16Bytes(model, tokens - window) / bytes : null;
}
