/**
 * Kernels with and without subgroups in one text. Lines between `//!subgroups` and `//!else` or `//!end` are of the variant
 * with subgroups, those between `//!else` and `//!end` of the one without; all others are of both.
 *
 * @module
 */
import type { Shader } from "./pipelines.ts";

const PART = /^\/\/!subgroups\n([^]*?)(?:^\/\/!else\n([^]*?))?^\/\/!end\n?/gm;

/** The WGSL text of a variant. A shader that has no parts for subgroups is the same in both. */
export function variantText({ text }: Shader, subgroups: boolean): string {
  const chosen = text.replace(PART, (_, within: string, without: string = "") => subgroups ? within : without);
  return subgroups && chosen !== text ? `enable subgroups;\n${chosen}` : chosen;
}
