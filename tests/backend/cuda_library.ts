/**
 * The CUDA driver under test: the library that KVZ_CUDA_LIBRARY names, or the real driver where there is one, or the
 * emulator of cuda/emulate, built here.
 *
 * @module
 */
import { buildEmulator } from "../../tools/build_cuda_emulator.ts";

const VARIABLE = "KVZ_CUDA_LIBRARY";

/** Whether this machine has a driver of its own. */
function hasDriver(): boolean {
  try {
    Deno.dlopen("libcuda.so.1", {}).close();
    return true;
  } catch {
    return false;
  }
}

/** Names the library for all that opens CUDA from here on; whether it is the emulator. */
export async function useCudaLibrary(): Promise<boolean> {
  const named = Deno.env.get(VARIABLE);
  if (named !== undefined) return named.includes("emulated");
  if (hasDriver()) return false;
  Deno.env.set(VARIABLE, await buildEmulator());
  return true;
}

/** The emulator by itself, whatever driver there is; its path. */
export function emulatorPath(): Promise<string> {
  return buildEmulator();
}
