/**
 * Caches back into the llama.cpp state files that they came from.
 *
 * @module
 */
import { type LlamaStateLayout, parseLlamaStateLayout } from "../src/adapters/llama_state.ts";
import type { JsonObject } from "../src/container/canonical_json.ts";
import type { KvzHeader } from "../src/container/header.ts";
import { LAYOUT_KEY } from "./cache_input.ts";
import { UsageError } from "./exit_codes.ts";

/** User metadata that let a state be written again. Without token ids the layout must not tell them either. */
export function layoutMetadata(layout: LlamaStateLayout | undefined, tokenIds: boolean): JsonObject | undefined {
  if (layout === undefined) return undefined;
  const { tokens, ...rest } = layout;
  const kept = tokenIds && tokens !== undefined ? { ...rest, tokens: [...tokens] } : rest;
  return { [LAYOUT_KEY]: { ...kept } as unknown as JsonObject };
}

/** Formats that decompress writes. */
export type OutputFormat = "safetensors" | "state";

/**
 * The format to write, and for a state its layout. Unless one is asked for, a file that came from a state goes back to
 * one, except where the output is named .safetensors.
 */
export function chooseFormat(
  header: KvzHeader,
  { format, output, layers }: { readonly format?: OutputFormat; readonly output: string; readonly layers?: unknown },
): LlamaStateLayout | null {
  const stored = header.user?.[LAYOUT_KEY];
  const wanted = format ?? (stored === undefined || output.endsWith(".safetensors") ? "safetensors" : "state");
  if (wanted === "safetensors") return null;
  if (stored === undefined) {
    throw new UsageError("Cannot write a llama.cpp state: the file was not made from one");
  }
  if (layers !== undefined) throw new UsageError("Cannot use --layers with a llama.cpp state: it has all layers");
  return parseLlamaStateLayout(stored);
}
