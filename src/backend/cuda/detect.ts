/**
 * Whether CUDA can be used here, without opening a device.
 *
 * @module
 */
import { FailedBackendError } from "../gpu/failed.ts";
import type { GpuFound } from "../gpu/candidates.ts";
import { CudaDriver } from "./driver.ts";
import { namedLibrary, VARIABLE } from "./library.ts";

/** The build of a device's backend: "sm_90" for compute capability 9.0. */
export function buildOf(computeCapability: readonly number[]): string {
  return `sm_${computeCapability.join("")}`;
}

/** Looks for the driver and its first device. A library that the environment names has to be asked for. */
export async function findCuda(): Promise<GpuFound> {
  try {
    const { name, computeCapability } = (await CudaDriver.open()).facts(0);
    const device = `${name}, ${buildOf(computeCapability)}`;
    if (namedLibrary() === undefined) return { available: true, fast: true, detail: device };
    return { available: true, fast: false, detail: `${device}; must be asked for, as ${VARIABLE} names its library` };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const detail = message.replace(/^Cannot use the cuda backend: /, "");
    // One that has to be asked for does not count as there.
    const failed = error instanceof FailedBackendError && namedLibrary() === undefined;
    return { available: false, fast: false, detail, ...(failed && { failure: message }) };
  }
}
