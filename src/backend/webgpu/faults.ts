/**
 * What goes wrong on a WebGPU device: errors arrive by error scopes after the call that made them, and a lost device
 * makes every call a silent no-op. Here they are collected, and thrown by the next call or the next reads.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";

/** How long the report of a lost device may come after its effects. */
const LOSS_MILLISECONDS = 100;

const SCOPES = ["validation", "out-of-memory", "internal"] as const;
/** As they are popped. */
const POPPED = SCOPES.toReversed();

/** An error, and the number of the call that made it. */
interface Fault {
  readonly call: number;
  readonly error: KvzBackendError;
}

/** A read under way: what it gives depends on all calls before it. */
export interface Reading {
  readonly afterCall: number;
  fault: Fault | null;
}

/** Errors of one device. */
export class Faults {
  readonly #device: GPUDevice;
  readonly #waiting = new Set<Promise<void>>();
  readonly #readings = new Set<Reading>();
  /** The first error that no read has told yet. */
  #untold: Fault | null = null;
  #calls = 0;
  #lost: string | null = null;
  /** Rejects when the device is lost. */
  readonly lost: Promise<never>;

  constructor(device: GPUDevice) {
    this.#device = device;
    this.lost = device.lost.then(({ reason, message }) => {
      this.#lost ??= `${reason ?? "unknown"}${message ? `: ${message}` : ""}`;
      throw this.#lostError();
    });
    // Whoever waits sees it; nobody has to.
    this.lost.catch(() => {});
  }

  /**
   * Runs calls of the WebGPU API; their errors are thrown by the next {@linkcode settle}.
   *
   * @param failed is told of an error, and whether it was for want of memory
   */
  scoped<T>(task: string, run: () => T, failed?: (outOfMemory: boolean) => void): T {
    this.check();
    const call = ++this.#calls;
    for (const scope of SCOPES) this.#device.pushErrorScope(scope);
    try {
      return run();
    } finally {
      for (const scope of POPPED) {
        this.#collect(this.#device.popErrorScope(), (error) => {
          failed?.(scope === "out-of-memory");
          this.#tell({
            call,
            error: new KvzBackendError(`Cannot ${task}: WebGPU reports: ${error.message}`, { cause: error }),
          });
        });
      }
    }
  }

  /** @throws {KvzBackendError} when the device is known to be lost. */
  check(): void {
    if (this.#lost !== null) throw this.#lostError();
  }

  /** Begins a read of what the calls so far give; {@linkcode settle} ends it. */
  beginReading(): Reading {
    const reading = { afterCall: this.#calls, fault: this.#untold };
    this.#readings.add(reading);
    return reading;
  }

  /**
   * Waits for the scopes so far and ends a read.
   *
   * @throws {KvzBackendError} the first error of the calls before it that no earlier read has told: reads that are under way
   * together all tell it, since what they read may be wrong.
   */
  async settle(reading: Reading): Promise<void> {
    try {
      while (this.#waiting.size > 0) await Promise.all(this.#waiting);
      this.check();
    } finally {
      this.#readings.delete(reading);
    }
    const { fault } = reading;
    if (fault === null) return;
    if (this.#untold === fault) this.#untold = null;
    throw fault.error;
  }

  /** Waits a moment for the loss that may be behind a failure: runtimes report it after what failed by it. */
  async explain(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const moment = new Promise<void>((resolve) => timer = setTimeout(resolve, LOSS_MILLISECONDS));
    await Promise.race([this.lost.catch(() => {}), moment]);
    clearTimeout(timer);
  }

  #collect(scope: Promise<GPUError | null>, failed: (error: GPUError) => void): void {
    const done = scope.then((error) => {
      if (error !== null) failed(error);
    }, () => {
      // Popping fails on a lost device only, which `check` tells.
    }).finally(() => this.#waiting.delete(done));
    this.#waiting.add(done);
  }

  #tell(fault: Fault): void {
    let told = false;
    for (const reading of this.#readings) {
      if (reading.afterCall < fault.call) continue;
      reading.fault ??= fault;
      told = true;
    }
    if (!told) this.#untold ??= fault;
  }

  #lostError(): KvzBackendError {
    return new KvzBackendError(`Cannot use the webgpu backend: its device is lost (${this.#lost}); open it again`);
  }
}
