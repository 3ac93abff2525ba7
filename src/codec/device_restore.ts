/**
 * Container → recipe → a cache in device memory.
 *
 * @module
 */
import { KvzMismatchError } from "../errors.ts";
import type { FileDecoder } from "./decode.ts";
import type { DeviceCache } from "./device_cache.ts";
import { type OpenFile, readGroup } from "./groups.ts";
import type { Lanes } from "./lanes.ts";
import type { CallOptions } from "./options.ts";
import { allDone, mapOrdered } from "./ordered.ts";
import type { RestoredShape } from "./restore.ts";

/**
 * Restores an open file whose plan is loaded into `cache`. What was written before an error stays written.
 *
 * @throws {KvzMismatchError} when the cache is not of the restored shape.
 */
export async function restoreOnDevice(
  lanes: Lanes,
  file: OpenFile,
  decoder: FileDecoder,
  shape: RestoredShape,
  cache: DeviceCache,
  { onProgress, signal }: CallOptions,
): Promise<void> {
  requireShape(shape, cache);
  const { layerBegin, layerEnd, recipe, tokenLimit } = decoder;
  const groups = async function* () {
    for (const info of file.groups.slice(1)) yield await readGroup(file, info);
  };
  const done = mapOrdered(decoder.limited(groups()), lanes.jobs + 1, async (group) => {
    signal?.throwIfAborted();
    const { positions, targetPositions } = await decoder.positionsOf(group);
    const { begin, tokens } = group;
    const take = Math.min(tokens, tokenLimit - begin);
    await allDone(recipe.groups.map((kinds) => {
      const job = decoder.decodeJob(group, kinds, { positions, targetPositions, layerBegin, layerEnd });
      return lanes.run({ ...job, sink: { cache, begin, take } });
    }));
    return begin + take;
  });
  for await (const tokens of done) onProgress?.({ done: tokens, total: shape.positions.length });
}

function requireShape({ model, dtype, positions }: RestoredShape, cache: DeviceCache): void {
  const of = (shape: { model: RestoredShape["model"]; dtype: string; positions: Int32Array }) => {
    const { layers, kvHeads, keyDim, valueDim } = shape.model;
    return `${layers} layers × ${kvHeads} heads × ${keyDim}/${valueDim} ${shape.dtype}, ${shape.positions.length} tokens`;
  };
  const [found, wanted] = [of(cache), of({ model, dtype, positions })];
  if (found !== wanted) throw new KvzMismatchError(`Cannot restore: the device cache has ${found}, the file ${wanted}`);
}
