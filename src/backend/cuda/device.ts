/**
 * A CUDA device: memory, copies, and launches of kernels on one stream. What is enqueued runs in order.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import type { DeviceBuffer } from "../backend.ts";
import { requireBytes, requireCopy, requireCounts, requireView } from "../check.ts";
import { CudaBuffer } from "./buffer.ts";
import { CudaContext } from "./context.ts";
import type { DeviceFacts } from "./driver.ts";
import { loadTexts, Modules, type ModuleTexts } from "./modules.ts";
import { Downloads, Uploads } from "./transfers.ts";

export { CudaBuffer } from "./buffer.ts";

/** A value that a kernel gets: the address of a buffer, 0 for null, or a number of the type named. */
export type KernelArgument =
  | DeviceBuffer
  | null
  | { readonly u32: number }
  | { readonly i32: number }
  | { readonly f32: number }
  | { readonly u64: number | bigint };

/** How many threads run a kernel. */
export interface LaunchShape {
  /** Blocks. Nothing runs when one is 0. */
  readonly grid: readonly [x: number, y: number, z: number];
  /** Threads of a block. */
  readonly block: readonly [x: number, y: number, z: number];
  /** Bytes of dynamic shared memory. */
  readonly shared?: number;
}

/** Most arguments of a kernel. */
const MOST_ARGUMENTS = 64;
/** Bytes from the value of one argument to that of the next. */
const ARGUMENT_BYTES = 8;

/** An open device. */
export class CudaDevice {
  readonly #context: CudaContext;
  readonly #modules: Modules;
  readonly #uploads: Uploads;
  readonly #downloads: Downloads;
  /** Addresses of the argument values, then the values, in memory that the driver can read. */
  readonly #arguments: number;
  readonly #words: Uint32Array;
  readonly #signed: Int32Array;
  readonly #floats: Float32Array;
  readonly #release = (address: number) => this.#free(address);

  private constructor(context: CudaContext, texts: ModuleTexts) {
    this.#context = context;
    this.#modules = new Modules(context, texts);
    this.#uploads = new Uploads(context);
    this.#downloads = new Downloads(context);
    const bytes = MOST_ARGUMENTS * (8 + ARGUMENT_BYTES);
    this.#arguments = context.allocHost(bytes);
    const memory = context.view(this.#arguments, bytes);
    const addresses = new BigUint64Array(memory, 0, MOST_ARGUMENTS);
    const values = this.#arguments + MOST_ARGUMENTS * 8;
    for (let i = 0; i < MOST_ARGUMENTS; i++) addresses[i] = BigInt(values + i * ARGUMENT_BYTES);
    this.#words = new Uint32Array(memory, MOST_ARGUMENTS * 8);
    this.#signed = new Int32Array(memory, MOST_ARGUMENTS * 8);
    this.#floats = new Float32Array(memory, MOST_ARGUMENTS * 8);
  }

  /**
   * Opens a device.
   *
   * @param ordinal number of the device, from 0 on
   * @param texts PTX of the kernels, those of this package when absent
   * @throws {KvzBackendError} when driver or device are absent, too old, or forbidden
   */
  static async open(ordinal: number = 0, texts?: ModuleTexts): Promise<CudaDevice> {
    const context = await CudaContext.open(ordinal);
    try {
      return new CudaDevice(context, texts ?? await loadTexts());
    } catch (error) {
      context.close();
      throw error;
    }
  }

  /** Name, memory, compute capability and so on. */
  get facts(): DeviceFacts {
    return this.#context.facts;
  }

  /** For instance [9, 0]. */
  get computeCapability(): readonly [major: number, minor: number] {
    return this.facts.computeCapability;
  }

  /** Streaming multiprocessors. */
  get multiprocessors(): number {
    return this.facts.multiprocessors;
  }

  /** Bytes of its memory that buffers of ours hold. */
  get bytesInUse(): number {
    return this.#context.bytesInUse;
  }

  /** `CUstream` of all work, for callers who order their own work with it. */
  get stream(): bigint {
    return BigInt(this.#context.stream);
  }

  /**
   * Allocates memory, at least 16-byte aligned, contents undefined.
   *
   * @throws {RangeError} when the length is no length.
   * @throws {KvzBackendError} when there is not enough.
   */
  alloc(byteLength: number): CudaBuffer {
    requireCounts("allocate", { byteLength });
    this.#context.enter();
    return new CudaBuffer(this, this.#context.alloc(byteLength), byteLength, null, this.#release);
  }

  /**
   * Memory of the caller as a buffer; freeing it frees nothing. The caller's work on it must be done, or come before ours
   * in {@linkcode stream}.
   *
   * @param pointer `CUdeviceptr` on this device, a multiple of 16
   * @throws {RangeError} when it is no such address
   */
  wrap(pointer: bigint, byteLength: number): CudaBuffer {
    requireCounts("wrap", { byteLength });
    const address = Number(pointer);
    if (!(pointer > 0n && pointer % 16n === 0n && Number.isSafeInteger(address))) {
      throw new RangeError(`Cannot wrap CUDA memory at ${pointer}: expected an address that is a multiple of 16`);
    }
    return new CudaBuffer(this, address, byteLength, null, null);
  }

  /** A part of a buffer, from a multiple of 256 on. */
  view(buffer: DeviceBuffer, byteOffset: number, byteLength: number): CudaBuffer {
    requireView(buffer, byteOffset, byteLength);
    return new CudaBuffer(this, this.address(buffer) + byteOffset, byteLength, buffer as CudaBuffer, null);
  }

  /**
   * The address of a buffer.
   *
   * @throws {KvzBackendError} when it was freed or is of another backend.
   */
  address(buffer: DeviceBuffer): number {
    if (!(buffer instanceof CudaBuffer)) {
      throw new KvzBackendError("Cannot use a buffer: it belongs to another backend");
    }
    return buffer.addressFor(this);
  }

  /** Enqueues a copy of host bytes; they may be changed when it returns. */
  write(dst: DeviceBuffer, src: ArrayBufferView, dstByteOffset: number = 0): void {
    requireCounts("write", { dstByteOffset });
    requireBytes("write", "dst", dst.byteLength, dstByteOffset + src.byteLength);
    const address = this.address(dst);
    this.#enter();
    this.#uploads.write(address + dstByteOffset, new Uint8Array(src.buffer, src.byteOffset, src.byteLength));
  }

  /** Waits for the work enqueued so far and copies device bytes to the host. */
  async read(src: DeviceBuffer, byteOffset: number = 0, byteLength?: number): Promise<Uint8Array<ArrayBuffer>> {
    const length = byteLength ?? src.byteLength - byteOffset;
    requireCounts("read", { byteOffset, byteLength: length });
    requireBytes("read", "src", src.byteLength, byteOffset + length);
    const address = this.address(src);
    this.#context.enter();
    return await this.#downloads.read(address + byteOffset, length);
  }

  /** Enqueues a copy between buffers. */
  copy(
    src: DeviceBuffer,
    srcByteOffset: number,
    dst: DeviceBuffer,
    dstByteOffset: number,
    byteLength: number,
  ): void {
    requireCopy(src, srcByteOffset, dst, dstByteOffset, byteLength);
    const [from, to] = [this.address(src) + srcByteOffset, this.address(dst) + dstByteOffset];
    this.#enter();
    if (byteLength === 0) return;
    const { calls, stream } = this.#context;
    this.#context.check(calls.cuMemcpyDtoDAsync_v2(to, from, byteLength, stream), "copy");
  }

  /** Enqueues setting bytes to a value. */
  fill(dst: DeviceBuffer, value: number, byteOffset: number = 0, byteLength?: number): void {
    const length = byteLength ?? dst.byteLength - byteOffset;
    requireCounts("fill", { byteOffset, byteLength: length });
    requireBytes("fill", "dst", dst.byteLength, byteOffset + length);
    const address = this.address(dst);
    this.#enter();
    if (length === 0) return;
    const { calls, stream } = this.#context;
    this.#context.check(calls.cuMemsetD8Async(address + byteOffset, value, length, stream), "fill");
  }

  /**
   * Enqueues a kernel. Errors show here or at the next read.
   *
   * @param args in the order of the kernel's parameters; their types are trusted
   * @throws {KvzBackendError} when the driver refuses the launch, or a buffer cannot be used here
   */
  launch(module: string, kernel: string, shape: LaunchShape, args: readonly KernelArgument[]): void {
    const { grid, block, shared = 0 } = shape;
    this.#enter();
    for (let i = 0; i < args.length; i++) this.#setArgument(i, args[i]);
    if (grid[0] === 0 || grid[1] === 0 || grid[2] === 0) return;
    const found = this.#modules.kernel(module, kernel);
    if (shared > found.shared) this.#modules.allowShared(found, shared);
    const context = this.#context;
    const code = context.calls.cuLaunchKernel(
      found.handle,
      grid[0],
      grid[1],
      grid[2],
      block[0],
      block[1],
      block[2],
      shared,
      context.stream,
      this.#arguments,
      0,
    );
    if (code !== 0) context.check(code, `launch kernel ${kernel} of ${grid.join(" × ")} blocks`);
  }

  /** Calls a library that enqueues work of its own on the stream (`CUstream`), in order with ours. */
  enqueue<T>(call: (stream: number) => T): T {
    this.#enter();
    return call(this.#context.stream);
  }

  /** Milliseconds that the work enqueued by `enqueue` takes on the device. */
  async time(enqueue: () => void): Promise<number> {
    const context = this.#context;
    this.#enter();
    const [begin, end] = [context.createEvent(true), context.createEvent(true)];
    try {
      context.check(context.calls.cuEventRecord(begin, context.stream), "measure time");
      enqueue();
      context.check(context.calls.cuEventRecord(end, context.stream), "measure time");
      await context.wait(end);
      const milliseconds = new Float32Array(1);
      context.check(context.calls.cuEventElapsedTime(milliseconds, begin, end), "measure time");
      return milliseconds[0];
    } finally {
      context.destroyEvent(begin);
      context.destroyEvent(end);
    }
  }

  /** Waits for the work enqueued so far. */
  async synchronize(): Promise<void> {
    this.#context.enter();
    await this.#context.synchronize();
  }

  /** Gives everything back. */
  [Symbol.dispose](): void {
    this.#context.close();
  }

  /** Before work that may change memory: reads that are under way come first. */
  #enter(): void {
    this.#context.enter();
    this.#downloads.enqueueAll();
  }

  #free(address: number): void {
    if (this.#context.open) this.#downloads.enqueueAll();
    this.#context.free(address);
  }

  #setArgument(index: number, argument: KernelArgument): void {
    const at = index * (ARGUMENT_BYTES / 4);
    if (argument === null) {
      this.#words[at] = this.#words[at + 1] = 0;
    } else if (argument instanceof CudaBuffer) {
      this.#setAddress(at, argument.addressFor(this));
    } else if ("u32" in argument) {
      this.#words[at] = argument.u32;
    } else if ("i32" in argument) {
      this.#signed[at] = argument.i32;
    } else if ("f32" in argument) {
      this.#floats[at] = argument.f32;
    } else if ("u64" in argument) {
      this.#setAddress(at, Number(argument.u64));
    } else {
      throw new KvzBackendError("Cannot use a buffer: it belongs to another backend");
    }
  }

  #setAddress(at: number, value: number): void {
    this.#words[at] = value;
    this.#words[at + 1] = Math.floor(value / 4294967296);
  }
}
