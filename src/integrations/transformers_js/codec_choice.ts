/**
 * An open codec or the means to open one.
 *
 * @module
 */
import type { GpuDeviceLike } from "../../adapters/gpu_buffers.ts";
import type { WebGpuDeviceLike } from "../../backend/select.ts";
import type { Codec } from "../../codec/codec.ts";
import type { CodecOptions } from "../../codec/free.ts";
import { openCodec } from "../../codec/open.ts";

/** Exactly one of `codec` and `profile`. */
export interface CodecChoice extends Partial<Omit<CodecOptions, "device">> {
  /** An open codec, for many calls: the basis of the profile stays loaded. */
  readonly codec?: Codec;
}

/** Uses the codec given, or opens one, on `device` where it is to compute on WebGPU, and closes it afterwards. */
export async function useCodec<T>(
  choice: CodecChoice,
  device: GpuDeviceLike | undefined,
  use: (codec: Codec) => Promise<T>,
): Promise<T> {
  const { codec, profile, backend, build, module, threads, createWorker } = choice;
  if ((codec === undefined) === (profile === undefined)) {
    throw new TypeError(
      `Cannot open codec: ${codec ? 'both "codec" and "profile" are' : 'neither "codec" nor "profile" is'} given`,
    );
  }
  if (codec !== undefined) return await use(codec);
  const own = await openCodec(profile!, {
    backend,
    build,
    module,
    threads,
    createWorker,
    ...(backend === "webgpu" && device ? { device: device as unknown as WebGpuDeviceLike } : {}),
  });
  try {
    return await use(own);
  } finally {
    await own.close();
  }
}
