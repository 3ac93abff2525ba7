/**
 * The CUDA driver's library.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { environment, type NativeLibrary, nativePlatform, openNative } from "./native.ts";
import { type DriverTable, SYMBOLS } from "./symbols.ts";

/** Variable that names another library than the driver's: a path. */
export const VARIABLE = "KVZ_CUDA_LIBRARY";

const opened = new Map<string, Promise<NativeLibrary<DriverTable>>>();

/** The library that {@linkcode VARIABLE} names, where it is set and may be read. */
export function namedLibrary(): string | undefined {
  return environment(VARIABLE);
}

/**
 * Opens it, once a path.
 *
 * @throws {KvzBackendError} when it is absent or may not be loaded.
 */
export async function openLibrary(): Promise<NativeLibrary<DriverTable>> {
  const path = namedLibrary() ?? defaultPath();
  let library = opened.get(path);
  if (library === undefined) {
    library = openNative(path, SYMBOLS);
    opened.set(path, library);
    library.catch(() => opened.delete(path));
  }
  try {
    return await library;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new KvzBackendError(`Cannot use the cuda backend: ${reason}`, { cause });
  }
}

function defaultPath(): string {
  const platform = nativePlatform();
  if (platform === "linux") return "libcuda.so.1";
  if (platform === "windows" || platform === "win32") return "nvcuda.dll";
  throw new KvzBackendError(
    platform === undefined
      ? "Cannot use the cuda backend: this runtime loads no native libraries"
      : `Cannot use the cuda backend: NVIDIA has no driver for ${platform}`,
  );
}
