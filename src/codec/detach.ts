/**
 * Making a message's bytes its own before it goes to a worker.
 *
 * @module
 */

/**
 * Copies every array that a message of plain data holds and lists the copies for transfer. Cloning would take the whole
 * buffer behind a view, a file or a basis, along with every message.
 */
export function detach<T>(message: T, transfer: ArrayBuffer[]): T {
  return copy(message, transfer) as T;
}

function copy(value: unknown, transfer: ArrayBuffer[]): unknown {
  if (ArrayBuffer.isView(value)) {
    // Not slice() for bytes: that of Node's Buffer copies nothing, and the caller's memory would be transferred away.
    const own = value instanceof Uint8Array ? new Uint8Array(value) : (value as Float32Array).slice();
    transfer.push(own.buffer as ArrayBuffer);
    return own;
  }
  if (Array.isArray(value)) return value.map((item) => copy(item, transfer));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, copy(item, transfer)]));
}
