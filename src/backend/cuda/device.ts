/**
 * A CUDA device: memory, copies, and launches of kernels on one stream. What is enqueued runs in order.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import type { DeviceBuffer } from "../backend.ts";
import type { KernelTime } from "../gpu/kernel_time.ts";
import { requireBytes, requireCopy, requireCounts, requireView } from "../check.ts";
import { type KernelArgument, LaunchArguments } from "./arguments.ts";
import { CudaBuffer } from "./buffer.ts";
import { CudaContext } from "./context.ts";
import type { DeviceFacts } from "./driver.ts";
import { type Kernel, loadTexts, Modules, type ModuleTexts } from "./modules.ts";
import { CudaProfiler } from "./profiler.ts";
import { Downloads, Uploads } from "./transfers.ts";

export type { KernelArgument } from "./arguments.ts";
export { CudaBuffer } from "./buffer.ts";

/** How many threads run a kernel. */
export interface LaunchShape {
  /** Blocks. Nothing runs when one is 0. */
  readonly grid: readonly [x: number, y: number, z: number];
  /** Threads of a block. */
  readonly block: readonly [x: number, y: number, z: number];
  /** Bytes of dynamic shared memory. */
  readonly shared?: number;
}

/** How a device is opened. */
export interface CudaDeviceOptions {
  /** PTX of the kernels; default: those of this package. */
  readonly texts?: ModuleTexts;
  /** Whether {@linkcode CudaDevice.profile} tells times of kernels; default false. */
  readonly timeKernels?: boolean;
}

/** An open device. */
export class CudaDevice {
  readonly #context: CudaContext;
  readonly #modules: Modules;
  readonly #uploads: Uploads;
  readonly #downloads: Downloads;
  readonly #arguments: LaunchArguments;
  readonly #release = (address: number) => this.#free(address);

  readonly #profiler: CudaProfiler | null;

  private constructor(context: CudaContext, { texts, timeKernels }: Required<CudaDeviceOptions>) {
    this.#context = context;
    this.#profiler = timeKernels ? new CudaProfiler(context) : null;
    this.#modules = new Modules(context, texts);
    this.#uploads = new Uploads(context);
    this.#downloads = new Downloads(context);
    this.#arguments = new LaunchArguments(context, this);
  }

  /**
   * Opens a device.
   *
   * @param ordinal number of the device, from 0 on
   * @throws {KvzBackendError} when driver or device are absent, too old, or forbidden
   */
  static async open(ordinal: number = 0, options: CudaDeviceOptions = {}): Promise<CudaDevice> {
    const context = await CudaContext.open(ordinal);
    try {
      const { texts = await loadTexts(), timeKernels = false } = options;
      return new CudaDevice(context, { texts, timeKernels });
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
    this.#arguments.set(args);
    if (grid[0] === 0 || grid[1] === 0 || grid[2] === 0) return;
    const found = this.#modules.kernel(module, kernel);
    if (shared > found.shared) this.#modules.allowShared(found, shared);
    if (this.#profiler === null) this.#launch(found, kernel, grid, block, shared);
    else this.#profiler.around(`${module}.${kernel}`, () => this.#launch(found, kernel, grid, block, shared));
  }

  /**
   * Times of the kernels since the last call, longest first.
   *
   * @throws {KvzBackendError} when the device was opened without `timeKernels`.
   */
  async profile(): Promise<KernelTime[]> {
    this.#context.enter();
    if (this.#profiler === null) {
      throw new KvzBackendError('Cannot profile: the backend was opened without "timeKernels"');
    }
    return await this.#profiler.take();
  }

  /** Calls a library that enqueues work of its own on the stream (`CUstream`), in order with ours. */
  enqueue<T>(call: (stream: number) => T, name: string = "library"): T {
    this.#enter();
    if (this.#profiler === null) return call(this.#context.stream);
    return this.#profiler.around(name, () => call(this.#context.stream));
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
      context.enter();
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

  #launch(
    { handle }: Kernel,
    name: string,
    grid: LaunchShape["grid"],
    block: LaunchShape["block"],
    shared: number,
  ): void {
    const context = this.#context;
    const code = context.calls.cuLaunchKernel(
      handle,
      grid[0],
      grid[1],
      grid[2],
      block[0],
      block[1],
      block[2],
      shared,
      context.stream,
      this.#arguments.address,
      0,
    );
    if (code !== 0) context.check(code, `launch kernel ${name} of ${grid.join(" × ")} blocks`);
  }

  #free(address: number): void {
    if (this.#context.open) this.#context.unlessLost(() => this.#downloads.enqueueAll());
    this.#context.free(address);
  }
}
