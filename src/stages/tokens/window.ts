/**
 * The recent window: the newest tokens as they are, source elements after RoPE, bit-exact (KVTC §2). Stored in byte
 * planes (all low bytes, then all high bytes), since the exponent bytes of neighbours resemble each other and DEFLATE
 * gains on them alone.
 *
 * @module
 */
import { type Backend, paddedLength } from "../../backend/backend.ts";
import { rotationTable } from "../../cache/rope.ts";
import { BYTES_PER_ELEMENT, type DType, type RopeSpec } from "../../cache/types.ts";
import { withScratch } from "../scratch.ts";

/** [n · width] elements → `width` planes of n bytes. */
export function splitPlanes(bytes: Uint8Array, width: number): Uint8Array {
  const n = bytes.length / width;
  const out = new Uint8Array(bytes.length);
  for (let plane = 0; plane < width; plane++) {
    for (let i = 0, from = plane, to = plane * n; i < n; i++, from += width, to++) out[to] = bytes[from];
  }
  return out;
}

/** Inverse of {@linkcode splitPlanes}. */
export function joinPlanes(planes: Uint8Array, width: number): Uint8Array {
  const n = planes.length / width;
  const out = new Uint8Array(planes.length);
  for (let plane = 0; plane < width; plane++) {
    for (let i = 0, to = plane, from = plane * n; i < n; i++, to += width, from++) out[to] = planes[from];
  }
  return out;
}

/** A change of a raw block: other positions, another element type, or both. */
export interface Retarget {
  readonly blocks: number;
  readonly tokens: number;
  readonly dim: number;
  readonly from: DType;
  readonly to: DType;
  /** RoPE of the keys with the positions they have and shall get; null leaves rotation alone. */
  readonly rope: { readonly spec: RopeSpec; readonly from: Int32Array; readonly to: Int32Array } | null;
}

/**
 * Source elements [blocks][tokens][dim] with RoPE moved to other positions and converted to another element type
 * (computed in f32). The identity is the caller's to skip: it must stay bit-exact.
 */
export function retarget(backend: Backend, x: Uint8Array, r: Retarget): Promise<Uint8Array> {
  const features = r.blocks * r.dim;
  const shape = { blocks: r.blocks, tokens: r.tokens, dim: r.dim, rotaryDim: r.rope?.spec.dim ?? 0 };
  const outBytes = features * r.tokens * BYTES_PER_ELEMENT[r.to];
  return withScratch(backend, async (scratch) => {
    const rows = scratch.alloc(paddedLength(features) * r.tokens * 4);
    const out = scratch.alloc(outBytes);
    const table = (rope: NonNullable<Retarget["rope"]>, direction: "undo" | "redo") =>
      scratch.upload(rotationTable(rope.spec, direction === "undo" ? rope.from : rope.to, direction));
    const undo = r.rope === null ? null : table(r.rope, "undo");
    const redo = r.rope === null ? null : table(r.rope, "redo");
    backend.gather(scratch.upload(x), { ...shape, dtype: r.from }, undo, null, rows);
    backend.scatter(rows, { ...shape, dtype: r.to }, redo, null, out);
    return await backend.read(out, 0, outBytes);
  });
}
