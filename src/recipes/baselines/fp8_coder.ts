/**
 * Coder of recipe fp8: E4M3FN of x ÷ scale, scale = amax ÷ 448 of a head's tokens in the chunk, in binary16 (the
 * backends' kernel, as for sinks).
 *
 * Streams: COD codes [layers][heads][tokens][dim], a byte each; SCL scales [layers][heads], binary16.
 *
 * @module
 */
import { asUint16, toFloat32 } from "../../cache/elements.ts";
import { KvzFormatError } from "../../errors.ts";
import { withScratch } from "../../stages/scratch.ts";
import type { CoderContext, TensorBlock, TensorCoder, TensorRange } from "../tensor/coder.ts";
import { finiteHalves, halfBytes, requireHalves } from "../tensor/halves.ts";
import { layerBytes } from "../tensor/rows.ts";

/** Makes the coder of one kind. */
export function open(_: object, { shapes: [shape], backend }: CoderContext): TensorCoder {
  const { layers, heads, dim, kind } = shape;
  return {
    async encode([block]: readonly TensorBlock[]) {
      const { x, tokens } = block;
      const rows = layers * heads;
      return await withScratch(backend, async (scratch) => {
        const codes = scratch.alloc(x.length);
        const scales = scratch.alloc(2 * rows);
        backend.encodeFp8(scratch.upload(x), rows, tokens * dim, codes, scales);
        const found = asUint16(await backend.read(scales, 0, 2 * rows));
        requireHalves(found, block, (row) => row * tokens);
        return [await backend.read(codes, 0, x.length), halfBytes(found)];
      });
    },

    async decode([stream, scaleStream], range: TensorRange) {
      const perHead = range.tokens * dim;
      const codes = layerBytes(stream, heads * perHead, shape, range);
      const scales = halfBytes(finiteHalves(layerBytes(scaleStream, 2 * heads, shape, range), `scales of ${kind}s`));
      if (codes.some((code) => (code & 0x7f) === 0x7f)) {
        throw new KvzFormatError(`Cannot decode ${kind}s: a code of FP8 is NaN`);
      }
      return await withScratch(backend, async (scratch) => {
        const out = scratch.alloc(4 * codes.length);
        const rows = scales.length / 2;
        backend.decodeFp8(scratch.upload(codes), scratch.upload(scales), rows, perHead, out);
        return [toFloat32(await backend.read(out, 0, 4 * codes.length), "f32")];
      });
    },

    limits: (tokens) => [layers * heads * tokens * dim, 2 * layers * heads],
  };
}
