/**
 * Jobs whose elements lie on the lane's device: they are copied together there, or read and written where a recipe or a
 * region works on the host.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../backend/backend.ts";
import { requireFinite } from "../cache/finite.ts";
import { BYTES_PER_ELEMENT, type DType, type Kind, type ModelSpec } from "../cache/types.ts";
import type { ChunkCodec, DecodeJob, EncodeJob, TaggedStream } from "../recipes/recipe.ts";
import { withScratch } from "../stages/scratch.ts";
import { type DeviceCache, memoryOf } from "./device_cache.ts";

/** Encodes tokens of `source`. */
export async function encodeJob(
  backend: Backend,
  codec: ChunkCodec,
  job: EncodeJob,
  source: DeviceCache,
): Promise<TaggedStream[]> {
  const { kinds, begin, tokens } = job;
  const { model, dtype } = source;
  return await withScratch(backend, async (scratch) => {
    const buffers = kinds.map((kind) => {
      const buffer = scratch.alloc(elementBytes(model, dtype, kind, tokens));
      source.copyTo(backend, kind, begin, begin + tokens, buffer);
      return buffer;
    });
    // The window is stored as it is: it is the host's.
    if (codec.encodeOnDevice !== undefined && job.region !== "window") {
      for (const [i, kind] of kinds.entries()) await requireFiniteThere(backend, buffers[i], job, kind, source);
      return await codec.encodeOnDevice(job, buffers);
    }
    const data: Uint8Array[] = [];
    for (const [i, kind] of kinds.entries()) {
      data.push(await backend.read(buffers[i], 0, elementBytes(model, dtype, kind, tokens)));
    }
    return await codec.encode({ ...job, data });
  });
}

/** Decodes into `cache`, from token `begin` on; gives nothing to the host. */
export async function decodeJob(
  backend: Backend,
  codec: ChunkCodec,
  job: DecodeJob,
  { cache, begin, take }: NonNullable<DecodeJob["sink"]>,
): Promise<Uint8Array[]> {
  const { kinds, tokens } = job;
  await withScratch(backend, async (scratch) => {
    let buffers: DeviceBuffer[];
    if (codec.decodeOnDevice !== undefined && job.region !== "window") {
      buffers = kinds.map((kind) => scratch.alloc(elementBytes(cache.model, cache.dtype, kind, tokens)));
      await codec.decodeOnDevice(job, buffers);
    } else {
      buffers = (await codec.decode(job)).map((bytes) => scratch.upload(bytes));
    }
    kinds.forEach((kind, i) => cache.copyFrom(backend, kind, begin, take, buffers[i], tokens));
  });
  return [];
}

/** Elements are read back only where one is not finite, for the message. */
async function requireFiniteThere(
  backend: Backend,
  buffer: DeviceBuffer,
  job: EncodeJob,
  kind: Kind,
  { model, dtype }: DeviceCache,
): Promise<void> {
  const bytes = elementBytes(model, dtype, kind, job.tokens);
  const found = await withScratch(backend, async (scratch) => {
    const index = scratch.alloc(4);
    memoryOf(backend).findNonFinite(buffer, dtype, bytes / BYTES_PER_ELEMENT[dtype], index);
    return new Uint32Array((await backend.read(index, 0, 4)).buffer)[0];
  });
  if (found === 0xffffffff) return;
  const dim = kind === "key" ? model.keyDim : model.valueDim;
  const place = { kind, heads: model.kvHeads, tokens: job.tokens, dim, firstToken: job.begin };
  requireFinite(await backend.read(buffer, 0, bytes), dtype, place);
}

function elementBytes(model: ModelSpec, dtype: DType, kind: Kind, tokens: number): number {
  const dim = kind === "key" ? model.keyDim : model.valueDim;
  return model.layers * model.kvHeads * tokens * dim * BYTES_PER_ELEMENT[dtype];
}
