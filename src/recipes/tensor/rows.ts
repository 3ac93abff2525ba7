/**
 * Streams in which every layer has the same number of bytes.
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import type { TensorRange, TensorShape } from "./coder.ts";

/**
 * The part of a stream that the range's layers have, where all layers have as many bytes.
 *
 * @throws {KvzFormatError} The stream has not `perLayer` bytes a layer.
 */
export function layerBytes(
  stream: Uint8Array,
  perLayer: number,
  { layers, kind }: TensorShape,
  { layerBegin, layerEnd }: TensorRange,
): Uint8Array {
  if (stream.length !== layers * perLayer) {
    throw new KvzFormatError(
      `Cannot decode ${kind}s: a stream has ${stream.length} bytes, expected ${layers * perLayer}`,
    );
  }
  return stream.subarray(layerBegin * perLayer, layerEnd * perLayer);
}
