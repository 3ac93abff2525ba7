/**
 * Frequency tables and contexts on a WebGPU device.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import type { RansContexts } from "../../stages/entropy/rans_contexts.ts";
import { RANS_SYMBOLS, type RansTables, tableCount } from "../../stages/entropy/rans_tables.ts";
import type { DeviceBuffer } from "../backend.ts";
import type { DeviceContexts, DeviceTables } from "../gpu/entropy.ts";
import { entriesBySlot, nextStates } from "../gpu/entropy_tables.ts";
import type { WebGpuDevice } from "./device.ts";

/** Tables, uploaded in the form of a direction when it first needs them. */
export class WebGpuTables implements DeviceTables {
  readonly bits: number;
  readonly count: number;
  readonly #device: WebGpuDevice;
  #tables: RansTables | null;
  #decoding: DeviceBuffer | null = null;
  #encoding: DeviceBuffer | null = null;

  constructor(device: WebGpuDevice, tables: RansTables) {
    this.#device = device;
    // A copy: the caller's may change before they are needed.
    this.#tables = { bits: tables.bits, frequencies: tables.frequencies.slice() };
    this.bits = tables.bits;
    this.count = tableCount(tables);
  }

  /** @throws {KvzBackendError} when tables are of another backend. */
  static of(tables: DeviceTables): WebGpuTables {
    if (tables instanceof WebGpuTables) return tables;
    throw new KvzBackendError("Cannot use tables: they belong to another backend");
  }

  /** u32 [tables][2^bits], by slot. */
  decoding(): DeviceBuffer {
    return this.#decoding ??= upload(this.#device, entriesBySlot(this.#host()));
  }

  /** u32 [tables][256], by symbol: frequency, and the first slot above 16 bits. */
  encoding(): DeviceBuffer {
    return this.#encoding ??= upload(this.#device, firstSlots(this.#host()));
  }

  free(): void {
    this.#decoding?.free();
    this.#encoding?.free();
    this.#decoding = this.#encoding = this.#tables = null;
  }

  #host(): RansTables {
    if (this.#tables === null) throw new KvzBackendError("Cannot use tables: they were freed");
    return this.#tables;
  }
}

function firstSlots({ frequencies }: RansTables): Uint32Array {
  let first = 0;
  return Uint32Array.from(frequencies, (f, i) => {
    if (i % RANS_SYMBOLS === 0) first = 0;
    const entry = f | (first << 16);
    first += f;
    return entry;
  });
}

/** Contexts of a batch. */
export class WebGpuContexts implements DeviceContexts {
  readonly variant: RansContexts["variant"];
  /** Whether there are some for each stream, not one for all; next states as `nextStates` gives them. */
  readonly uniforms: readonly [each: number, even: number, odd: number];
  readonly #buffers: readonly DeviceBuffer[];
  readonly #own: boolean;
  #freed = false;

  private constructor(own: boolean, each: boolean, buffers: readonly DeviceBuffer[], next: Uint8Array | null) {
    this.variant = next === null ? "plain" : "trellis";
    this.uniforms = [each ? 1 : 0, ...(next === null ? [0, 0] as const : nextStates(next))];
    this.#buffers = buffers;
    this.#own = own;
  }

  /** Contexts that were checked. */
  static upload(device: WebGpuDevice, contexts: readonly RansContexts[]): WebGpuContexts {
    const each = contexts.length > 1;
    if (contexts[0]?.variant !== "trellis") {
      const list = contexts.filter((it) => it.variant === "plain");
      const tableOf = upload(device, joined(Uint32Array, list.map((it) => it.tableOf)));
      return new WebGpuContexts(true, each, [tableOf], null);
    }
    const list = contexts.filter((it) => it.variant === "trellis");
    const classes = upload(device, joined(Uint8Array, list.map((it) => it.classes)));
    const kinds = upload(device, joined(Uint8Array, list.map((it) => it.kinds)));
    return new WebGpuContexts(true, each, [classes, kinds], contexts[0].next);
  }

  /** Contexts of each stream that are on the device. */
  static wrap(classes: DeviceBuffer, kinds: DeviceBuffer, next: Uint8Array): WebGpuContexts {
    return new WebGpuContexts(false, true, [classes, kinds], next);
  }

  /** @throws {KvzBackendError} when contexts are of another backend. */
  static of(contexts: DeviceContexts): WebGpuContexts {
    if (contexts instanceof WebGpuContexts) return contexts;
    throw new KvzBackendError("Cannot use contexts: they belong to another backend");
  }

  /** u32 [entries][rows], the tables of the rows; or u8 [entries][rows][16], classes, and u8 [entries][tokens], kinds. */
  get buffers(): readonly DeviceBuffer[] {
    if (this.#freed) throw new KvzBackendError("Cannot use contexts: they were freed");
    return this.#buffers;
  }

  free(): void {
    if (this.#own) { for (const buffer of this.#buffers) buffer.free(); }
    this.#freed = true;
  }
}

function joined<T extends Uint8Array | Uint32Array>(
  type: new (length: number) => T,
  parts: readonly ArrayLike<number>[],
): T {
  const all = new type(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function upload(device: WebGpuDevice, data: ArrayBufferView): DeviceBuffer {
  const buffer = device.alloc(Math.max(16, data.byteLength));
  device.write(buffer, data, 0);
  return buffer;
}
