/**
 * Frequency tables and contexts on a CUDA device.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import type { RansContexts } from "../../stages/entropy/rans_contexts.ts";
import { type RansTables, tableCount } from "../../stages/entropy/rans_tables.ts";
import type { DeviceBuffer } from "../backend.ts";
import type { DeviceContexts, DeviceTables } from "../gpu/entropy.ts";
import { entriesBySlot, entriesBySymbol, nextStates, soughtEntries } from "../gpu/entropy_tables.ts";
import type { CudaDevice, KernelArgument } from "./device.ts";

/** How a decoder finds a slot's symbol (cuda/rans_decode.cu). */
export type Lookup = "shared" | "sought" | "cached";

/** Bytes of the ring in which a decoding warp keeps its next words, and of those of the 32 warps that a block may have. */
export const RING_BYTES = 1024;
const RINGS_BYTES = 32 * RING_BYTES;
/** Most bytes of tables by slot in shared memory, and of the sought ones, where blocks have little of it. */
const SHARED_BYTES = 48 << 10;
const SOUGHT_BYTES = 64 << 10;
/** The same where they may have 224 KiB: compute capability 9.0 and 10.x, but not 12.x. */
const LARGE_SHARED_BYTES = 128 << 10;
const LARGE_SOUGHT_BYTES = 192 << 10;

/**
 * Most bytes of tables that decoding blocks keep in shared memory, beside their warps' rings.
 *
 * @param blockBytes what a block may have
 */
export function mostTableBytes(blockBytes: number): { readonly shared: number; readonly sought: number } {
  const room = Math.max(0, blockBytes - RINGS_BYTES);
  if (room >= LARGE_SOUGHT_BYTES) return { shared: LARGE_SHARED_BYTES, sought: LARGE_SOUGHT_BYTES };
  return { shared: Math.min(SHARED_BYTES, room), sought: Math.min(SOUGHT_BYTES, room) };
}

/** Tables, uploaded in the form of a direction when it first needs them. */
export class CudaTables implements DeviceTables {
  readonly bits: number;
  readonly count: number;
  readonly #device: CudaDevice;
  #tables: RansTables | null;
  #decoding: DecodingTables | null = null;
  #encoding: DeviceBuffer | null = null;

  constructor(device: CudaDevice, tables: RansTables) {
    this.#device = device;
    // A copy: the caller's may change before they are needed.
    this.#tables = { bits: tables.bits, frequencies: tables.frequencies.slice() };
    this.bits = tables.bits;
    this.count = tableCount(tables);
  }

  /** @throws {KvzBackendError} when tables are of another backend. */
  static of(tables: DeviceTables): CudaTables {
    if (!(tables instanceof CudaTables)) throw new KvzBackendError("Cannot use tables: they belong to another backend");
    return tables;
  }

  /** Tables by slot. */
  decoding(): DecodingTables {
    return this.#decoding ??= this.#uploadDecoding(this.#host());
  }

  /** Tables by symbol. */
  encoding(): DeviceBuffer {
    return this.#encoding ??= upload(this.#device, entriesBySymbol(this.#host()));
  }

  free(): void {
    this.#decoding?.buffer.free();
    this.#encoding?.free();
    this.#decoding = this.#encoding = this.#tables = null;
  }

  #uploadDecoding(tables: RansTables): DecodingTables {
    const most = mostTableBytes(this.#device.facts.sharedBytes);
    const bySlot = (4 * this.count) << this.bits;
    if (bySlot <= most.shared) {
      return { buffer: upload(this.#device, entriesBySlot(tables)), lookup: "shared", sharedBytes: bySlot };
    }
    const sought = soughtEntries(tables);
    if (sought.byteLength <= most.sought) {
      return { buffer: upload(this.#device, sought), lookup: "sought", sharedBytes: sought.byteLength };
    }
    return { buffer: upload(this.#device, entriesBySlot(tables)), lookup: "cached", sharedBytes: 0 };
  }

  #host(): RansTables {
    if (this.#tables === null) throw new KvzBackendError("Cannot use tables: they were freed");
    return this.#tables;
  }
}

/** Tables by slot on the device. */
export interface DecodingTables {
  readonly buffer: DeviceBuffer;
  readonly lookup: Lookup;
  /** How many bytes of them go to shared memory. */
  readonly sharedBytes: number;
}

/** Contexts of a batch. */
export class CudaContexts implements DeviceContexts {
  readonly variant: RansContexts["variant"];
  readonly #own: readonly DeviceBuffer[];
  #arguments: readonly KernelArgument[] | null;

  private constructor(
    variant: RansContexts["variant"],
    own: readonly DeviceBuffer[],
    args: readonly KernelArgument[],
  ) {
    this.variant = variant;
    this.#own = own;
    this.#arguments = args;
  }

  /** Contexts that were checked. */
  static upload(device: CudaDevice, contexts: readonly RansContexts[]): CudaContexts {
    const each = contexts.length > 1;
    if (contexts[0]?.variant !== "trellis") {
      const list = contexts.filter((it) => it.variant === "plain");
      const tableOf = upload(device, joined(Uint16Array, list.map((it) => it.tableOf)));
      return new CudaContexts("plain", [tableOf], [tableOf, null, null, { u32: 0 }, { u32: 0 }, { u32: each ? 1 : 0 }]);
    }
    const list = contexts.filter((it) => it.variant === "trellis");
    const classes = upload(device, joined(Uint8Array, list.map((it) => it.classes)));
    const kinds = upload(device, joined(Uint8Array, list.map((it) => it.kinds)));
    return new CudaContexts("trellis", [classes, kinds], trellisArguments(classes, kinds, contexts[0].next, each));
  }

  /** Contexts of each stream that are on the device. */
  static wrap(classes: DeviceBuffer, kinds: DeviceBuffer, next: Uint8Array): CudaContexts {
    return new CudaContexts("trellis", [], trellisArguments(classes, kinds, next, true));
  }

  /** @throws {KvzBackendError} when contexts are of another backend. */
  static of(contexts: DeviceContexts): CudaContexts {
    if (contexts instanceof CudaContexts) return contexts;
    throw new KvzBackendError("Cannot use contexts: they belong to another backend");
  }

  /** tableOf, classes, kinds, even, odd, each: parameters of all kernels. */
  get arguments(): readonly KernelArgument[] {
    if (this.#arguments === null) throw new KvzBackendError("Cannot use contexts: they were freed");
    return this.#arguments;
  }

  free(): void {
    for (const buffer of this.#own) buffer.free();
    this.#arguments = null;
  }
}

function trellisArguments(
  classes: DeviceBuffer,
  kinds: DeviceBuffer,
  next: Uint8Array,
  each: boolean,
): readonly KernelArgument[] {
  const [even, odd] = nextStates(next);
  return [null, classes, kinds, { u32: even }, { u32: odd }, { u32: each ? 1 : 0 }];
}

function joined<T extends Uint8Array | Uint16Array>(type: new (length: number) => T, parts: readonly T[]): T {
  const all = new type(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function upload(device: CudaDevice, data: ArrayBufferView): DeviceBuffer {
  const buffer = device.alloc(Math.max(16, data.byteLength));
  device.write(buffer, data);
  return buffer;
}
