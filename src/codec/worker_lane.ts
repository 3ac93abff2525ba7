/**
 * A lane in a worker. Loaded when there are several threads.
 *
 * @module
 */
import type { BackendOptions } from "../backend/select.ts";
import { KvzBackendError, KvzFormatError, KvzLimitError, KvzMismatchError, KvzUnsupportedError } from "../errors.ts";
import { startWorker, type WorkerHandle, workerUrl } from "../platform/worker.ts";
import type { Job, Setup } from "../recipes/recipe.ts";
import { detach } from "./detach.ts";
import { type JobResult, type Lane, type LaneInfo, serves } from "./lane.ts";

/** Messages to a lane's worker; every one is answered by a {@linkcode LaneReply} with its id. */
export type LaneRequest =
  & { readonly id: number }
  & (
    | { readonly type: "open"; readonly options: BackendOptions }
    | { readonly type: "load"; readonly setup: Setup }
    | { readonly type: "run"; readonly job: Job }
  );

/** The answer of a lane's worker. */
export type LaneReply =
  & { readonly id: number }
  & (
    | { readonly ok: true; readonly value: unknown }
    | { readonly ok: false; readonly name: string; readonly message: string }
  );

const ERRORS: Record<string, new (message: string) => Error> = {
  KvzBackendError,
  KvzFormatError,
  KvzLimitError,
  KvzMismatchError,
  KvzUnsupportedError,
  RangeError,
  TypeError,
};

/** A lane in a worker of its own. */
export class WorkerLane implements Lane {
  readonly info: LaneInfo;
  readonly jobs = 1;
  readonly #calls: WorkerCalls;
  #key = "";

  private constructor(calls: WorkerCalls, info: LaneInfo) {
    this.#calls = calls;
    this.info = info;
  }

  /** @param createWorker makes the worker where the library cannot, for instance under a bundler. */
  static async open(options: BackendOptions, createWorker?: () => WorkerHandle): Promise<WorkerLane> {
    const worker = createWorker?.() ?? await startWorker(workerUrl(import.meta.url, "lane_worker"));
    const calls = new WorkerCalls(worker);
    try {
      return new WorkerLane(calls, await calls.call({ type: "open", options }) as LaneInfo);
    } catch (error) {
      calls.close();
      throw error;
    }
  }

  async load(setup: Setup): Promise<void> {
    if (serves(this.#key, setup)) return;
    this.#key = "";
    const transfer: ArrayBuffer[] = [];
    await this.#calls.call({ type: "load", setup: detach(setup, transfer) }, transfer);
    this.#key = setup.key;
  }

  async run(job: Job): Promise<JobResult> {
    const transfer: ArrayBuffer[] = [];
    if (job.op !== "encode") {
      return await this.#calls.call({ type: "run", job: detach(job, transfer) }, transfer) as JobResult;
    }
    // A chunk's source bytes are ours alone (CacheSource.read) and go as they are; all else is copied.
    const { data, ...rest } = job;
    const own = data.map((bytes) => bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes));
    transfer.push(...own.map(({ buffer }) => buffer as ArrayBuffer));
    const message = { ...detach(rest, transfer), data: own };
    return await this.#calls.call({ type: "run", job: message }, transfer) as JobResult;
  }

  close(): void {
    this.#calls.close();
  }
}

type Call = LaneRequest extends infer R ? R extends { id: number } ? Omit<R, "id"> : never : never;

/** Requests under way at a worker. */
class WorkerCalls {
  readonly #worker: WorkerHandle;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #next = 0;
  #failed: Error | null = null;

  constructor(worker: WorkerHandle) {
    this.#worker = worker;
    worker.onMessage((message) => {
      const reply = message as LaneReply;
      const call = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      if (reply.ok) call?.resolve(reply.value);
      else call?.reject(new (ERRORS[reply.name] ?? Error)(reply.message));
    });
    worker.onError((error) => this.#fail(new KvzBackendError(error.message, { cause: error })));
  }

  call(request: Call, transfer: ArrayBuffer[] = []): Promise<unknown> {
    if (this.#failed) return Promise.reject(this.#failed);
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.post({ ...request, id }, transfer);
    });
  }

  close(): void {
    this.#worker.terminate();
    this.#fail(new KvzBackendError("The codec was closed"));
  }

  #fail(error: Error): void {
    this.#failed ??= error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
