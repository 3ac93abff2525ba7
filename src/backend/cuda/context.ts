/**
 * A device's primary context with one stream: everything that is given back when it closes, and its state after errors.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import {
  adviceAfter,
  CudaDriver,
  type DeviceFacts,
  errorName,
  isSticky,
  NOT_READY,
  NOT_SUPPORTED,
  OUT_OF_MEMORY,
  SUCCESS,
} from "./driver.ts";
import type { Calls } from "./symbols.ts";

/** CU_STREAM_NON_BLOCKING: no order with the legacy default stream. */
const NON_BLOCKING = 1;
/** CU_MEMPOOL_ATTR_RELEASE_THRESHOLD. */
const RELEASE_THRESHOLD = 4;
/** A pool keeps at most this part of the device's memory while nobody uses it: an eighth. */
const KEPT_SHARE = 8;
/** Milliseconds of asking for an event without a pause, and of asking once a turn of the event loop. */
const SPIN = 0.05;
const TURNS = 4;

/** One turn of the event loop. */
function turn(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    if (milliseconds === 0 && typeof setImmediate === "function") setImmediate(resolve);
    else setTimeout(resolve, milliseconds);
  });
}

/** An open device. */
export class CudaContext {
  readonly driver: CudaDriver;
  readonly calls: Calls;
  readonly facts: DeviceFacts;
  /** CUstream. */
  readonly stream: number;
  readonly #device: number;
  readonly #context: number;
  readonly #out = new BigUint64Array(2);
  /** CUmemoryPool, 0 where the device has none. */
  #pool = 0;
  /** What close() gives back. */
  readonly #memory = new Map<number, number>();
  #bytesInUse = 0;
  readonly #hostBlocks: number[] = [];
  readonly #events: number[] = [];
  readonly #modules: number[] = [];
  #state: "open" | "lost" | "closed" = "open";
  #lostBy = 0;

  private constructor(driver: CudaDriver, facts: DeviceFacts) {
    this.driver = driver;
    this.calls = driver.calls;
    this.facts = facts;
    const { calls } = driver;
    const handle = new Int32Array(1);
    driver.require(calls.cuDeviceGet(handle, facts.ordinal), `open device ${facts.ordinal}`);
    this.#device = handle[0];
    driver.require(calls.cuDevicePrimaryCtxRetain(this.#out, this.#device), `open device ${facts.ordinal}`);
    this.#context = Number(this.#out[0]);
    let stream = 0;
    try {
      driver.require(calls.cuCtxSetCurrent(this.#context), `open device ${facts.ordinal}`);
      driver.require(calls.cuStreamCreate(this.#out, NON_BLOCKING), "make a stream");
      stream = Number(this.#out[0]);
      if (facts.memoryPools) this.#pool = this.#createPool();
    } catch (error) {
      if (stream !== 0) calls.cuStreamDestroy_v2(stream);
      calls.cuDevicePrimaryCtxRelease_v2(this.#device);
      throw error;
    }
    this.stream = stream;
  }

  /**
   * Opens a device by its number.
   *
   * @throws {KvzBackendError} when driver or device are absent or too old.
   */
  static async open(ordinal: number): Promise<CudaContext> {
    const driver = await CudaDriver.open();
    return new CudaContext(driver, driver.facts(ordinal));
  }

  /** Bytes of device memory in use. */
  get bytesInUse(): number {
    return this.#bytesInUse;
  }

  /** Whether it can be used. */
  get open(): boolean {
    return this.#state === "open";
  }

  /**
   * Makes the context current, before any other call: other users of CUDA in the process may have changed it.
   *
   * @throws {KvzBackendError} when the device is closed or lost.
   */
  enter(): void {
    if (this.#state === "closed") throw new KvzBackendError("Cannot use the cuda backend: it was disposed");
    if (this.#state === "lost") throw this.#lost();
    this.check(this.calls.cuCtxSetCurrent(this.#context), "enter the context");
  }

  /** @throws {KvzBackendError} when a call failed; the device is lost after errors that end its context. */
  check(code: number, what: string): void {
    if (code === SUCCESS) return;
    if (!isSticky(code)) throw new KvzBackendError(`Cannot ${what} on the cuda backend: ${errorName(code)}`);
    if (this.#state === "open") {
      this.#state = "lost";
      this.#lostBy = code;
    }
    throw this.#lost();
  }

  /**
   * Device memory.
   *
   * @throws {KvzBackendError} when there is not enough.
   */
  alloc(byteLength: number): number {
    // The driver gives no empty blocks.
    const bytes = Math.max(byteLength, 16);
    const code = this.#pool !== 0
      ? this.calls.cuMemAllocFromPoolAsync(this.#out, bytes, this.#pool, this.stream)
      : this.calls.cuMemAlloc_v2(this.#out, bytes);
    if (code === OUT_OF_MEMORY) throw new KvzBackendError(this.#memoryMessage(byteLength));
    this.check(code, "allocate");
    const address = Number(this.#out[0]);
    this.#memory.set(address, byteLength);
    this.#bytesInUse += byteLength;
    return address;
  }

  /**
   * Gives device memory back, after the work enqueued so far. That the device is lost, and all memory with it, is not said
   * here but by the next call.
   *
   * @throws {KvzBackendError} when the driver does not take it.
   */
  free(address: number): void {
    this.#bytesInUse -= this.#memory.get(address) ?? 0;
    if (!this.#memory.delete(address) || this.#state !== "open") return;
    this.unlessLost(() => {
      this.enter();
      this.check(this.#release(address), "free");
    });
  }

  /** Runs calls whose results nobody needs once the device is lost. */
  unlessLost(run: () => void): void {
    try {
      run();
    } catch (error) {
      if (this.#state === "open") throw error;
    }
  }

  /** Pinned host memory. */
  allocHost(byteLength: number): number {
    this.check(this.calls.cuMemHostAlloc(this.#out, byteLength, 0), `allocate ${byteLength} bytes of pinned memory`);
    const address = Number(this.#out[0]);
    this.#hostBlocks.push(address);
    return address;
  }

  /** Gives pinned memory back before the end. */
  freeHost(address: number): void {
    this.#hostBlocks.splice(this.#hostBlocks.indexOf(address), 1);
    this.check(this.calls.cuMemFreeHost(address), "free pinned memory");
  }

  /** Memory of `allocHost`. */
  view(address: number, byteLength: number): ArrayBuffer {
    return this.driver.library.view(address, byteLength);
  }

  /** An event, which measures time unless it is told not to. */
  createEvent(timing: boolean = false): number {
    this.check(this.calls.cuEventCreate(this.#out, timing ? 0 : 2), "make an event");
    const event = Number(this.#out[0]);
    this.#events.push(event);
    return event;
  }

  /** Records a module, to be unloaded in the end. */
  keepModule(module: number): void {
    this.#modules.push(module);
  }

  /**
   * Resolves when the work before an event is done. Short waits are spun through, long ones leave the event loop free.
   *
   * @throws {KvzBackendError} when the work failed, or the device was closed meanwhile.
   */
  async wait(event: number): Promise<void> {
    const begin = performance.now();
    for (;;) {
      this.enter();
      const code = this.calls.cuEventQuery(event);
      if (code !== NOT_READY) return this.check(code, "compute");
      const waited = performance.now() - begin;
      if (waited >= SPIN) await turn(waited < TURNS ? 0 : 1);
    }
  }

  /** Resolves when all work enqueued so far is done. */
  async synchronize(): Promise<void> {
    const event = this.createEvent();
    try {
      this.check(this.calls.cuEventRecord(event, this.stream), "synchronize");
      await this.wait(event);
    } finally {
      this.destroyEvent(event);
    }
  }

  /** Gives an event back. */
  destroyEvent(event: number): void {
    const at = this.#events.indexOf(event);
    if (at < 0) return;
    this.#events.splice(at, 1);
    if (this.#state === "open") this.calls.cuEventDestroy_v2(event);
  }

  /** Gives everything back. Waits for the work enqueued so far, unless the device is lost. */
  close(): void {
    if (this.#state === "closed") return;
    const { calls } = this;
    const wasOpen = this.#state === "open";
    this.#state = "closed";
    calls.cuCtxSetCurrent(this.#context);
    // After an error that ended the context the driver gives nothing back but the context itself.
    if (wasOpen && calls.cuStreamSynchronize(this.stream) === SUCCESS) {
      for (const address of this.#memory.keys()) this.#release(address);
      calls.cuStreamSynchronize(this.stream);
      if (this.#pool !== 0) calls.cuMemPoolDestroy(this.#pool);
      for (const block of this.#hostBlocks) calls.cuMemFreeHost(block);
      for (const event of this.#events) calls.cuEventDestroy_v2(event);
      for (const module of this.#modules) calls.cuModuleUnload(module);
      calls.cuStreamDestroy_v2(this.stream);
    }
    this.#memory.clear();
    this.#bytesInUse = 0;
    calls.cuCtxSetCurrent(0);
    calls.cuDevicePrimaryCtxRelease_v2(this.#device);
  }

  #release(address: number): number {
    return this.#pool !== 0 ? this.calls.cuMemFreeAsync(address, this.stream) : this.calls.cuMemFree_v2(address);
  }

  /**
   * A pool of our own, which keeps some of what is freed for the next allocation: others may need the device too. 0 where
   * the driver has none after all, as under some virtual machines: then memory comes from the device itself.
   */
  #createPool(): number {
    const { calls } = this;
    // CUmemPoolProps: allocType PINNED (1), handleTypes 0, location { DEVICE (1), ordinal }, the rest 0.
    const props = new Int32Array(32);
    props.set([1, 0, 1, this.facts.ordinal]);
    const made = calls.cuMemPoolCreate(this.#out, props);
    if (made === NOT_SUPPORTED) return 0;
    this.check(made, "make a memory pool");
    const pool = Number(this.#out[0]);
    const threshold = BigUint64Array.of(BigInt(Math.floor(this.facts.totalBytes / KEPT_SHARE)));
    const set = calls.cuMemPoolSetAttribute(pool, RELEASE_THRESHOLD, threshold);
    if (set !== SUCCESS) calls.cuMemPoolDestroy(pool);
    this.check(set, "make a memory pool");
    return pool;
  }

  #memoryMessage(byteLength: number): string {
    const total = new BigUint64Array(1);
    const known = this.calls.cuMemGetInfo_v2(this.#out, total) === SUCCESS;
    const free = known ? `${this.#out[0]} of its ${total[0]} bytes are free` : "it is out of memory";
    return `Cannot allocate ${byteLength} bytes on cuda device ${this.facts.ordinal}: ${free}`;
  }

  #lost(): KvzBackendError {
    return new KvzBackendError(
      `Cannot use the cuda backend: the device was lost by ${errorName(this.#lostBy)}; ${adviceAfter(this.#lostBy)}`,
    );
  }
}
