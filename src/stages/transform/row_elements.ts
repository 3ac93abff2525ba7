/**
 * Rows in plain TypeScript: binary16 ↔ float32, and blocks [blocks][rows][width / blocks], heads for
 * instance, ↔ rows [rows][width] in which they lie side by side.
 *
 * @module
 */
import { toFloat32 } from "../../cache/elements.ts";
import { decodeLatents, type Int8Rows } from "../quantize/latent_int8.ts";
import type { RowElements } from "./dense.ts";

/** Elements as float32; `width`: of int8 rows. */
export function floatsOf(rows: RowElements | Int8Rows, width: number): Float32Array {
  if (rows instanceof Float32Array) return rows;
  if ("codes" in rows) return decodeLatents(rows, width);
  return toFloat32(new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength), "f16");
}

/** Blocks as rows; those of one block as they are. */
export function joinBlocks(x: Float32Array, blocks: number, width: number): Float32Array {
  if (blocks === 1) return x;
  const [rows, part] = [x.length / width, width / blocks];
  const out = new Float32Array(x.length);
  for (let b = 0, from = 0; b < blocks; b++) {
    for (let r = 0; r < rows; r++, from += part) out.set(x.subarray(from, from + part), r * width + b * part);
  }
  return out;
}

/** The inverse. */
export function splitBlocks(rows: Float32Array, blocks: number, width: number): Float32Array {
  if (blocks === 1) return rows;
  const [count, part] = [rows.length / width, width / blocks];
  const out = new Float32Array(rows.length);
  for (let b = 0, to = 0; b < blocks; b++) {
    for (let r = 0; r < count; r++, to += part) {
      const from = r * width + b * part;
      out.set(rows.subarray(from, from + part), to);
    }
  }
  return out;
}
