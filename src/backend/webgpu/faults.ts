/**
 * What goes wrong on a WebGPU device: errors arrive by error scopes after the call that made them, and a lost device
 * makes every call a silent no-op. Here they are collected, and thrown by the next call or read.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";

/** How long the report of a lost device may come after its effects. */
const LOSS_MILLISECONDS = 100;

const SCOPES = ["validation", "out-of-memory", "internal"] as const;

/** Errors of one device. */
export class Faults {
  readonly #device: GPUDevice;
  readonly #waiting = new Set<Promise<void>>();
  #errors: KvzBackendError[] = [];
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

  /** Runs calls of the WebGPU API; their errors are thrown by a later {@linkcode settle}. */
  scoped<T>(task: string, run: () => T): T {
    this.check();
    for (const scope of SCOPES) this.#device.pushErrorScope(scope);
    try {
      return run();
    } finally {
      for (let i = 0; i < SCOPES.length; i++) this.#collect(task, this.#device.popErrorScope());
    }
  }

  /** @throws {KvzBackendError} when the device is known to be lost. */
  check(): void {
    if (this.#lost !== null) throw this.#lostError();
  }

  /**
   * Waits for the scopes so far.
   *
   * @throws {KvzBackendError} the first error since the last time.
   */
  async settle(): Promise<void> {
    while (this.#waiting.size > 0) await Promise.all(this.#waiting);
    this.check();
    const [first] = this.#errors;
    this.#errors = [];
    if (first !== undefined) throw first;
  }

  /** Waits a moment for the loss that may be behind a failure: runtimes report it after what failed by it. */
  async explain(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const moment = new Promise<void>((resolve) => timer = setTimeout(resolve, LOSS_MILLISECONDS));
    await Promise.race([this.lost.catch(() => {}), moment]);
    clearTimeout(timer);
  }

  #collect(task: string, scope: Promise<GPUError | null>): void {
    const done = scope.then((error) => {
      if (error !== null) {
        this.#errors.push(new KvzBackendError(`Cannot ${task}: WebGPU reports: ${error.message}`, { cause: error }));
      }
    }, () => {
      // Popping fails on a lost device only, which `check` tells.
    }).finally(() => this.#waiting.delete(done));
    this.#waiting.add(done);
  }

  #lostError(): KvzBackendError {
    return new KvzBackendError(`Cannot use the webgpu backend: its device is lost (${this.#lost}); open it again`);
  }
}
