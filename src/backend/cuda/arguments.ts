/**
 * Arguments of kernels, in memory that the driver reads them from: one block for all launches, since a launch has read
 * its arguments when it returns.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import type { DeviceBuffer } from "../backend.ts";
import { CudaBuffer } from "./buffer.ts";
import type { CudaContext } from "./context.ts";
import type { CudaDevice } from "./device.ts";

/** A value that a kernel gets: the address of a buffer, 0 for null, or a number of the type named. */
export type KernelArgument =
  | DeviceBuffer
  | null
  | { readonly u32: number }
  | { readonly i32: number }
  | { readonly f32: number }
  | { readonly u64: number | bigint };

/** Most arguments of a kernel. */
const MOST_ARGUMENTS = 64;
/** Bytes of an address, and from the value of one argument to that of the next. */
const SLOT_BYTES = 8;

/** The block: addresses of the values, then the values. */
export class LaunchArguments {
  /** Address of the block: `void **kernelParams`. */
  readonly address: number;
  readonly #device: CudaDevice;
  readonly #words: Uint32Array;
  readonly #signed: Int32Array;
  readonly #floats: Float32Array;

  constructor(context: CudaContext, device: CudaDevice) {
    this.#device = device;
    const bytes = MOST_ARGUMENTS * 2 * SLOT_BYTES;
    this.address = context.allocHost(bytes);
    const memory = context.view(this.address, bytes);
    const addresses = new BigUint64Array(memory, 0, MOST_ARGUMENTS);
    const values = MOST_ARGUMENTS * SLOT_BYTES;
    for (let i = 0; i < MOST_ARGUMENTS; i++) addresses[i] = BigInt(this.address + values + i * SLOT_BYTES);
    this.#words = new Uint32Array(memory, values);
    this.#signed = new Int32Array(memory, values);
    this.#floats = new Float32Array(memory, values);
  }

  /**
   * Writes the values of a launch.
   *
   * @throws {KvzBackendError} when a buffer was freed or is of another device.
   */
  set(args: readonly KernelArgument[]): void {
    if (args.length > MOST_ARGUMENTS) throw new RangeError(`Cannot launch with ${args.length} arguments`);
    for (let i = 0; i < args.length; i++) this.#set(i * (SLOT_BYTES / 4), args[i]);
  }

  #set(at: number, argument: KernelArgument): void {
    if (argument === null) {
      this.#words[at] = this.#words[at + 1] = 0;
    } else if (argument instanceof CudaBuffer) {
      this.#setWide(at, argument.addressFor(this.#device));
    } else if ("u32" in argument) {
      this.#words[at] = argument.u32;
    } else if ("i32" in argument) {
      this.#signed[at] = argument.i32;
    } else if ("f32" in argument) {
      this.#floats[at] = argument.f32;
    } else if ("u64" in argument) {
      this.#setWide(at, Number(argument.u64));
    } else {
      throw new KvzBackendError("Cannot use a buffer: it belongs to another backend");
    }
  }

  #setWide(at: number, value: number): void {
    this.#words[at] = value;
    this.#words[at + 1] = Math.floor(value / 2 ** 32);
  }
}
