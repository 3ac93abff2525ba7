/**
 * Where a {@linkcode KindFitter} runs: in this thread or in a worker, behind one interface.
 *
 * @module
 */
import { type BackendOptions, createBackend, hostOptions } from "../backend/select.ts";
import { KvzBackendError, KvzFormatError, KvzLimitError, KvzMismatchError, KvzUnsupportedError } from "../errors.ts";
import { startWorker, type WorkerHandle, workerUrl } from "../platform/worker.ts";
import type { Progress } from "./eigen.ts";
import { type FitOptions, type FitterSetup, KindFitter, type KindStatistics, type RowBlock } from "./kind_fitter.ts";
import type { KindProfile } from "./types.ts";

/** The calibration of one kind. Calls of one engine are answered in order. */
export interface KindEngine {
  /** Adds a run of tokens. The block's bytes and rotation belong to the engine from now on. */
  add(block: RowBlock): Promise<void>;
  merge(statistics: KindStatistics, slots: Int32Array): Promise<void>;
  statistics(order: Int32Array): Promise<KindStatistics>;
  fit(options: FitOptions, onProgress: Progress): Promise<KindProfile>;
  /** Ends the engine; calls under way fail with the reason. */
  close(reason?: Error): void;
}

/** Opens a fitter: its statistics are always gathered by WASM kernels, rows come through the backend of the options. */
export async function openFitter(setup: FitterSetup, options: BackendOptions): Promise<KindFitter> {
  return await KindFitter.open(setup, await createBackend(hostOptions(options)), options.build);
}

/** An engine in the calling thread. */
export class InlineEngine implements KindEngine {
  readonly #fitter: KindFitter;

  constructor(fitter: KindFitter) {
    this.#fitter = fitter;
  }

  add(block: RowBlock): Promise<void> {
    return this.#fitter.add(block);
  }

  // deno-lint-ignore require-await
  async merge(statistics: KindStatistics, slots: Int32Array): Promise<void> {
    this.#fitter.merge(statistics, slots);
  }

  // deno-lint-ignore require-await
  async statistics(order: Int32Array): Promise<KindStatistics> {
    return this.#fitter.statistics(order);
  }

  fit(options: FitOptions, onProgress: Progress): Promise<KindProfile> {
    return this.#fitter.fit(options, onProgress);
  }

  close(): void {
    this.#fitter[Symbol.dispose]();
  }
}

/** What a worker is asked. */
export type EngineCall =
  | { readonly type: "open"; readonly setup: FitterSetup; readonly options: BackendOptions }
  | { readonly type: "add"; readonly block: RowBlock }
  | { readonly type: "merge"; readonly statistics: KindStatistics; readonly slots: Int32Array }
  | { readonly type: "statistics"; readonly order: Int32Array }
  | { readonly type: "fit"; readonly options: FitOptions };

/** A call with its number, which the reply carries. */
export type EngineRequest = { readonly id: number; readonly call: EngineCall };

/** What a worker says: any number of progress messages, then one reply. */
export type EngineReply =
  | { readonly id: number; readonly progress: number }
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: { readonly name: string; readonly message: string } };

const ERRORS: Readonly<Record<string, new (message: string) => Error>> = {
  KvzBackendError,
  KvzFormatError,
  KvzLimitError,
  KvzMismatchError,
  KvzUnsupportedError,
  RangeError,
  TypeError,
};

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
  onProgress: Progress;
}

/** An engine in a worker of its own (calibrate_worker.ts). */
export class WorkerEngine implements KindEngine {
  readonly #worker: WorkerHandle;
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;
  #ended: Error | null = null;

  private constructor(worker: WorkerHandle) {
    this.#worker = worker;
    worker.onMessage((message) => this.#receive(message as EngineReply));
    worker.onError((error) => this.#end(new KvzBackendError("A calibration worker failed", { cause: error })));
  }

  /** @param createWorker makes the worker where the library cannot, for instance under a bundler. */
  static async open(
    setup: FitterSetup,
    options: BackendOptions,
    createWorker?: () => WorkerHandle,
  ): Promise<WorkerEngine> {
    const worker = createWorker?.() ?? await startWorker(workerUrl(import.meta.url, "calibrate_worker"));
    const engine = new WorkerEngine(worker);
    try {
      await engine.#call({ type: "open", setup, options });
      return engine;
    } catch (error) {
      engine.close();
      throw error;
    }
  }

  async add(block: RowBlock): Promise<void> {
    await this.#call({ type: "add", block }, [block.bytes.buffer as ArrayBuffer]);
  }

  async merge(statistics: KindStatistics, slots: Int32Array): Promise<void> {
    await this.#call({ type: "merge", statistics, slots });
  }

  async statistics(order: Int32Array): Promise<KindStatistics> {
    return await this.#call({ type: "statistics", order }) as KindStatistics;
  }

  async fit(options: FitOptions, onProgress: Progress): Promise<KindProfile> {
    return await this.#call({ type: "fit", options }, [], onProgress) as KindProfile;
  }

  close(reason: Error = new KvzBackendError("The calibration was closed")): void {
    this.#worker.terminate();
    this.#end(reason);
  }

  #call(call: EngineCall, transfer: ArrayBuffer[] = [], onProgress: Progress = () => {}): Promise<unknown> {
    if (this.#ended) return Promise.reject(this.#ended);
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, onProgress });
      this.#worker.post({ id, call } satisfies EngineRequest, transfer);
    });
  }

  #receive(reply: EngineReply): void {
    const waiting = this.#waiting.get(reply.id);
    if (waiting === undefined) return;
    if ("progress" in reply) return waiting.onProgress(reply.progress);
    this.#waiting.delete(reply.id);
    if ("error" in reply) waiting.reject(new (ERRORS[reply.error.name] ?? Error)(reply.error.message));
    else waiting.resolve(reply.value);
  }

  #end(error: Error): void {
    this.#ended ??= error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
