/**
 * An open codec or the means to open one.
 *
 * @module
 */
import type { Codec } from "../../codec/codec.ts";
import type { CodecOptions } from "../../codec/free.ts";
import { openCodec } from "../../codec/open.ts";

/** Exactly one of `codec` and `profile`. */
export interface CodecChoice extends Partial<Omit<CodecOptions, "device">> {
  /** An open codec, for many calls: the basis of the profile stays loaded. */
  readonly codec?: Codec;
}

/** Uses the codec given, or opens one and closes it afterwards. */
export async function useCodec<T>(choice: CodecChoice, use: (codec: Codec) => Promise<T>): Promise<T> {
  const { codec, profile, backend, build, module, threads, createWorker } = choice;
  if ((codec === undefined) === (profile === undefined)) {
    throw new TypeError(
      `Cannot open codec: ${codec ? 'both "codec" and "profile" are' : 'neither "codec" nor "profile" is'} given`,
    );
  }
  if (codec !== undefined) return await use(codec);
  const own = await openCodec(profile!, { backend, build, module, threads, createWorker });
  try {
    return await use(own);
  } finally {
    await own.close();
  }
}
