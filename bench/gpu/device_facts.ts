/**
 * What a benchmark says of its device.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";

/** Names of devices that a processor plays. */
const SOFTWARE = /emulated|llvmpipe|lavapipe|swiftshader/i;

/** A device's name, and whether a processor plays it: then there are no goals, and small sizes. */
export interface DeviceFacts {
  readonly device: string;
  readonly software: boolean;
}

/** The device of an open backend. */
export function deviceFacts(backend: Backend): DeviceFacts {
  const { adapter, device } = backend as { adapter?: string; device?: { facts?: { name: string } } };
  const name = device?.facts?.name ?? adapter ?? backend.name;
  return namedDevice(name);
}

/** What a device's name tells. */
export function namedDevice(device: string): DeviceFacts {
  return { device, software: SOFTWARE.test(device) };
}
