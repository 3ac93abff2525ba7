/**
 * Counting what crosses the bus.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";

/** What crosses to and from a backend's device while something runs. */
export function countBus(
  backend: Backend,
): (run: () => Promise<unknown>) => Promise<{ read: number; written: number }> {
  const bytes = { read: 0, written: 0 };
  const { read, write } = backend;
  backend.read = async (...args) => {
    const found = await read.apply(backend, args);
    bytes.read += found.length;
    return found;
  };
  backend.write = (to, data, at) => {
    bytes.written += data.byteLength;
    write.call(backend, to, data, at);
  };
  return async (run) => {
    Object.assign(bytes, { read: 0, written: 0 });
    await run();
    return { ...bytes };
  };
}
